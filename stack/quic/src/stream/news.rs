//! What the application is to be told.

use std::collections::VecDeque;

use s2n_quic_core::stream::StreamId;

use super::{
    Stream, Streams,
    recv::RecvState,
    registry::TYPES,
    send::{GivenUp, SendState},
    sets::members,
};
use crate::event::Event;

members! {
    /// News of a stream, in the order in which they are told.
    News {
        /// More can be read, or the end.
        Readable,
        /// The peer reset it.
        Reset,
        /// The peer does not want it.
        Stopped,
        /// Credit for the writer.
        Released,
        /// All is acknowledged, the end included.
        Finished,
    }
}

/// Streams with news. Each stands here once, however much happens before it is polled, so that a peer can't make the
/// queue grow beyond its streams.
#[derive(Debug, Default)]
pub(super) struct NewsQueue {
    streams: VecDeque<StreamId>,
}

impl NewsQueue {
    /// Adds news of a stream.
    #[inline]
    pub(super) fn add(&mut self, id: StreamId, stream: &mut Stream, news: News) {
        if stream.news.is_empty() {
            self.streams.push_back(id);
        }
        stream.news.insert(news);
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.streams = VecDeque::new();
    }

    pub(super) fn shrink(&mut self) {
        self.streams.shrink_to_fit();
    }
}

impl Streams {
    /// What happened, once each. A stream that is over is freed when its last news was taken.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        if self.registry.is_closed() {
            return None;
        }
        self.poll_opened().or_else(|| self.poll_available()).or_else(|| self.poll_stream())
    }

    /// Streams the peer opened, in order and before all else about them.
    fn poll_opened(&mut self) -> Option<Event> {
        TYPES.into_iter().find_map(|ty| Some(Event::StreamOpened(self.registry.take_opened(ty)?)))
    }

    fn poll_available(&mut self) -> Option<Event> {
        TYPES.into_iter().find_map(|ty| {
            let ours = self.registry.ours(ty);
            if ours.told_limit >= ours.limit {
                return None;
            }
            ours.told_limit = ours.limit;
            Some(Event::StreamsAvailable { ty, limit: ours.limit })
        })
    }

    fn poll_stream(&mut self) -> Option<Event> {
        while let Some(&id) = self.news.streams.front() {
            let Some(stream) = self.registry.get_mut(id) else {
                self.news.streams.pop_front();
                continue;
            };
            let news = stream.news.first();
            if let Some(news) = news {
                stream.news.remove(news);
            }
            let event = news.and_then(|news| event_of(id, stream, news));
            if stream.news.is_empty() {
                self.news.streams.pop_front();
                self.free_if_over(id);
            }
            if event.is_some() {
                return event;
            }
        }
        None
    }
}

/// The event for one piece of news, if it still holds.
fn event_of(id: StreamId, stream: &mut Stream, news: News) -> Option<Event> {
    match news {
        News::Readable => match stream.recv.as_ref()?.state {
            RecvState::Open | RecvState::SizeKnown | RecvState::DataReceived | RecvState::Cut { .. } => {
                Some(Event::StreamReadable(id))
            }
            RecvState::DataRead
            | RecvState::ResetReceived(_)
            | RecvState::ResetRead(_)
            | RecvState::Stopped(_)
            | RecvState::StoppedEnded(_) => None,
        },
        News::Reset => {
            let (code, partial) = stream.recv.as_mut()?.take_reset()?;
            Some(Event::StreamReset { id, code, partial })
        }
        News::Stopped => match stream.send.as_ref()?.state {
            SendState::ResetSent(GivenUp::ByPeer(code)) | SendState::ResetReceived(GivenUp::ByPeer(code)) => {
                Some(Event::StreamStopped { id, code })
            }
            SendState::ResetSent(GivenUp::ByUs(_))
            | SendState::ResetReceived(GivenUp::ByUs(_))
            | SendState::Open
            | SendState::Finishing(_)
            | SendState::Cut(_)
            | SendState::DataReceived => None,
        },
        News::Released => {
            let bytes = std::mem::take(&mut stream.send.as_mut()?.released);
            (bytes > 0).then_some(Event::SendReleased { id, bytes })
        }
        News::Finished => Some(Event::StreamFinished(id)),
    }
}

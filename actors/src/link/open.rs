//! The streams of a connection whose halves may still change, and what can be seen of them without asking anybody.

use std::sync::Arc;

use ahash::{HashMap, HashMapExt};
use parking_lot::Mutex;
use wirepath_quic::StreamId;

use super::StreamLink;

/// Streams looked at for one answer at most: a connection that has more waits no longer for its lock than for these.
const LOOKED_AT: usize = 4096;

/// The open streams of a connection. Its actor writes them, the dashboard looks.
#[derive(Debug)]
pub(crate) struct OpenStreams(Mutex<HashMap<StreamId, OpenStream>>);

/// One of them.
#[derive(Debug)]
pub(crate) struct OpenStream {
    pub(crate) link: Arc<StreamLink>,
    pub(crate) receiving: bool,
    pub(crate) sending: bool,
    /// Higher ones send first.
    pub(crate) priority: i8,
}

/// What is to be seen of an open stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamFigures {
    /// Its ID.
    pub id: StreamId,
    /// More may come from the peer.
    pub receiving: bool,
    /// More may go there.
    pub sending: bool,
    /// Streams of a higher one send first.
    pub priority: i8,
    /// Bytes the application handed over to be sent.
    pub written: u64,
    /// Of these, acknowledged.
    pub acked: u64,
    /// Of these, sent at least once, as of the last acknowledgement.
    pub sent: u64,
    /// The peer's limit of these then; `None` before the first one.
    pub limit: Option<u64>,
    /// Bytes received, in order.
    pub received: u64,
    /// Of these, not read by the application yet.
    pub unread: u64,
}

impl OpenStreams {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    /// Gives memory back that only traffic needs.
    pub(crate) fn rest(&self) {
        self.0.lock().shrink_to_fit();
    }

    pub(crate) fn insert(&self, stream: OpenStream) {
        self.0.lock().insert(stream.link.id(), stream);
    }

    /// The shared half of an open stream.
    pub(crate) fn get(&self, id: StreamId) -> Option<Arc<StreamLink>> {
        self.0.lock().get(&id).map(|stream| stream.link.clone())
    }

    /// Changes an open stream; gone it is once both of its halves are over.
    pub(crate) fn change(&self, id: StreamId, change: impl FnOnce(&mut OpenStream)) {
        let mut streams = self.0.lock();
        let Some(stream) = streams.get_mut(&id) else { return };
        change(stream);
        if !stream.receiving && !stream.sending {
            streams.remove(&id);
        }
    }

    /// All of them, which are open no more.
    pub(crate) fn take(&self) -> impl Iterator<Item = OpenStream> + use<> {
        std::mem::take(&mut *self.0.lock()).into_values()
    }

    /// How many there are, and those that carried most, at most `most` of them.
    pub(crate) fn figures(&self, most: usize) -> (usize, Vec<StreamFigures>) {
        let streams = self.0.lock();
        let count = streams.len();
        let mut figures: Vec<_> = streams.values().take(LOOKED_AT).map(OpenStream::figures).collect();
        drop(streams);
        figures.sort_by_key(|it| (std::cmp::Reverse(it.written.max(it.received)), it.id));
        figures.truncate(most);
        (count, figures)
    }
}

impl OpenStream {
    fn figures(&self) -> StreamFigures {
        let Self { receiving, sending, priority, .. } = *self;
        let figures = self.link.figures();
        StreamFigures { receiving, sending, priority, ..figures }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use wirepath_quic::{VarInt, stream::SendProgress};

    use super::*;

    fn open(streams: &OpenStreams, id: u32) -> Arc<StreamLink> {
        let link = Arc::new(StreamLink::new(StreamId::from_varint(VarInt::from_u32(id)), 100, false));
        streams.insert(OpenStream { link: link.clone(), receiving: true, sending: true, priority: 0 });
        link
    }

    #[test]
    fn figures_tell_how_far_each_half_has_come_and_the_busiest_are_told_first() {
        let streams = OpenStreams::new();
        let (small, large) = (open(&streams, 0), open(&streams, 4));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(large.poll_reserve(&mut cx, 60).is_ready());
        large.on_released(20, Some(SendProgress { sent: 50, limit: 50 }));
        small.push(Bytes::from_static(b"unread"));
        streams.change(small.id(), |it| it.priority = 3);
        let (count, figures) = streams.figures(100);
        let [first, second] = figures[..] else { panic!("{figures:?}") };
        assert_eq!((count, first.id, second.id), (2, large.id(), small.id()));
        assert_eq!((first.written, first.acked, first.sent, first.limit), (60, 20, 50, Some(50)));
        assert_eq!((second.received, second.unread, second.priority), (6, 6, 3));
        assert!(small.poll_read(&mut cx).is_ready());
        assert_eq!(streams.figures(1).1.len(), 1);
        assert_eq!(streams.figures(2).1[1].unread, 0);
    }

    #[test]
    fn a_stream_is_open_until_both_halves_are_over() {
        let streams = OpenStreams::new();
        let id = open(&streams, 0).id();
        streams.change(id, |it| it.sending = false);
        assert!(streams.get(id).is_some());
        streams.change(id, |it| it.receiving = false);
        assert!(streams.get(id).is_none());
        open(&streams, 4);
        assert_eq!((streams.take().count(), streams.figures(9).0), (1, 0));
    }
}

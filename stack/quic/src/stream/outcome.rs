//! What became of frames that were sent.

use super::{
    Streams,
    news::News,
    outbound::{ConnectionControl, Control},
    send::SendState,
};
use crate::frame::SentFrame;

impl Streams {
    /// A frame arrived at the peer. Records of other modules' frames are ignored.
    pub(crate) fn on_frame_acked(&mut self, frame: &SentFrame) {
        match *frame {
            SentFrame::Stream { id, offset, len, fin } => {
                let Some(stream) = self.registry.get_mut(id) else { return };
                let Some(send) = &mut stream.send else { return };
                let acked = send.on_acked(offset, u64::from(len), fin);
                send.released += acked.released;
                if acked.released > 0 {
                    self.news.add(id, stream, News::Released);
                }
                if acked.finished {
                    self.news.add(id, stream, News::Finished);
                }
            }
            SentFrame::ResetStream { id } => {
                if let Some(send) = self.registry.get_mut(id).and_then(|stream| stream.send.as_mut()) {
                    send.on_reset_acked();
                    self.free_if_over(id);
                }
            }
            SentFrame::ResetStreamAt { id, reliable } => {
                if let Some(send) = self.registry.get_mut(id).and_then(|stream| stream.send.as_mut()) {
                    send.on_cut_acked(reliable);
                    self.free_if_over(id);
                }
            }
            _ => {}
        }
    }

    /// A frame was lost, or is to be sent again as a probe. What it said is sent again as far as it still holds.
    pub(crate) fn on_frame_lost(&mut self, frame: &SentFrame) {
        match *frame {
            SentFrame::Stream { id, offset, len, fin } => {
                let allowed = self.registry.is_allowed(id);
                let Some(stream) = self.registry.get_mut(id) else { return };
                let Some(send) = &mut stream.send else { return };
                send.on_lost(offset, u64::from(len), fin);
                self.outbound.plan(id, stream, allowed);
            }
            SentFrame::ResetStream { id } => {
                let allowed = self.registry.is_allowed(id);
                let Some(stream) = self.registry.get_mut(id) else { return };
                if stream.send.as_ref().is_some_and(|send| matches!(send.state, SendState::ResetSent(_))) {
                    self.outbound.control(id, stream, Control::Reset, allowed);
                }
            }
            SentFrame::ResetStreamAt { id, reliable } => {
                let allowed = self.registry.is_allowed(id);
                let Some(stream) = self.registry.get_mut(id) else { return };
                if stream.send.as_mut().is_some_and(|send| send.on_cut_lost(reliable)) {
                    self.outbound.plan(id, stream, allowed);
                }
            }
            SentFrame::StopSending { id } => {
                let allowed = self.registry.is_allowed(id);
                let Some(stream) = self.registry.get_mut(id) else { return };
                if stream.recv.as_ref().is_some_and(|recv| recv.wants_stop().is_some()) {
                    self.outbound.control(id, stream, Control::Stop, allowed);
                }
            }
            // Of limits only the highest sent matters: a later one is on its way, or was lost too.
            SentFrame::MaxData { limit } if limit == self.inbound.window.limit() => {
                self.outbound.connection.insert(ConnectionControl::MaxData);
            }
            SentFrame::MaxStreamData { id, limit } => {
                let allowed = self.registry.is_allowed(id);
                let Some(stream) = self.registry.get_mut(id) else { return };
                if stream
                    .recv
                    .as_ref()
                    .is_some_and(|recv| recv.wants_credit() && recv.window.limit() == limit)
                {
                    self.outbound.control(id, stream, Control::MaxData, allowed);
                }
            }
            SentFrame::MaxStreams { ty, limit } if limit == self.registry.theirs(ty).limit => {
                self.outbound.connection.insert(ConnectionControl::max_streams(ty));
            }
            // Of what blocks us, too; and only while it does.
            SentFrame::DataBlocked { limit }
                if limit == self.outbound.credit.limit && self.outbound.is_blocked() =>
            {
                self.outbound.connection.insert(ConnectionControl::DataBlocked);
            }
            SentFrame::StreamDataBlocked { id, limit } => {
                let allowed = self.registry.is_allowed(id);
                let Some(stream) = self.registry.get_mut(id) else { return };
                if stream.send.as_ref().is_some_and(|send| send.is_blocked() && send.max_data == limit) {
                    self.outbound.control(id, stream, Control::Blocked, allowed);
                }
            }
            SentFrame::StreamsBlocked { ty, limit } if limit == self.registry.ours(ty).limit => {
                self.outbound.connection.insert(ConnectionControl::streams_blocked(ty));
            }
            _ => {}
        }
    }
}

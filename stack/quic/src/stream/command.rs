//! What the application may do with streams.

use bytes::Bytes;
use s2n_quic_core::{
    stream::{StreamId, StreamType},
    varint::VarInt,
};

use super::{
    ReadOutcome, StreamError, Streams,
    news::News,
    outbound::{ConnectionControl, Control, Queue},
    schedule::Kind,
    send::GivenUp,
};

impl Streams {
    /// Opens a stream; `None` if the peer allows no more of this type for now, of which it is told (RFC 9000 §19.14).
    pub(crate) fn open(&mut self, ty: StreamType) -> Option<StreamId> {
        if self.registry.is_closed() {
            return None;
        }
        let opened = self.registry.open(ty);
        if opened.is_none() {
            let ours = self.registry.ours(ty);
            if ours.blocked_at != Some(ours.limit) {
                ours.blocked_at = Some(ours.limit);
                self.outbound.blocked.open += 1;
                self.outbound.connection.insert(ConnectionControl::streams_blocked(ty));
            }
        }
        opened
    }

    /// Queues data to be sent. It is kept, uncopied, until acknowledged; how much a writer may queue is the caller's to
    /// bound, by [`Event::SendReleased`](crate::Event::SendReleased).
    pub(crate) fn write(&mut self, id: StreamId, data: Bytes) -> Result<(), StreamError> {
        let allowed = self.registry.is_allowed(id);
        let stream = self.registry.commanded(id)?;
        stream.send.as_mut().ok_or(StreamError::Direction)?.write(data)?;
        self.plan(id, allowed);
        Ok(())
    }

    /// Ends the sending side after what was written.
    pub(crate) fn finish(&mut self, id: StreamId) -> Result<(), StreamError> {
        let allowed = self.registry.is_allowed(id);
        let stream = self.registry.commanded(id)?;
        stream.send.as_mut().ok_or(StreamError::Direction)?.finish()?;
        self.plan(id, allowed);
        Ok(())
    }

    /// Gives the sending side up (RESET_STREAM): what was not acknowledged is dropped. No event but
    /// [`Event::SendReleased`](crate::Event::SendReleased) follows.
    pub(crate) fn reset(&mut self, id: StreamId, code: VarInt) -> Result<(), StreamError> {
        let allowed = self.registry.is_allowed(id);
        let stream = self.registry.commanded(id)?;
        let send = stream.send.as_mut().ok_or(StreamError::Direction)?;
        if let Some(dropped) = send.give_up(GivenUp::ByUs(code)) {
            send.released += dropped;
            let Some(stream) = self.registry.get_mut(id) else { return Ok(()) };
            self.news.add(id, stream, News::Released);
            self.outbound.control(id, stream, Control::Reset, allowed);
        }
        Ok(())
    }

    /// Gives the sending side up but for its first bytes (RESET_STREAM_AT).
    pub(crate) fn reset_at(&mut self, id: StreamId, code: VarInt, reliable: u64) -> Result<(), StreamError> {
        let allowed = self.registry.is_allowed(id);
        let stream = self.registry.commanded(id)?;
        let send = stream.send.as_mut().ok_or(StreamError::Direction)?;
        if let Some(dropped) = send.cut(code, reliable) {
            send.released += dropped;
            self.news.add(id, stream, News::Released);
            self.outbound.plan(id, stream, allowed);
        }
        Ok(())
    }

    /// Tells the peer that the stream's data is not wanted any more (STOP_SENDING). What was not read is dropped; no
    /// further event about the receiving side follows.
    pub(crate) fn stop_sending(&mut self, id: StreamId, code: VarInt) -> Result<(), StreamError> {
        let allowed = self.registry.is_allowed(id);
        let stream = self.registry.commanded(id)?;
        let recv = stream.recv.as_mut().ok_or(StreamError::Direction)?;
        recv.stop(code, &mut self.inbound)?;
        if recv.wants_stop().is_some() {
            self.outbound.control(id, stream, Control::Stop, allowed);
        }
        if self.inbound.is_update_due() {
            self.outbound.connection.insert(ConnectionControl::MaxData);
        }
        self.free_if_over(id);
        Ok(())
    }

    /// The next bytes of a stream. They count against the windows until [`release`](Self::release)d.
    pub(crate) fn read(&mut self, id: StreamId) -> Result<ReadOutcome, StreamError> {
        let stream = self.registry.commanded(id)?;
        let recv = stream.recv.as_mut().ok_or(StreamError::Direction)?;
        let outcome = recv.read(&mut self.inbound);
        if outcome == Ok(ReadOutcome::Blocked) && recv.is_reset() {
            // That was the last byte before a reset.
            self.news.add(id, stream, News::Reset);
        } else if recv.is_terminal() {
            self.free_if_over(id);
        }
        outcome
    }

    /// The application is done with `bytes` that it has read: the peer may send as many more. The stream may be over.
    pub(crate) fn release(&mut self, id: StreamId, bytes: u64) {
        // More than was read can't be released.
        let bytes = bytes.min(self.inbound.held);
        self.inbound.held -= bytes;
        self.inbound.window.consume(bytes);
        if self.inbound.is_update_due() {
            self.outbound.connection.insert(ConnectionControl::MaxData);
        }
        let allowed = self.registry.is_allowed(id);
        let Some(stream) = self.registry.get_mut(id) else { return };
        let Some(recv) = &mut stream.recv else { return };
        if recv.release(bytes) {
            self.outbound.control(id, stream, Control::MaxData, allowed);
        }
    }

    /// Sets a stream's priority: streams of a higher one send first, streams of the same one take turns. 0 at first.
    pub(crate) fn set_priority(&mut self, id: StreamId, priority: i8) -> Result<(), StreamError> {
        let stream = self.registry.commanded(id)?;
        let before = std::mem::replace(&mut stream.priority, priority);
        if before != priority {
            for (queue, kind) in [(Queue::Repair, Kind::Repair), (Queue::Fresh, Kind::Fresh)] {
                if stream.queued.contains(queue) {
                    self.outbound.schedule.reprioritise(kind, id, before, priority);
                }
            }
        }
        Ok(())
    }

    #[inline]
    fn plan(&mut self, id: StreamId, allowed: bool) {
        if let Some(stream) = self.registry.get_mut(id) {
            self.outbound.plan(id, stream, allowed);
        }
    }
}

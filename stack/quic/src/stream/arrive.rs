//! Frames of the peer about streams (RFC 9000 §19.4, §19.5, §19.8 to §19.14).

use s2n_quic_core::{frame, stream::StreamId, varint::VarInt};

use super::{
    Streams,
    news::News,
    outbound::{ConnectionControl, Control},
    recv::Arrival,
    send::GivenUp,
};
use crate::{error::TransportError, frame::ResetStreamAt};

fn id(id: VarInt) -> StreamId {
    StreamId::from_varint(id)
}

impl Streams {
    /// STREAM.
    pub(crate) fn on_stream(&mut self, frame: &frame::Stream<&[u8]>) -> Result<(), TransportError> {
        let id = id(frame.stream_id);
        let Some(stream) = self.registry.receiving(id)? else { return Ok(()) };
        let Some(recv) = &mut stream.recv else { return Ok(()) };
        let arrival = recv.on_stream(frame.offset.as_u64(), frame.data, frame.is_fin, &mut self.inbound)?;
        self.after_arrival(id, arrival);
        Ok(())
    }

    /// RESET_STREAM.
    pub(crate) fn on_reset_stream(&mut self, frame: &frame::ResetStream) -> Result<(), TransportError> {
        let id = id(frame.stream_id);
        let Some(stream) = self.registry.receiving(id)? else { return Ok(()) };
        let Some(recv) = &mut stream.recv else { return Ok(()) };
        let arrival =
            recv.on_reset(frame.application_error_code, frame.final_size.as_u64(), &mut self.inbound)?;
        self.after_arrival(id, arrival);
        Ok(())
    }

    /// RESET_STREAM_AT.
    pub(crate) fn on_reset_stream_at(&mut self, frame: &ResetStreamAt) -> Result<(), TransportError> {
        if frame.reliable_size > frame.final_size {
            return Err(TransportError::FRAME_ENCODING_ERROR.with_reason("more is promised than there is"));
        }
        let id = id(frame.stream_id);
        let Some(stream) = self.registry.receiving(id)? else { return Ok(()) };
        let Some(recv) = &mut stream.recv else { return Ok(()) };
        let arrival = recv.on_reset_at(frame, &mut self.inbound)?;
        self.after_arrival(id, arrival);
        Ok(())
    }

    /// STOP_SENDING.
    pub(crate) fn on_stop_sending(&mut self, frame: &frame::StopSending) -> Result<(), TransportError> {
        let id = id(frame.stream_id);
        let allowed = self.registry.is_allowed(id);
        let Some(stream) = self.registry.sending(id)? else { return Ok(()) };
        let Some(send) = &mut stream.send else { return Ok(()) };
        // RFC 9000 §3.5: answered by a RESET_STREAM with the same code, unless all has arrived.
        let Some(dropped) = send.give_up(GivenUp::ByPeer(frame.application_error_code)) else {
            return Ok(());
        };
        send.released += dropped;
        self.news.add(id, stream, News::Released);
        self.news.add(id, stream, News::Stopped);
        self.outbound.control(id, stream, Control::Reset, allowed);
        Ok(())
    }

    /// MAX_DATA.
    pub(crate) fn on_max_data(&mut self, frame: &frame::MaxData) -> Result<(), TransportError> {
        if self.outbound.credit.raise(frame.maximum_data.as_u64()) {
            self.outbound.connection.remove(ConnectionControl::DataBlocked);
        }
        Ok(())
    }

    /// MAX_STREAM_DATA.
    pub(crate) fn on_max_stream_data(&mut self, frame: &frame::MaxStreamData) -> Result<(), TransportError> {
        let id = id(frame.stream_id);
        let allowed = self.registry.is_allowed(id);
        let Some(stream) = self.registry.sending(id)? else { return Ok(()) };
        let Some(send) = &mut stream.send else { return Ok(()) };
        let limit = frame.maximum_stream_data.as_u64();
        if limit > send.max_data {
            send.max_data = limit;
            stream.control.remove(Control::Blocked);
            self.outbound.plan(id, stream, allowed);
        }
        Ok(())
    }

    /// MAX_STREAMS.
    pub(crate) fn on_max_streams(&mut self, frame: &frame::MaxStreams) -> Result<(), TransportError> {
        let limit = frame.maximum_streams.as_u64();
        // RFC 9000 §19.11; the codec checks it too.
        if limit > crate::config::MAX_STREAMS {
            return Err(TransportError::FRAME_ENCODING_ERROR.with_reason("MAX_STREAMS above 2^60"));
        }
        for id in self.registry.raise_max_streams(frame.stream_type, limit) {
            if let Some(stream) = self.registry.get_mut(id) {
                self.outbound.plan(id, stream, true);
            }
        }
        Ok(())
    }

    /// DATA_BLOCKED: the peer is told of any credit it does not know of yet.
    pub(crate) fn on_data_blocked(&mut self, _frame: &frame::DataBlocked) -> Result<(), TransportError> {
        if self.inbound.window.can_raise() {
            self.outbound.connection.insert(ConnectionControl::MaxData);
        }
        Ok(())
    }

    /// STREAM_DATA_BLOCKED: the same for a stream.
    pub(crate) fn on_stream_data_blocked(
        &mut self,
        frame: &frame::StreamDataBlocked,
    ) -> Result<(), TransportError> {
        let id = id(frame.stream_id);
        let allowed = self.registry.is_allowed(id);
        let Some(stream) = self.registry.receiving(id)? else { return Ok(()) };
        if stream.recv.as_ref().is_some_and(|recv| recv.wants_credit() && recv.window.can_raise()) {
            self.outbound.control(id, stream, Control::MaxData, allowed);
        }
        Ok(())
    }

    /// STREAMS_BLOCKED: the same for the number of streams.
    pub(crate) fn on_streams_blocked(&mut self, frame: &frame::StreamsBlocked) -> Result<(), TransportError> {
        let theirs = self.registry.theirs(frame.stream_type);
        if theirs.next_limit() > theirs.limit {
            self.outbound.connection.insert(ConnectionControl::max_streams(frame.stream_type));
        }
        Ok(())
    }

    /// Tells the application, moves the connection's window if unread data was dropped, frees the stream if it is over.
    fn after_arrival(&mut self, id: StreamId, arrival: Arrival) {
        let news = match arrival {
            Arrival::Readable => Some(News::Readable),
            Arrival::Reset => Some(News::Reset),
            Arrival::Nothing => None,
        };
        if let (Some(news), Some(stream)) = (news, self.registry.get_mut(id)) {
            self.news.add(id, stream, news);
        }
        if self.inbound.is_update_due() {
            self.outbound.connection.insert(ConnectionControl::MaxData);
        }
        if news.is_none() {
            self.free_if_over(id);
        }
    }
}

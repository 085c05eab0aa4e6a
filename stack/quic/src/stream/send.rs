//! The sending side of a stream (RFC 9000 §3.1).

use bytes::Bytes;
use s2n_quic_core::{stream::StreamId, varint::VarInt};

use super::{error::StreamError, send_buffer::SendBuffer};
use crate::frame::FrameWriter;

/// Longest data of one STREAM frame: what its record's length field holds.
const MAX_FRAME_DATA: u64 = u16::MAX as u64;

/// Where the stream's end is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Fin {
    /// To be sent, for the first time or again.
    Queued,
    /// Sent.
    InFlight,
    /// Known to the peer.
    Acked,
}

/// Who gave the sending side up.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum GivenUp {
    /// The application, by a reset.
    ByUs(VarInt),
    /// The peer, by STOP_SENDING.
    ByPeer(VarInt),
}

impl GivenUp {
    pub(super) fn code(self) -> VarInt {
        match self {
            Self::ByUs(code) | Self::ByPeer(code) => code,
        }
    }

    fn error(self) -> StreamError {
        match self {
            Self::ByUs(code) => StreamError::Abandoned(code),
            Self::ByPeer(code) => StreamError::Stopped(code),
        }
    }
}

/// States of RFC 9000 §3.1, by what they mean for the application's commands and the peer's frames.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum SendState {
    /// "Ready" and "Send": more may be written.
    Open,
    /// "Send" after the last write, and "Data Sent": the final size is settled.
    Finishing(Fin),
    /// "Data Recvd": the peer has it all.
    DataReceived,
    /// "Send" and "Data Sent" of a stream whose start alone is delivered.
    Cut(Cut),
    /// "Reset Sent": given up; RESET_STREAM is queued or on its way.
    ResetSent(GivenUp),
    /// "Reset Recvd": the peer knows.
    ResetReceived(GivenUp),
}

/// The sending side was given up but for its start (RESET_STREAM_AT). What is to be delivered still lies in the buffer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) code: VarInt,
    /// Bytes behind the buffer's end that were sent, and count in the final size.
    pub(super) beyond: u64,
    /// Where the RESET_STREAM_AT frame is that promises what the buffer holds.
    frame: Fin,
}

/// What an acknowledgement changed.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Acked {
    /// Credit back to the writer, in bytes.
    pub(super) released: u64,
    /// The state became "Data Recvd".
    pub(super) finished: bool,
}

/// What a call of [`SendSide::write_frame`] did.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Wrote {
    /// A frame with this many bytes never sent before, and this many in all.
    Frame { fresh: u64, len: u64 },
    /// There is something to send, but the packet has no room for it.
    NoRoom,
    /// There is nothing to send of this kind.
    Nothing,
}

/// The sending side of a stream.
#[derive(Debug)]
pub(super) struct SendSide {
    pub(super) state: SendState,
    pub(super) buffer: SendBuffer,
    /// The peer's limit of the highest offset (MAX_STREAM_DATA).
    pub(super) max_data: u64,
    /// The limit for which STREAM_DATA_BLOCKED was queued or sent last.
    pub(super) blocked_at: Option<u64>,
    /// Credit not yet told to the writer.
    pub(super) released: u64,
}

impl SendSide {
    pub(super) fn new(max_data: u64) -> Self {
        Self {
            state: SendState::Open,
            buffer: SendBuffer::default(),
            max_data,
            blocked_at: None,
            released: 0,
        }
    }

    /// Is nothing left to send or to learn about?
    pub(super) fn is_terminal(&self) -> bool {
        match self.state {
            SendState::DataReceived | SendState::ResetReceived(_) => true,
            SendState::Open | SendState::Finishing(_) | SendState::Cut(_) | SendState::ResetSent(_) => false,
        }
    }

    /// Queues data.
    pub(super) fn write(&mut self, data: Bytes) -> Result<(), StreamError> {
        match self.state {
            SendState::Open => {
                let end = self.buffer.written().saturating_add(data.len() as u64);
                if end > VarInt::MAX.as_u64() {
                    return Err(StreamError::TooLong);
                }
                self.buffer.push(data);
                Ok(())
            }
            SendState::Finishing(_) | SendState::DataReceived => Err(StreamError::Finished),
            SendState::Cut(Cut { code, .. }) => Err(StreamError::Abandoned(code)),
            SendState::ResetSent(by) | SendState::ResetReceived(by) => Err(by.error()),
        }
    }

    /// Settles the final size.
    pub(super) fn finish(&mut self) -> Result<(), StreamError> {
        match self.state {
            SendState::Open => {
                self.state = SendState::Finishing(Fin::Queued);
                Ok(())
            }
            SendState::Finishing(_) | SendState::DataReceived => Err(StreamError::Finished),
            SendState::Cut(Cut { code, .. }) => Err(StreamError::Abandoned(code)),
            SendState::ResetSent(by) | SendState::ResetReceived(by) => Err(by.error()),
        }
    }

    /// Gives the stream up. `None` if it is too late: all has arrived, or it was given up before. Else the bytes
    /// dropped; RESET_STREAM must be sent.
    pub(super) fn give_up(&mut self, by: GivenUp) -> Option<u64> {
        match self.state {
            SendState::Open | SendState::Finishing(_) => {
                self.state = SendState::ResetSent(by);
                Some(self.buffer.discard())
            }
            SendState::Cut(cut) => {
                // The error code and the final size stay as they were told.
                self.state = SendState::ResetSent(GivenUp::ByUs(cut.code));
                let dropped = self.buffer.discard();
                if cut.beyond > 0 {
                    self.buffer.count_sent(cut.beyond);
                }
                Some(dropped)
            }
            SendState::DataReceived | SendState::ResetSent(_) | SendState::ResetReceived(_) => None,
        }
    }

    /// Gives the stream up behind its first `reliable` bytes. `None` if that changes nothing. Else the bytes dropped.
    pub(super) fn cut(&mut self, code: VarInt, reliable: u64) -> Option<u64> {
        let (code, beyond) = match self.state {
            SendState::Open | SendState::Finishing(_) => (code, 0),
            // Less may be promised, never more, and under the same error code.
            SendState::Cut(cut) if reliable < self.buffer.written() => (cut.code, cut.beyond),
            SendState::Cut(_)
            | SendState::DataReceived
            | SendState::ResetSent(_)
            | SendState::ResetReceived(_) => return None,
        };
        let sent = self.buffer.sent() + beyond;
        let dropped = self.buffer.truncate(reliable);
        let beyond = sent.saturating_sub(self.buffer.written());
        self.state = SendState::Cut(Cut { code, beyond, frame: Fin::Queued });
        Some(dropped)
    }

    /// Is a RESET_STREAM_AT frame to be sent? It waits until all that it promises was sent once, so that the final size is
    /// within the peer's limits.
    pub(super) fn wants_cut(&self) -> bool {
        matches!(self.state, SendState::Cut(Cut { frame: Fin::Queued, .. })) && self.buffer.unsent() == 0
    }

    /// The RESET_STREAM_AT frame was sent.
    pub(super) fn on_cut_sent(&mut self) {
        if let SendState::Cut(cut) = &mut self.state {
            cut.frame = Fin::InFlight;
        }
    }

    /// A RESET_STREAM_AT frame arrived. Only the one that promises least matters.
    pub(super) fn on_cut_acked(&mut self, reliable: u64) {
        if let SendState::Cut(cut) = &mut self.state
            && reliable == self.buffer.written()
        {
            cut.frame = Fin::Acked;
            self.settle_cut();
        }
    }

    /// It was lost; says whether it is to be sent again.
    pub(super) fn on_cut_lost(&mut self, reliable: u64) -> bool {
        match &mut self.state {
            SendState::Cut(cut) if cut.frame == Fin::InFlight && reliable == self.buffer.written() => {
                cut.frame = Fin::Queued;
                true
            }
            _ => false,
        }
    }

    /// With the frame and all that it promises acknowledged, nothing is left to do.
    fn settle_cut(&mut self) {
        if let SendState::Cut(Cut { code, frame: Fin::Acked, .. }) = self.state
            && self.buffer.is_acked()
        {
            self.state = SendState::ResetReceived(GivenUp::ByUs(code));
        }
    }

    /// Bytes never sent that the stream's limit lets through (RFC 9000 §2.2, §4.1). None once the stream was given up or
    /// is over: nothing but RESET_STREAM is sent then (RFC 9000 §3.3).
    pub(super) fn sendable(&self) -> u64 {
        match self.state {
            SendState::Open | SendState::Finishing(_) | SendState::Cut(_) => {
                self.buffer.unsent().min(self.max_data.saturating_sub(self.buffer.sent()))
            }
            SendState::DataReceived | SendState::ResetSent(_) | SendState::ResetReceived(_) => 0,
        }
    }

    /// Is there something to send that takes no flow control credit: lost data, or the end alone?
    pub(super) fn wants_credit_free(&self) -> bool {
        match self.state {
            SendState::Open | SendState::Cut(_) => self.buffer.has_lost(),
            SendState::Finishing(Fin::Queued) => self.buffer.has_lost() || self.buffer.unsent() == 0,
            SendState::Finishing(Fin::InFlight | Fin::Acked) => self.buffer.has_lost(),
            SendState::DataReceived | SendState::ResetSent(_) | SendState::ResetReceived(_) => false,
        }
    }

    /// Has the stream more to send than its limit allows, and is this limit not announced as blocking yet?
    pub(super) fn newly_blocked(&self) -> bool {
        self.is_blocked() && self.blocked_at != Some(self.max_data)
    }

    /// Is the stream's limit all that keeps data from being sent?
    pub(super) fn is_blocked(&self) -> bool {
        match self.state {
            SendState::Open | SendState::Finishing(_) | SendState::Cut(_) => {
                self.buffer.unsent() > 0 && self.buffer.sent() >= self.max_data
            }
            SendState::DataReceived | SendState::ResetSent(_) | SendState::ResetReceived(_) => false,
        }
    }

    /// Appends one STREAM frame with lost data, or with the end alone.
    pub(super) fn write_repair(&mut self, id: StreamId, w: &mut FrameWriter<'_, '_>) -> Wrote {
        let range = match self.buffer.first_lost() {
            Some(range) => range,
            None if self.wants_credit_free() => self.buffer.written()..self.buffer.written(),
            None => return Wrote::Nothing,
        };
        self.write_frame(id, range.start, range.end - range.start, w)
    }

    /// Appends one STREAM frame with data never sent before, at most `credit` bytes of the connection's.
    pub(super) fn write_fresh(&mut self, id: StreamId, credit: u64, w: &mut FrameWriter<'_, '_>) -> Wrote {
        let want = self.sendable().min(credit);
        if want == 0 {
            return Wrote::Nothing;
        }
        self.write_frame(id, self.buffer.sent(), want, w)
    }

    fn write_frame(&mut self, id: StreamId, offset: u64, want: u64, w: &mut FrameWriter<'_, '_>) -> Wrote {
        let want = want.min(MAX_FRAME_DATA) as usize;
        let Some(len) = w.stream_capacity(id, offset, want) else { return Wrote::NoRoom };
        let end = offset + len as u64;
        // Whenever a frame reaches the end, it says so: saying it twice costs nothing.
        let fin = match self.state {
            SendState::Finishing(_) => end == self.buffer.written(),
            SendState::Open
            | SendState::Cut(_)
            | SendState::DataReceived
            | SendState::ResetSent(_)
            | SendState::ResetReceived(_) => false,
        };
        if !w.stream(id, offset, len, fin, self.buffer.slices(offset)) {
            return Wrote::NoRoom;
        }
        let sent_before = self.buffer.sent();
        self.buffer.on_sent(offset..end);
        if fin && self.state == SendState::Finishing(Fin::Queued) {
            self.state = SendState::Finishing(Fin::InFlight);
        }
        Wrote::Frame { fresh: self.buffer.sent() - sent_before, len: len as u64 }
    }

    /// A STREAM frame of ours arrived.
    pub(super) fn on_acked(&mut self, offset: u64, len: u64, fin: bool) -> Acked {
        match self.state {
            SendState::Open => {
                Acked { released: self.buffer.on_acked(offset..offset + len), finished: false }
            }
            SendState::Finishing(mut progress) => {
                let released = self.buffer.on_acked(offset..offset + len);
                if fin && offset + len == self.buffer.written() {
                    progress = Fin::Acked;
                }
                let finished = progress == Fin::Acked && self.buffer.is_acked();
                self.state = if finished { SendState::DataReceived } else { SendState::Finishing(progress) };
                Acked { released, finished }
            }
            SendState::Cut(_) => {
                let released = self.buffer.on_acked(offset..offset + len);
                self.settle_cut();
                Acked { released, finished: false }
            }
            // A late acknowledgement: the data was dropped, or counted, before.
            SendState::DataReceived | SendState::ResetSent(_) | SendState::ResetReceived(_) => {
                Acked::default()
            }
        }
    }

    /// A STREAM frame of ours was lost.
    pub(super) fn on_lost(&mut self, offset: u64, len: u64, fin: bool) {
        match self.state {
            SendState::Open | SendState::Cut(_) => self.buffer.on_lost(offset..offset + len),
            SendState::Finishing(progress) => {
                self.buffer.on_lost(offset..offset + len);
                if fin && progress == Fin::InFlight {
                    self.state = SendState::Finishing(Fin::Queued);
                }
            }
            SendState::DataReceived | SendState::ResetSent(_) | SendState::ResetReceived(_) => {}
        }
    }

    /// Our RESET_STREAM arrived.
    pub(super) fn on_reset_acked(&mut self) {
        match self.state {
            SendState::ResetSent(by) => self.state = SendState::ResetReceived(by),
            SendState::Open
            | SendState::Finishing(_)
            | SendState::Cut(_)
            | SendState::DataReceived
            | SendState::ResetReceived(_) => {}
        }
    }

    /// Makes everything unsent (rejected 0-RTT), under a limit of 0. A reset must be queued again by the caller.
    pub(super) fn rewind(&mut self) {
        match self.state {
            SendState::Open => self.buffer.rewind(),
            SendState::Finishing(_) => {
                self.buffer.rewind();
                self.state = SendState::Finishing(Fin::Queued);
            }
            SendState::Cut(cut) => {
                self.buffer.rewind();
                self.state = SendState::Cut(Cut { beyond: 0, frame: Fin::Queued, ..cut });
            }
            SendState::ResetSent(_) => self.buffer = SendBuffer::default(),
            SendState::DataReceived | SendState::ResetReceived(_) => {}
        }
        self.max_data = 0;
        self.blocked_at = None;
    }
}

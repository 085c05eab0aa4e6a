//! The receiving side of a stream (RFC 9000 §3.2).

use s2n_quic_core::varint::VarInt;

use super::{
    arena::Arena,
    error::{ReadOutcome, StreamError},
    flow::ReceiveWindow,
    recv_buffer::RecvBuffer,
};
use crate::{error::TransportError, frame::ResetStreamAt};

/// States of RFC 9000 §3.2, and what the application asked for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum RecvState {
    /// "Recv": the final size is not known.
    Open,
    /// "Size Known": data is missing.
    SizeKnown,
    /// "Data Recvd": all is there, not all of it read.
    DataReceived,
    /// "Data Read".
    DataRead,
    /// "Size Known" of a stream that is reset behind a part of it: the application gets the bytes before `until`
    /// (RESET_STREAM_AT).
    Cut { code: VarInt, until: u64 },
    /// "Reset Recvd": the application does not know yet.
    ResetReceived(VarInt),
    /// "Reset Read".
    ResetRead(VarInt),
    /// Given up by the application (STOP_SENDING); data is counted and dropped until the final size is known.
    Stopped(VarInt),
    /// Given up, and the final size is known: nothing is left to learn.
    StoppedEnded(VarInt),
}

/// Credit of the whole connection for what the peer sends.
#[derive(Debug)]
pub(super) struct Inbound {
    /// The connection's window; its limit bounds `received`.
    pub(super) window: ReceiveWindow,
    /// Sum of the highest offsets received on all streams.
    pub(super) received: u64,
    /// Bytes handed to the application and not yet released by it.
    pub(super) held: u64,
    /// Where in-order data is copied to.
    pub(super) arena: Arena,
}

impl Inbound {
    /// Counts a stream's highest offset rising by `bytes` (RFC 9000 §4.1, §19.9).
    fn receive(&mut self, bytes: u64) -> Result<(), TransportError> {
        let received = self.received.saturating_add(bytes);
        if received > self.window.limit() {
            return Err(TransportError::FLOW_CONTROL_ERROR.with_reason("more data than MAX_DATA allows"));
        }
        self.received = received;
        Ok(())
    }

    /// Should the connection's limit be announced anew?
    pub(super) fn is_update_due(&self) -> bool {
        self.window.is_update_due(self.received)
    }
}

/// What a frame changed for the application.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Nothing it can see.
    Nothing,
    /// More can be read, or the end.
    Readable,
    /// The peer reset the stream.
    Reset,
}

/// The receiving side of a stream.
#[derive(Debug)]
pub(super) struct RecvSide {
    pub(super) state: RecvState,
    buffer: RecvBuffer,
    /// Highest offset received.
    highest: u64,
    /// Bytes read by the application.
    read: u64,
    /// Final size, once known.
    final_size: Option<u64>,
    pub(super) window: ReceiveWindow,
    /// Has the application read all there was, so that it waits to be told of more?
    waiting: bool,
    /// Was the application given all that a RESET_STREAM_AT promised?
    partial: bool,
}

impl RecvSide {
    pub(super) fn new(window: u64) -> Self {
        Self {
            state: RecvState::Open,
            buffer: RecvBuffer::default(),
            highest: 0,
            read: 0,
            final_size: None,
            window: ReceiveWindow::new(window),
            waiting: true,
            partial: false,
        }
    }

    /// Is nothing left to receive, to read or to tell?
    pub(super) fn is_terminal(&self) -> bool {
        match self.state {
            RecvState::DataRead | RecvState::ResetRead(_) | RecvState::StoppedEnded(_) => true,
            RecvState::Open
            | RecvState::SizeKnown
            | RecvState::DataReceived
            | RecvState::Cut { .. }
            | RecvState::ResetReceived(_)
            | RecvState::Stopped(_) => false,
        }
    }

    /// May the peer need more credit on this stream?
    pub(super) fn wants_credit(&self) -> bool {
        match self.state {
            RecvState::Open => true,
            RecvState::SizeKnown
            | RecvState::Cut { .. }
            | RecvState::DataReceived
            | RecvState::DataRead
            | RecvState::ResetReceived(_)
            | RecvState::ResetRead(_)
            | RecvState::Stopped(_)
            | RecvState::StoppedEnded(_) => false,
        }
    }

    /// Counts bytes read before that the application is done with. Says whether the limit should be announced anew.
    pub(super) fn release(&mut self, bytes: u64) -> bool {
        let held = self.read.saturating_sub(self.window.consumed());
        self.window.consume(bytes.min(held));
        self.wants_credit() && self.window.is_update_due(self.highest)
    }

    /// Is a STOP_SENDING frame still of use (RFC 9000 §3.5)?
    pub(super) fn wants_stop(&self) -> Option<VarInt> {
        match self.state {
            RecvState::Stopped(code) => Some(code),
            RecvState::Open
            | RecvState::SizeKnown
            | RecvState::DataReceived
            | RecvState::DataRead
            | RecvState::Cut { .. }
            | RecvState::ResetReceived(_)
            | RecvState::ResetRead(_)
            | RecvState::StoppedEnded(_) => None,
        }
    }

    /// A STREAM frame.
    pub(super) fn on_stream(
        &mut self,
        offset: u64,
        data: &[u8],
        fin: bool,
        inbound: &mut Inbound,
    ) -> Result<Arrival, TransportError> {
        // RFC 9000 §19.8: no offset lies beyond 2^62 - 1.
        let end = offset.saturating_add(data.len() as u64);
        if end > VarInt::MAX.as_u64() {
            return Err(TransportError::FRAME_ENCODING_ERROR.with_reason("stream data beyond 2^62 - 1"));
        }
        let final_size = if fin { Some(end) } else { self.final_size };
        self.check_final_size(end, final_size)?;
        self.count(end, inbound)?;
        let newly_final = self.final_size.is_none() && final_size.is_some();
        self.final_size = final_size;
        match self.state {
            RecvState::Open | RecvState::SizeKnown => {
                let unread = inbound.window.size();
                let mut readable = self.buffer.insert(offset, data, &mut inbound.arena, unread);
                self.buffer.on_highest(self.highest);
                if let Some(size) = final_size {
                    self.state = RecvState::SizeKnown;
                    if self.buffer.end() == size {
                        self.state = RecvState::DataReceived;
                        // The end itself is news, also without bytes.
                        readable = true;
                    }
                }
                Ok(if readable { self.readable() } else { Arrival::Nothing })
            }
            RecvState::Cut { until, .. } => {
                let len = until.saturating_sub(offset).min(data.len() as u64);
                let data = &data[..len as usize];
                let readable = self.buffer.insert(offset, data, &mut inbound.arena, inbound.window.size());
                self.buffer.on_highest(until);
                Ok(if readable { self.readable() } else { Arrival::Nothing })
            }
            RecvState::Stopped(code) => {
                if newly_final {
                    self.state = RecvState::StoppedEnded(code);
                }
                Ok(Arrival::Nothing)
            }
            RecvState::DataReceived
            | RecvState::DataRead
            | RecvState::ResetReceived(_)
            | RecvState::ResetRead(_)
            | RecvState::StoppedEnded(_) => Ok(Arrival::Nothing),
        }
    }

    /// A RESET_STREAM frame.
    pub(super) fn on_reset(
        &mut self,
        code: VarInt,
        final_size: u64,
        inbound: &mut Inbound,
    ) -> Result<Arrival, TransportError> {
        self.check_final_size(final_size, Some(final_size))?;
        // RFC 9000 §4.4, §4.5: the final size counts, whether the data came or not.
        self.count(final_size, inbound)?;
        self.final_size = Some(final_size);
        match self.state {
            RecvState::Open | RecvState::SizeKnown => {
                self.state = RecvState::ResetReceived(code);
                self.drop_unread(inbound);
                Ok(Arrival::Reset)
            }
            RecvState::Cut { code: known, .. } => {
                same_code(code, known)?;
                Ok(self.cut(code, 0, inbound))
            }
            RecvState::Stopped(code) => {
                self.state = RecvState::StoppedEnded(code);
                Ok(Arrival::Nothing)
            }
            // RFC 9000 §3.2: with all data there a reset may be ignored; the application gets the data.
            RecvState::DataReceived
            | RecvState::DataRead
            | RecvState::ResetReceived(_)
            | RecvState::ResetRead(_)
            | RecvState::StoppedEnded(_) => Ok(Arrival::Nothing),
        }
    }

    /// A RESET_STREAM_AT frame (draft-ietf-quic-reliable-stream-reset).
    pub(super) fn on_reset_at(
        &mut self,
        frame: &ResetStreamAt,
        inbound: &mut Inbound,
    ) -> Result<Arrival, TransportError> {
        let (code, final_size) = (frame.application_error_code, frame.final_size.as_u64());
        let reliable = frame.reliable_size.as_u64();
        self.check_final_size(final_size, Some(final_size))?;
        self.count(final_size, inbound)?;
        self.final_size = Some(final_size);
        match self.state {
            RecvState::Open | RecvState::SizeKnown => Ok(self.cut(code, reliable, inbound)),
            RecvState::Cut { code: known, until } => {
                same_code(code, known)?;
                // One that promises more was sent before.
                Ok(if reliable < until { self.cut(code, reliable, inbound) } else { Arrival::Nothing })
            }
            RecvState::ResetReceived(known) | RecvState::ResetRead(known) => {
                same_code(code, known)?;
                Ok(Arrival::Nothing)
            }
            RecvState::Stopped(code) => {
                self.state = RecvState::StoppedEnded(code);
                Ok(Arrival::Nothing)
            }
            RecvState::DataReceived | RecvState::DataRead | RecvState::StoppedEnded(_) => {
                Ok(Arrival::Nothing)
            }
        }
    }

    /// Nothing behind `reliable` will be read: the connection has the credit of it again. The final size is known.
    fn cut(&mut self, code: VarInt, reliable: u64, inbound: &mut Inbound) -> Arrival {
        let until = reliable.max(self.read);
        inbound.window.consume(self.readable_end().saturating_sub(until));
        self.state = RecvState::Cut { code, until };
        self.partial = reliable > 0;
        if until > self.read {
            return Arrival::Nothing;
        }
        self.end_cut(code);
        Arrival::Reset
    }

    /// The application has all that it gets.
    fn end_cut(&mut self, code: VarInt) {
        self.buffer = RecvBuffer::default();
        self.read = self.highest;
        self.state = RecvState::ResetReceived(code);
    }

    /// Has the peer reset the stream, and does the application not know?
    pub(super) fn is_reset(&self) -> bool {
        matches!(self.state, RecvState::ResetReceived(_))
    }

    /// Where the bytes end that the application may still get.
    fn readable_end(&self) -> u64 {
        match self.state {
            RecvState::Cut { until, .. } => until,
            _ => self.highest,
        }
    }

    /// The application takes the next bytes.
    pub(super) fn read(&mut self, inbound: &mut Inbound) -> Result<ReadOutcome, StreamError> {
        match self.state {
            RecvState::Open | RecvState::SizeKnown | RecvState::DataReceived => {
                if let Some(data) = self.buffer.pop() {
                    self.read += data.len() as u64;
                    inbound.held += data.len() as u64;
                    return Ok(ReadOutcome::Data(data));
                }
                if self.state == RecvState::DataReceived {
                    self.state = RecvState::DataRead;
                    return Ok(ReadOutcome::Finished);
                }
                self.waiting = true;
                Ok(ReadOutcome::Blocked)
            }
            RecvState::Cut { code, until } => {
                if let Some(mut data) = self.buffer.pop().filter(|_| self.read < until) {
                    // More than was promised may have come before the reset.
                    data.truncate((until - self.read) as usize);
                    self.read += data.len() as u64;
                    inbound.held += data.len() as u64;
                    return Ok(ReadOutcome::Data(data));
                }
                if self.read == until {
                    self.end_cut(code);
                }
                self.waiting = true;
                Ok(ReadOutcome::Blocked)
            }
            RecvState::DataRead => Ok(ReadOutcome::Finished),
            RecvState::ResetReceived(code) | RecvState::ResetRead(code) => Err(StreamError::Reset(code)),
            RecvState::Stopped(code) | RecvState::StoppedEnded(code) => Err(StreamError::Abandoned(code)),
        }
    }

    /// The peer's reset, once, and whether what was read before it was promised: the application is told of it now.
    pub(super) fn take_reset(&mut self) -> Option<(VarInt, bool)> {
        match self.state {
            RecvState::ResetReceived(code) => {
                self.state = RecvState::ResetRead(code);
                Some((code, self.partial))
            }
            RecvState::Open
            | RecvState::SizeKnown
            | RecvState::DataReceived
            | RecvState::DataRead
            | RecvState::Cut { .. }
            | RecvState::ResetRead(_)
            | RecvState::Stopped(_)
            | RecvState::StoppedEnded(_) => None,
        }
    }

    /// The application wants no more.
    pub(super) fn stop(&mut self, code: VarInt, inbound: &mut Inbound) -> Result<(), StreamError> {
        match self.state {
            RecvState::Open => {
                self.state = RecvState::Stopped(code);
                self.drop_unread(inbound);
                Ok(())
            }
            // The peer has sent its end or reset: it has nothing left to stop, and we nothing to learn.
            RecvState::SizeKnown
            | RecvState::DataReceived
            | RecvState::Cut { .. }
            | RecvState::ResetReceived(_) => {
                self.drop_unread(inbound);
                self.state = RecvState::StoppedEnded(code);
                Ok(())
            }
            RecvState::DataRead | RecvState::ResetRead(_) => Err(StreamError::Unknown),
            RecvState::Stopped(code) | RecvState::StoppedEnded(code) => Err(StreamError::Abandoned(code)),
        }
    }

    /// RFC 9000 §4.5: a final size never changes, and no data lies beyond it.
    fn check_final_size(&self, end: u64, final_size: Option<u64>) -> Result<(), TransportError> {
        let Some(size) = final_size else { return Ok(()) };
        if self.final_size.is_some_and(|known| known != size) {
            return Err(TransportError::FINAL_SIZE_ERROR.with_reason("the final size changed"));
        }
        if end > size || self.highest > size {
            return Err(TransportError::FINAL_SIZE_ERROR.with_reason("data beyond the final size"));
        }
        Ok(())
    }

    /// Counts the stream's highest offset against its limit and the connection's (RFC 9000 §4.1).
    fn count(&mut self, end: u64, inbound: &mut Inbound) -> Result<(), TransportError> {
        if end <= self.highest {
            return Ok(());
        }
        if end > self.window.limit() {
            return Err(
                TransportError::FLOW_CONTROL_ERROR.with_reason("more data than MAX_STREAM_DATA allows")
            );
        }
        let grown = end - self.highest;
        inbound.receive(grown)?;
        self.highest = end;
        match self.state {
            // Nobody will read these bytes: they are the connection's credit again at once.
            RecvState::Stopped(_)
            | RecvState::StoppedEnded(_)
            | RecvState::ResetReceived(_)
            | RecvState::ResetRead(_) => {
                self.read += grown;
                inbound.window.consume(grown);
            }
            RecvState::Open
            | RecvState::SizeKnown
            | RecvState::DataReceived
            | RecvState::DataRead
            | RecvState::Cut { .. } => {}
        }
        Ok(())
    }

    /// Drops what was received and not read, and gives its credit back to the connection.
    fn drop_unread(&mut self, inbound: &mut Inbound) {
        self.buffer = RecvBuffer::default();
        inbound.window.consume(self.readable_end().saturating_sub(self.read));
        self.read = self.highest;
    }

    fn readable(&mut self) -> Arrival {
        if std::mem::take(&mut self.waiting) { Arrival::Readable } else { Arrival::Nothing }
    }
}

/// Resets of one stream have one error code (draft-ietf-quic-reliable-stream-reset).
fn same_code(code: VarInt, known: VarInt) -> Result<(), TransportError> {
    match code == known {
        true => Ok(()),
        false => Err(TransportError::STREAM_STATE_ERROR.with_reason("the error code of a reset changed")),
    }
}

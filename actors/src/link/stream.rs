//! The two halves of a stream as both sides of a link share them.

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use parking_lot::Mutex;
use wirepath_quic::{StreamId, VarInt, stream::SendProgress};

use super::StreamFigures;

/// How the receiving half of a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadEnd {
    /// The peer's FIN, behind all data.
    Finished,
    /// The peer's reset.
    Reset {
        /// Its application error code.
        code: VarInt,
        /// It promised the data that came before it (RESET_STREAM_AT), which is there to be read first.
        partial: bool,
    },
    /// The connection ended first.
    Closed,
}

/// How the sending half of a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteEnd {
    /// The peer's STOP_SENDING with its application error code.
    Stopped(VarInt),
    /// The FIN and all data are acknowledged.
    Acknowledged,
    /// The connection ended first.
    Closed,
}

/// A stream, between its handles and its connection's actor.
#[derive(Debug)]
pub struct StreamLink {
    id: StreamId,
    early: bool,
    receive: Mutex<Receive>,
    send: Mutex<Send>,
}

#[derive(Debug, Default)]
struct Receive {
    /// In order. The first chunk stands apart: most streams never have a second one waiting.
    head: Option<Bytes>,
    tail: VecDeque<Bytes>,
    end: Option<ReadEnd>,
    waker: Option<Waker>,
    /// Bytes the application took since the actor was last told. Below zero where it gave back what was told already.
    untold: i64,
    /// Bytes that came in order, and those of them that wait to be read.
    received: u64,
    unread: u64,
}

#[derive(Debug)]
struct Send {
    /// Bytes the application may still hand over before some are acknowledged.
    credit: u64,
    /// Bytes it was given credit for, and those of them that came back.
    written: u64,
    released: u64,
    /// How far the machine had come when the last ones did.
    progress: Option<SendProgress>,
    end: Option<WriteEnd>,
    waker: Option<Waker>,
}

impl StreamLink {
    pub(crate) fn new(id: StreamId, send_credit: u64, early: bool) -> Self {
        Self {
            id,
            early,
            receive: Mutex::default(),
            send: Mutex::new(Send {
                credit: send_credit,
                written: 0,
                released: 0,
                progress: None,
                end: None,
                waker: None,
            }),
        }
    }

    /// The stream's ID.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Whether it was opened ahead of the handshake's end (0-RTT).
    pub fn is_early(&self) -> bool {
        self.early
    }

    /// Takes the next chunk of received data. The second number of the pair is how many bytes the application
    /// has taken that its flow control has not been told of.
    pub fn poll_read(&self, cx: &mut Context<'_>) -> Poll<Result<(Bytes, u64), ReadEnd>> {
        let mut receive = self.receive.lock();
        if let Some(chunk) = receive.pop() {
            receive.untold += chunk.len() as i64;
            return Poll::Ready(Ok((chunk, receive.untold.max(0) as u64)));
        }
        if let Some(end) = receive.end {
            return Poll::Ready(Err(end));
        }
        remember(&mut receive.waker, cx);
        Poll::Pending
    }

    /// Puts back what was read too much.
    pub fn unread(&self, rest: Bytes) {
        if rest.is_empty() {
            return;
        }
        let mut receive = self.receive.lock();
        receive.untold -= rest.len() as i64;
        receive.unread += rest.len() as u64;
        if let Some(head) = receive.head.replace(rest) {
            receive.tail.push_front(head);
        }
    }

    /// How many bytes the application has taken that its flow control has not been told of.
    pub fn untold(&self) -> u64 {
        self.receive.lock().untold.max(0) as u64
    }

    /// Takes the count of bytes to tell flow control of.
    pub fn take_untold(&self) -> u64 {
        let mut receive = self.receive.lock();
        let untold = receive.untold.max(0);
        receive.untold -= untold;
        untold as u64
    }

    /// Drops what was received and not read, which then counts as taken. Returns how many bytes that were, and whether
    /// more may come.
    pub fn abandon_read(&self) -> (u64, bool) {
        let mut receive = self.receive.lock();
        let mut left = 0;
        while let Some(chunk) = receive.pop() {
            left += chunk.len() as u64;
        }
        receive.untold += left as i64;
        (left, receive.end.is_none())
    }

    /// Reserves up to `want` bytes of send credit.
    pub fn poll_reserve(&self, cx: &mut Context<'_>, want: u64) -> Poll<Result<u64, super::LinkError>> {
        let mut send = self.send.lock();
        match send.end {
            Some(WriteEnd::Stopped(code)) => return Poll::Ready(Err(super::LinkError::Stopped(code))),
            Some(WriteEnd::Closed) => return Poll::Ready(Err(super::LinkError::Closed)),
            Some(WriteEnd::Acknowledged) => return Poll::Ready(Err(super::LinkError::Finished)),
            None => {}
        }
        let granted = send.credit.min(want);
        if granted == 0 && want > 0 {
            remember(&mut send.waker, cx);
            return Poll::Pending;
        }
        send.credit -= granted;
        send.written += granted;
        Poll::Ready(Ok(granted))
    }

    /// Waits until the FIN and all data are acknowledged.
    pub fn poll_acknowledged(&self, cx: &mut Context<'_>) -> Poll<Result<(), super::LinkError>> {
        let mut send = self.send.lock();
        match send.end {
            Some(WriteEnd::Acknowledged) => Poll::Ready(Ok(())),
            Some(WriteEnd::Stopped(code)) => Poll::Ready(Err(super::LinkError::Stopped(code))),
            Some(WriteEnd::Closed) => Poll::Ready(Err(super::LinkError::Closed)),
            None => {
                remember(&mut send.waker, cx);
                Poll::Pending
            }
        }
    }

    /// Waits until the peer stops the stream; `None` when everything was acknowledged instead.
    pub fn poll_stopped(&self, cx: &mut Context<'_>) -> Poll<Result<Option<VarInt>, super::LinkError>> {
        match self.poll_acknowledged(cx) {
            Poll::Ready(Err(super::LinkError::Stopped(code))) => Poll::Ready(Ok(Some(code))),
            Poll::Ready(Ok(())) => Poll::Ready(Ok(None)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Actor: received data, in order. The reader is woken by [`wake_reader`](Self::wake_reader).
    pub(crate) fn push(&self, chunk: Bytes) {
        let mut receive = self.receive.lock();
        receive.received += chunk.len() as u64;
        receive.unread += chunk.len() as u64;
        match receive.head {
            None => receive.head = Some(chunk),
            Some(_) => receive.tail.push_back(chunk),
        }
    }

    /// Actor: the receiving half is over.
    pub(crate) fn end_read(&self, end: ReadEnd) {
        let mut receive = self.receive.lock();
        if !matches!(end, ReadEnd::Finished | ReadEnd::Reset { partial: true, .. }) {
            // RFC 9000 §3.2: a reset may discard what was not read yet; a dead connection certainly does.
            receive.head = None;
            receive.tail.clear();
            receive.unread = 0;
        }
        receive.end.get_or_insert(end);
    }

    /// How far both halves have come.
    pub(crate) fn figures(&self) -> StreamFigures {
        let (received, unread) = {
            let receive = self.receive.lock();
            (receive.received, receive.unread)
        };
        let send = self.send.lock();
        StreamFigures {
            id: self.id,
            receiving: true,
            sending: true,
            priority: 0,
            written: send.written,
            acked: send.released,
            sent: send.progress.map_or(0, |it| it.sent).max(send.released),
            limit: send.progress.map(|it| it.limit),
            received,
            unread,
        }
    }

    pub(crate) fn wake_reader(&self) {
        let waker = self.receive.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Actor: acknowledged bytes give credit back. `progress`: how far the machine has come, if the stream is still there.
    pub(crate) fn on_released(&self, bytes: u64, progress: Option<SendProgress>) {
        let waker = {
            let mut send = self.send.lock();
            send.credit += bytes;
            send.released += bytes;
            send.progress = progress.or(send.progress);
            send.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Actor: the sending half is over.
    pub(crate) fn end_write(&self, end: WriteEnd) {
        let waker = {
            let mut send = self.send.lock();
            send.end.get_or_insert(end);
            send.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Receive {
    fn pop(&mut self) -> Option<Bytes> {
        let head = self.head.take()?;
        self.head = self.tail.pop_front();
        self.unread -= head.len() as u64;
        Some(head)
    }
}

fn remember(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *slot = Some(cx.waker().clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(stream: &StreamLink) -> Poll<Result<(Bytes, u64), ReadEnd>> {
        stream.poll_read(&mut Context::from_waker(Waker::noop()))
    }

    fn stream(credit: u64) -> StreamLink {
        StreamLink::new(StreamId::from_varint(VarInt::from_u8(0)), credit, false)
    }

    #[test]
    fn chunks_come_in_order_then_the_end() {
        let stream = stream(0);
        for text in ["one", "two", "three"] {
            stream.push(Bytes::from_static(text.as_bytes()));
        }
        stream.end_read(ReadEnd::Finished);
        let Poll::Ready(Ok((first, untold))) = read(&stream) else { panic!("data waits") };
        assert_eq!((&first[..], untold), (&b"one"[..], 3));
        stream.unread(first.slice(1..));
        let Poll::Ready(Ok((rest, untold))) = read(&stream) else { panic!("data waits") };
        assert_eq!((&rest[..], untold), (&b"ne"[..], 3));
        assert_eq!(stream.take_untold(), 3);
        assert!(matches!(read(&stream), Poll::Ready(Ok((chunk, _))) if &chunk[..] == b"two"));
        assert!(matches!(read(&stream), Poll::Ready(Ok((chunk, _))) if &chunk[..] == b"three"));
        assert!(matches!(read(&stream), Poll::Ready(Err(ReadEnd::Finished))));
    }

    #[test]
    fn what_was_given_back_is_not_told_twice() {
        let stream = stream(0);
        stream.push(Bytes::from_static(b"abcdef"));
        let Poll::Ready(Ok((chunk, 6))) = read(&stream) else { panic!("data waits") };
        assert_eq!(stream.take_untold(), 6);
        stream.unread(chunk.slice(2..));
        assert_eq!((stream.untold(), stream.take_untold()), (0, 0));
        assert!(matches!(read(&stream), Poll::Ready(Ok((_, 0)))));
        stream.push(Bytes::from_static(b"gh"));
        assert!(matches!(read(&stream), Poll::Ready(Ok((_, 2)))));
    }

    #[test]
    fn a_reset_discards_and_an_abandoned_half_counts_what_it_dropped() {
        let stream = stream(0);
        stream.push(Bytes::from_static(b"lost"));
        let code = VarInt::from_u8(7);
        stream.end_read(ReadEnd::Reset { code, partial: false });
        assert!(
            matches!(read(&stream), Poll::Ready(Err(ReadEnd::Reset { code, .. })) if code == VarInt::from_u8(7))
        );

        let stream = self::stream(0);
        stream.push(Bytes::from_static(b"kept"));
        stream.end_read(ReadEnd::Reset { code, partial: true });
        assert!(matches!(read(&stream), Poll::Ready(Ok((chunk, _))) if &chunk[..] == b"kept"));
        assert!(
            matches!(read(&stream), Poll::Ready(Err(ReadEnd::Reset { code, .. })) if code == VarInt::from_u8(7))
        );

        let stream = self::stream(0);
        stream.push(Bytes::from_static(b"unread"));
        assert_eq!(stream.abandon_read(), (6, true));
        assert_eq!(stream.take_untold(), 6);
    }

    #[test]
    fn credit_limits_and_returns() {
        let stream = stream(10);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(stream.poll_reserve(&mut cx, 7), Poll::Ready(Ok(7))));
        assert!(matches!(stream.poll_reserve(&mut cx, 7), Poll::Ready(Ok(3))));
        assert!(stream.poll_reserve(&mut cx, 1).is_pending());
        stream.on_released(4, None);
        assert!(matches!(stream.poll_reserve(&mut cx, 7), Poll::Ready(Ok(4))));
        stream.end_write(WriteEnd::Stopped(VarInt::from_u8(9)));
        assert!(matches!(stream.poll_reserve(&mut cx, 1), Poll::Ready(Err(_))));
    }
}

//! Datagrams that are never sent again (RFC 9221): two bounded queues.

use std::collections::VecDeque;

use bytes::Bytes;
use s2n_codec::EncoderValue;
use s2n_quic_core::frame;

use crate::{
    config::TransportConfig,
    error::TransportError,
    event::Event,
    frame::{FrameWriter, SentFrame, varint},
    stream::Arena,
};

/// The max_datagram_frame_size we announce when datagrams are offered: any that a packet can carry, as RFC 9221 §3
/// recommends.
pub const MAX_DATAGRAM_FRAME_SIZE: u64 = 65535;

/// What a queued datagram counts beside its bytes: its handle. Else empty datagrams would cost a peer nothing.
const ENTRY: usize = size_of::<Bytes>();

/// Why a datagram can't be sent.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatagramError {
    /// The peer does not take datagrams.
    #[error("the peer does not take datagrams (RFC 9221)")]
    Unsupported,
    /// It does not fit into one packet, or is larger than the peer takes.
    #[error("the datagram is too large: {max} bytes at most now")]
    TooLarge {
        /// Largest payload that can be sent now; it changes with the path.
        max: usize,
    },
    /// The connection is over.
    #[error("the connection is closed")]
    Closed,
}

/// What became of datagrams, since the start.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct DatagramStats {
    /// Put into packets.
    pub sent: u64,
    /// Received and queued.
    pub received: u64,
    /// Dropped before they were sent, because newer ones needed the room.
    pub send_queue_dropped: u64,
    /// Dropped before they were sent, because the path no longer carries their size.
    pub oversize_dropped: u64,
    /// Dropped before they were read, because newer ones needed the room.
    pub receive_queue_dropped: u64,
}

/// Datagrams bounded in bytes. The newest is worth most, so the oldest make room.
#[derive(Debug, Default)]
struct Queue {
    datagrams: VecDeque<Bytes>,
    bytes: usize,
}

impl Queue {
    /// Appends a datagram; returns how many older ones were dropped for it.
    fn push(&mut self, datagram: Bytes, limit: usize) -> u64 {
        let mut dropped = 0;
        self.bytes += datagram.len() + ENTRY;
        self.datagrams.push_back(datagram);
        while self.bytes > limit && self.datagrams.len() > 1 {
            self.pop();
            dropped += 1;
        }
        dropped
    }

    fn pop(&mut self) -> Option<Bytes> {
        let datagram = self.datagrams.pop_front()?;
        self.bytes -= datagram.len() + ENTRY;
        Some(datagram)
    }
}

/// The datagrams of a connection.
#[derive(Debug)]
pub(crate) struct Datagrams {
    received: Queue,
    /// Bytes kept until read; `None` if datagrams are not offered.
    receive_limit: Option<usize>,
    /// Where received datagrams are copied to.
    arena: Arena,
    /// Is the application to be told that there are datagrams?
    news: bool,
    /// Has it found the queue empty, so that it waits to be told?
    waiting: bool,
    to_send: Queue,
    send_limit: usize,
    /// The peer's max_datagram_frame_size; 0 if it takes none.
    peer_max_frame: u64,
    /// Payload of the largest packet the path carries.
    packet_payload: usize,
    stats: DatagramStats,
    closed: bool,
}

impl Datagrams {
    /// Empty queues; nothing can be sent before the peer's parameters are known.
    pub(crate) fn new(config: &TransportConfig) -> Self {
        Self {
            received: Queue::default(),
            receive_limit: config.datagram_receive_buffer,
            arena: Arena::default(),
            news: false,
            waiting: true,
            to_send: Queue::default(),
            send_limit: config.datagram_send_buffer,
            peer_max_frame: 0,
            packet_payload: usize::from(config.initial_mtu),
            stats: DatagramStats::default(),
            closed: false,
        }
    }

    /// Takes the peer's max_datagram_frame_size parameter (RFC 9221 §3).
    pub(crate) fn on_peer_parameters(&mut self, max_datagram_frame_size: u64) {
        self.peer_max_frame = max_datagram_frame_size;
    }

    /// The path now carries packets with this many bytes of frames.
    pub(crate) fn on_packet_payload(&mut self, bytes: usize) {
        self.packet_payload = bytes;
    }

    /// A DATAGRAM frame.
    pub(crate) fn on_datagram(&mut self, frame: &frame::Datagram<&[u8]>) -> Result<(), TransportError> {
        // RFC 9221 §3: neither unasked nor larger than announced; the latter no packet can carry.
        let Some(limit) = self.receive_limit else {
            return Err(TransportError::PROTOCOL_VIOLATION.with_reason("datagrams were not negotiated"));
        };
        if frame.encoding_size() as u64 > MAX_DATAGRAM_FRAME_SIZE {
            return Err(TransportError::PROTOCOL_VIOLATION.with_reason("a datagram larger than announced"));
        }
        let datagram = self.arena.store(frame.data, limit as u64).freeze();
        self.stats.received += 1;
        self.stats.receive_queue_dropped += self.received.push(datagram, limit);
        self.news |= std::mem::take(&mut self.waiting);
        Ok(())
    }

    /// Tells of datagrams to read: once, and then only after [`recv`](Self::recv) gave none.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        (std::mem::take(&mut self.news) && !self.closed).then_some(Event::DatagramReadable)
    }

    /// The oldest datagram not read.
    pub(crate) fn recv(&mut self) -> Option<Bytes> {
        let datagram = self.received.pop();
        self.waiting |= datagram.is_none();
        datagram
    }

    /// Largest payload that can be sent now; `None` if the peer takes no datagrams.
    pub(crate) fn max_len(&self) -> Option<usize> {
        // Type, and a length field: the datagram need not be the last frame of its packet.
        let room = |bytes: usize| {
            let bytes = bytes.checked_sub(1)?;
            bytes.checked_sub(varint(bytes as u64).encoding_size())
        };
        if self.peer_max_frame == 0 {
            return None;
        }
        let peer = usize::try_from(self.peer_max_frame).unwrap_or(usize::MAX);
        // A record holds lengths up to 2^16 - 1.
        room(peer.min(self.packet_payload)).map(|len| len.min(usize::from(u16::MAX)))
    }

    /// Queues a datagram. If the queue is full the oldest are dropped.
    pub(crate) fn send(&mut self, datagram: Bytes) -> Result<(), DatagramError> {
        if self.closed {
            return Err(DatagramError::Closed);
        }
        let max = self.max_len().ok_or(DatagramError::Unsupported)?;
        if datagram.len() > max {
            return Err(DatagramError::TooLarge { max });
        }
        self.stats.send_queue_dropped += self.to_send.push(datagram, self.send_limit);
        Ok(())
    }

    /// Payload bytes of the datagrams waiting to be sent.
    pub(crate) fn queued(&self) -> usize {
        self.to_send.bytes - self.to_send.datagrams.len() * ENTRY
    }

    /// Is there a datagram to send?
    pub(crate) fn wants_transmit(&self) -> bool {
        !self.to_send.datagrams.is_empty()
    }

    /// Appends DATAGRAM frames until the packet is full or none is left.
    pub(crate) fn write_frames(&mut self, w: &mut FrameWriter<'_, '_>) {
        let max = self.max_len().unwrap_or(0);
        while let Some(data) = self.to_send.datagrams.front() {
            if data.len() > max {
                // The path shrank, or 0-RTT was refused: it would never fit.
                self.to_send.pop();
                self.stats.oversize_dropped += 1;
                continue;
            }
            let is_last_frame = data.len() + 1 == w.remaining();
            let frame = frame::Datagram { is_last_frame, data: &data[..] };
            if !w.push(&frame, SentFrame::Datagram { len: data.len() as u16 }) {
                return;
            }
            self.to_send.pop();
            self.stats.sent += 1;
        }
    }

    /// What became of datagrams so far.
    pub(crate) fn stats(&self) -> DatagramStats {
        self.stats
    }

    /// The connection is over: drops the queues.
    pub(crate) fn on_closed(&mut self) {
        self.closed = true;
        self.received = Queue::default();
        self.to_send = Queue::default();
        self.arena.shrink();
    }

    /// Gives back memory that only traffic needs.
    pub(crate) fn shrink(&mut self) {
        self.arena.shrink();
        self.received.datagrams.shrink_to_fit();
        self.to_send.datagrams.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::WriteContext;
    use s2n_codec::EncoderBuffer;
    use s2n_quic_core::time::{Clock, NoopClock};
    use std::time::Duration;

    fn config() -> TransportConfig {
        TransportConfig::default().datagram_receive_buffer(Some(10_000)).datagram_send_buffer(10_000)
    }

    fn sender() -> Datagrams {
        let mut datagrams = Datagrams::new(&config());
        datagrams.on_peer_parameters(MAX_DATAGRAM_FRAME_SIZE);
        datagrams
    }

    /// Frames of one packet with room for `len` bytes, handed to `to`.
    fn transfer(from: &mut Datagrams, to: &mut Datagrams, len: usize) -> usize {
        let mut buffer = vec![0; len];
        let mut encoder = EncoderBuffer::new(&mut buffer);
        let mut records = Vec::new();
        let duration = Duration::from_millis(1);
        let cx = WriteContext { now: NoopClock.get_time(), rtt: duration };
        from.write_frames(&mut FrameWriter::new(&mut encoder, len, &mut records, cx));
        let written = s2n_codec::Encoder::len(&encoder);
        let mut rest = s2n_codec::DecoderBufferMut::new(&mut buffer[..written]);
        while !rest.is_empty() {
            let (frame, tail) = rest.decode::<frame::FrameMut<'_>>().unwrap();
            let frame::Frame::Datagram(frame) = frame else { panic!("another frame") };
            to.on_datagram(&frame.into()).unwrap();
            rest = tail;
        }
        records.len()
    }

    #[test]
    fn datagrams_arrive_whole_and_in_order() {
        let (mut from, mut to) = (sender(), sender());
        let sent: Vec<Bytes> = (0..20u8).map(|i| Bytes::from(vec![i; usize::from(i) * 13])).collect();
        for datagram in &sent {
            from.send(datagram.clone()).unwrap();
        }
        while from.wants_transmit() {
            assert!(transfer(&mut from, &mut to, 400) > 0);
        }
        assert_eq!(to.poll_event(), Some(Event::DatagramReadable));
        assert_eq!(to.poll_event(), None);
        let got: Vec<Bytes> = std::iter::from_fn(|| to.recv()).collect();
        assert_eq!(got, sent);
        from.send(sent[1].clone()).unwrap();
        transfer(&mut from, &mut to, 400);
        assert_eq!(to.poll_event(), Some(Event::DatagramReadable));
    }

    #[test]
    fn the_largest_datagram_fills_a_packet() {
        let (mut from, mut to) = (sender(), sender());
        from.on_packet_payload(300);
        let max = from.max_len().unwrap();
        assert_eq!(from.send(vec![0; max + 1].into()), Err(DatagramError::TooLarge { max }));
        from.send(vec![1; max].into()).unwrap();
        assert_eq!(transfer(&mut from, &mut to, 300), 1);
        from.send(vec![1; max].into()).unwrap();
        from.on_packet_payload(299);
        assert_eq!(transfer(&mut from, &mut to, 299), 0);
        assert_eq!(from.stats().oversize_dropped, 1);
        assert!(!from.wants_transmit());
    }

    #[test]
    fn the_oldest_make_room_in_both_queues() {
        let (mut from, mut to) = (sender(), sender());
        for i in 0..200u8 {
            from.send(Bytes::from(vec![i; 100])).unwrap();
        }
        let kept = (10_000 / (100 + ENTRY)) as u64;
        assert_eq!(from.stats().send_queue_dropped, 200 - kept);
        for i in 0..200u8 {
            from.send(Bytes::from(vec![i; 100])).unwrap();
            transfer(&mut from, &mut to, 1200);
            while from.wants_transmit() {
                transfer(&mut from, &mut to, 1200);
            }
        }
        assert!(to.received.bytes <= 10_000);
        let stats = to.stats();
        assert_eq!(stats.received, stats.receive_queue_dropped + to.received.datagrams.len() as u64);
        assert_eq!(to.received.datagrams.back().unwrap()[0], 199);
    }

    #[test]
    fn nothing_unasked() {
        let mut none = Datagrams::new(&TransportConfig::default());
        let frame = frame::Datagram { is_last_frame: true, data: &b"x"[..] };
        let error = none.on_datagram(&frame).unwrap_err();
        assert_eq!(error.code, TransportError::PROTOCOL_VIOLATION.code);
        assert_eq!(none.send(Bytes::new()), Err(DatagramError::Unsupported));
        none.on_closed();
        assert_eq!(none.send(Bytes::new()), Err(DatagramError::Closed));
    }
}

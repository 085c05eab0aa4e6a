//! What the application asks of a connection, and what it is told.

use bytes::Bytes;
use s2n_quic_core::stream::{StreamId, StreamType};
use s2n_quic_core::time::Timestamp;
use s2n_quic_core::varint::VarInt;

use super::{Connection, Delivery, HandshakeOutcome, State};
use crate::cid::Cid;
use crate::datagram::DatagramError;
use crate::event::Event;
use crate::role::Role;
use crate::stream::{ReadOutcome, StreamError};

impl Connection {
    /// The next thing to know. To be called until `None` after each input.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events
            .pop_front()
            .or_else(|| self.peer_cids.poll_event())
            .or_else(|| self.streams.poll_event())
            .or_else(|| self.datagrams.poll_event())
    }

    /// Opens a stream. `None`: the peer's limit is reached, and [`Event::StreamsAvailable`] will tell of more.
    pub fn open(&mut self, ty: StreamType) -> Option<StreamId> {
        self.streams.open(ty)
    }

    /// Queues data on a stream, kept until it is acknowledged. The caller minds how much it has queued
    /// ([`Event::SendReleased`]).
    pub fn write(&mut self, id: StreamId, data: Bytes) -> Result<(), StreamError> {
        self.streams.write(id, data)
    }

    /// Ends our side of a stream after what was written.
    pub fn finish(&mut self, id: StreamId) -> Result<(), StreamError> {
        self.streams.finish(id)
    }

    /// Gives up our side of a stream (RESET_STREAM).
    pub fn reset(&mut self, id: StreamId, code: VarInt) -> Result<(), StreamError> {
        self.streams.reset(id, code)
    }

    /// Gives up our side of a stream but for its first `reliable` bytes, or what was written of them, which are still
    /// delivered (RESET_STREAM_AT, draft-ietf-quic-reliable-stream-reset). May be called again for fewer bytes; the first
    /// error code stays.
    ///
    /// # Errors
    /// [`StreamError::Unsupported`] unless the peer's transport parameters, of this very handshake, allow it.
    pub fn reset_at(&mut self, id: StreamId, code: VarInt, reliable: u64) -> Result<(), StreamError> {
        if !self.peer.reset_stream_at {
            return Err(StreamError::Unsupported);
        }
        self.streams.reset_at(id, code, reliable)
    }

    /// Asks the peer to stop sending on a stream (STOP_SENDING).
    pub fn stop_sending(&mut self, id: StreamId, code: VarInt) -> Result<(), StreamError> {
        self.streams.stop_sending(id, code)
    }

    /// Takes received data in order, without moving flow control: see [`release`](Self::release).
    pub fn read(&mut self, id: StreamId) -> Result<ReadOutcome, StreamError> {
        self.streams.read(id)
    }

    /// The application is done with `bytes` bytes of a stream: the peer may send that much more.
    pub fn release(&mut self, id: StreamId, bytes: u64) {
        self.streams.release(id, bytes);
    }

    /// Streams with a higher priority are sent first. The default is 0.
    pub fn set_priority(&mut self, id: StreamId, priority: i8) -> Result<(), StreamError> {
        self.streams.set_priority(id, priority)
    }

    /// Queues a datagram (RFC 9221). It is sent at most once; if the queue is full, the oldest are dropped.
    pub fn send_datagram(&mut self, datagram: Bytes) -> Result<(), DatagramError> {
        self.datagrams.send(datagram)
    }

    /// Payload bytes of the datagrams queued and not sent yet.
    pub fn queued_datagram_bytes(&self) -> usize {
        self.datagrams.queued()
    }

    /// The oldest datagram received and not yet read.
    pub fn read_datagram(&mut self) -> Option<Bytes> {
        self.datagrams.recv()
    }

    /// Bytes of the largest datagram that can be sent now; `None` if the peer takes none.
    pub fn max_datagram_size(&self) -> Option<usize> {
        self.datagrams.max_len()
    }

    /// What became of datagrams so far.
    pub fn datagram_stats(&self) -> crate::datagram::DatagramStats {
        self.datagrams.stats()
    }

    /// Server: gives the client an address token for its next connection (NEW_TOKEN, RFC 9000 §8.1.3).
    pub fn send_token(&mut self, token: Bytes) {
        if self.role.is_server() && !token.is_empty() && !self.is_closed_or_closing() {
            self.control.new_token = Some(token);
            self.control.new_token_delivery = Delivery::Wanted;
        }
    }

    /// Sends a PING.
    pub fn ping(&mut self) {
        self.app.ping = true;
    }

    /// The device sends UDP payloads of at most `most` bytes on these paths: larger ones are not even tried. To be said
    /// before anything is sent; sizes below 1200 count as that (RFC 9000 §14.1).
    pub fn limit_datagrams(&mut self, most: u16) {
        self.device_limit = most;
        for path in self.paths.iter_mut() {
            path.mtu.limit_to(most.into());
        }
    }

    /// The device sends UDP payloads of at most `most` bytes from now on: its MTU has changed, or it is another device.
    /// Paths send no larger ones any more, or search for larger ones. Cheap to say again.
    pub fn on_device_limit(&mut self, now: Timestamp, most: u16) {
        if most == self.device_limit {
            return;
        }
        self.device_limit = most;
        let most = self.peer.max_udp_payload.min(most.into()).min(self.config.max_udp_payload.into());
        for path in self.paths.iter_mut() {
            if let Some(size) = path.mtu.on_limit(most, now) {
                path.congestion.on_mtu(size);
            }
        }
        self.datagrams_room_changed();
    }

    /// Which end this is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// QUIC version in use.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The application protocol agreed on, once it is.
    pub fn alpn(&self) -> Option<&Bytes> {
        self.alpn.as_ref()
    }

    /// How the handshake went, once it is complete.
    pub fn handshake_outcome(&self) -> HandshakeOutcome {
        self.outcome
    }

    /// Client: may data be sent ahead of the handshake's end (0-RTT)? True only until it ends;
    /// [`Event::EarlyData`] tells what became of it.
    pub fn sends_early_data(&self) -> bool {
        self.role.is_client() && self.handshake.as_ref().is_some_and(|handshake| handshake.zero_rtt.is_some())
    }

    /// Server: did some of this stream of the client's come in 0-RTT packets? Then it may be an attacker's replay (RFC
    /// 9001 §9.2), until the handshake is complete.
    pub fn is_early(&self, id: StreamId) -> bool {
        let number = id.as_varint().as_u64() >> 2;
        let opened = match id.stream_type() {
            StreamType::Bidirectional => self.early_streams[0],
            StreamType::Unidirectional => self.early_streams[1],
        };
        id.initiator() == self.role.peer().endpoint_type() && number < opened
    }

    /// All connection IDs that lead to this connection: for the demux's table.
    pub fn local_cids(&self) -> impl Iterator<Item = Cid> {
        self.local_cids.iter()
    }

    /// Has TLS come to its end?
    pub fn is_handshake_complete(&self) -> bool {
        !matches!(self.state, State::Handshaking) && self.keys.is_some()
    }

    /// Is the peer known to be done with the handshake too?
    pub fn is_handshake_confirmed(&self) -> bool {
        self.is_confirmed()
    }

    /// Is it over, though packets may still be sent?
    pub fn is_closed(&self) -> bool {
        self.is_closed_or_closing()
    }

    /// Is nothing left to do?
    pub fn is_drained(&self) -> bool {
        matches!(self.state, State::Drained)
    }

    /// Has it been silent for so long that it has given back the memory that only traffic needs?
    pub fn is_at_rest(&self) -> bool {
        self.keys.as_ref().is_some_and(|keys| keys.is_at_rest())
    }
}

#[cfg(test)]
impl Connection {
    /// Sends a 1-RTT packet with this payload, however wrong, as soon as it is polled.
    pub(crate) fn send_raw(&mut self, now: s2n_quic_core::time::Timestamp, payload: &[u8]) {
        self.now = now;
        self.raw = Some(payload.to_vec());
    }

    /// Does the handshake under way continue an earlier session?
    pub(crate) fn is_resumed(&self) -> bool {
        let tls = self.handshake.as_ref().and_then(|handshake| handshake.tls.as_ref());
        tls.is_some_and(|tls| tls.is_resumed())
    }

    /// Sets how many packets were sent and how many forged ones came under the current keys, given both limits. Gives
    /// the integrity limit.
    pub(crate) fn wear_keys(&mut self, wear: impl FnOnce((u64, u64)) -> (u64, u64)) -> u64 {
        self.keys.as_mut().expect("1-RTT keys").wear(wear)
    }

    /// Updates the keys whether that is allowed or not.
    pub(crate) fn force_key_update(&mut self) {
        self.keys.as_mut().expect("1-RTT keys").update();
    }

    /// Takes the connection apart and tells what its parts hold on the heap.
    pub(crate) fn memory(self) -> Vec<(&'static str, i64)> {
        use allocation_counter::measure;
        // Shared among connections.
        let _generator = self.local_cids.generator();
        let mut parts = Vec::new();
        let mut part = |name, drop: &mut dyn FnMut()| parts.push((name, -measure(drop).bytes_current));
        let Self { keys, handshake, app, app_crypto, tls, streams, datagrams, paths, events, .. } = self;
        let (mut keys, mut handshake, mut app, mut tls) = (Some(keys), Some(handshake), Some(app), Some(tls));
        let (mut app_crypto, mut streams, mut datagrams) = (Some(app_crypto), Some(streams), Some(datagrams));
        let (mut paths, mut events) = (Some(paths), Some(events));
        let (mut local, mut peer) = (Some(self.local_cids), Some(self.peer_cids));
        part("keys", &mut || drop(keys.take()));
        part("handshake", &mut || drop(handshake.take()));
        part("space", &mut || drop(app.take()));
        part("crypto", &mut || drop(app_crypto.take()));
        part("tls", &mut || drop(tls.take()));
        part("streams", &mut || drop(streams.take()));
        part("datagrams", &mut || drop(datagrams.take()));
        part("paths", &mut || drop(paths.take()));
        part("events", &mut || drop(events.take()));
        part("local IDs", &mut || drop(local.take()));
        part("peer IDs", &mut || drop(peer.take()));
        parts
    }

    /// How many 0-RTT and 1-RTT packets are remembered, and of these, how many apart from the others.
    pub(crate) fn sent_packets(&self) -> (usize, usize) {
        self.app.sent.kept()
    }

    /// The next 1-RTT packet number to send.
    pub(crate) fn next_number(&self) -> u64 {
        self.app.sent.next_number()
    }
}

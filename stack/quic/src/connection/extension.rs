//! Frames of extensions: ACK frequency (draft-ietf-quic-ack-frequency), address discovery
//! (draft-ietf-quic-address-discovery) and resets that leave the start of a stream standing
//! (draft-ietf-quic-reliable-stream-reset). All are negotiated by transport parameters and off by default.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use s2n_codec::{DecoderBuffer, Encoder};
use s2n_quic_core::transport::parameters::MaxAckDelay;
use s2n_quic_core::varint::VarInt;

use super::frames::{Content, FrameContext};
use super::params::Parameters;
use super::{Connection, Delivery};
use crate::config::{ACK_DELAY_BOUND, AckRequest, AddressDiscovery};
use crate::error::TransportError;
use crate::frame::{FrameWriter, ResetStreamAt, SentFrame, varint};
use crate::packet::PacketKind;

/// IMMEDIATE_ACK.
const IMMEDIATE_ACK: u64 = 0x1f;

/// ACK_FREQUENCY.
const ACK_FREQUENCY: u64 = 0xaf;

/// OBSERVED_ADDRESS with an IPv4 and with an IPv6 address.
const OBSERVED_V4: u64 = 0x009f_81a6;
const OBSERVED_V6: u64 = 0x009f_81a7;

/// RESET_STREAM_AT.
const RESET_STREAM_AT: u64 = ResetStreamAt::TAG as u64;

/// What the extensions remember. Only connections that use one have it.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    /// The peer takes ACK_FREQUENCY, and asks for no less delay than this.
    peer_min_ack_delay: Option<Duration>,
    /// Our ACK_FREQUENCY frame is to be sent, or on its way.
    request: Delivery,
    /// Sequence number of the next one.
    request_sequence: u64,
    /// Sequence number after the newest frame of the peer.
    next_requested: u64,
    /// We tell the peer where we see it.
    tells_addresses: bool,
    /// Sequence number of the next OBSERVED_ADDRESS.
    told_sequence: u64,
    /// Where the peer says it sees us, and the sequence number it said so under.
    observed: Option<(u64, SocketAddr)>,
}

impl Extensions {
    /// Our request was lost or has arrived.
    pub(super) fn on_request(&mut self, arrived: bool) {
        if self.request == Delivery::Sent {
            self.request = if arrived { Delivery::Idle } else { Delivery::Wanted };
        }
    }
}

type Outcome<T> = Result<T, TransportError>;

impl Connection {
    /// Our address as the peer last saw it (draft-ietf-quic-address-discovery), if it was asked to tell.
    pub fn observed_address(&self) -> Option<SocketAddr> {
        self.extensions.as_ref()?.observed.map(|(_, address)| address)
    }

    /// The peer's parameters have come: what of the extensions is in use?
    pub(super) fn negotiate_extensions(&mut self, parameters: &Parameters) {
        let wants_acks = self.config.ack_request.is_some() && parameters.min_ack_delay.is_some();
        let told = |mine: Option<AddressDiscovery>| mine.is_some_and(|mine| mine.provides());
        let asked = |peer: Option<AddressDiscovery>| peer.is_some_and(|peer| peer.requests());
        let tells = told(self.config.address_discovery) && asked(parameters.address_discovery);
        let receives = self.config.min_ack_delay.is_some() || self.config.address_discovery.is_some();
        if !(wants_acks || tells || receives) {
            return;
        }
        self.extensions = Some(Box::new(Extensions {
            peer_min_ack_delay: parameters.min_ack_delay.map(Duration::from_micros),
            request: if wants_acks { Delivery::Wanted } else { Delivery::Idle },
            tells_addresses: tells,
            ..Extensions::default()
        }));
    }

    /// Is there an extension's frame for a 1-RTT packet?
    #[inline]
    pub(super) fn extensions_want(&self) -> bool {
        self.extensions.as_ref().is_some_and(|extensions| {
            extensions.request == Delivery::Wanted
                || extensions.tells_addresses && self.paths.active.address == Delivery::Wanted
        })
    }

    /// Writes the extensions' frames for the path in use.
    #[inline]
    pub(super) fn write_extension_frames(&mut self, writer: &mut FrameWriter<'_, '_>) {
        if self.extensions_want() {
            self.write_ack_frequency(writer);
            self.write_observed_address(self.paths.active.id, writer);
        }
    }

    fn write_ack_frequency(&mut self, writer: &mut FrameWriter<'_, '_>) {
        let (Some(extensions), Some(request)) = (&mut self.extensions, self.config.ack_request) else {
            return;
        };
        if extensions.request != Delivery::Wanted || writer.remaining() < 1 + 5 * 8 {
            return;
        }
        let AckRequest { threshold, max_delay, reordering } = request;
        let delay = max_delay.max(extensions.peer_min_ack_delay.unwrap_or_default());
        let fields = [
            ACK_FREQUENCY,
            extensions.request_sequence,
            u64::from(threshold),
            delay.as_micros() as u64,
            u64::from(reordering),
        ];
        for field in fields {
            writer.encoder().encode(&varint(field));
        }
        writer.record(SentFrame::AckFrequency);
        extensions.request = Delivery::Sent;
        extensions.request_sequence += 1;
        // Probe timeouts reckon with the longer of both delays from now on.
        let millis = delay.as_micros().div_ceil(1000) as u64;
        if let Ok(delay) = MaxAckDelay::try_from(VarInt::new(millis).unwrap_or_default()) {
            for path in self.paths.iter_mut() {
                if path.rtt.max_ack_delay() < Duration::from_millis(millis) {
                    path.rtt.on_max_ack_delay(delay);
                }
            }
        }
    }

    /// OBSERVED_ADDRESS for this path, if it is wanted.
    pub(super) fn write_observed_address(&mut self, path: u8, writer: &mut FrameWriter<'_, '_>) {
        let Some(extensions) = self.extensions.as_mut().filter(|extensions| extensions.tells_addresses)
        else {
            return;
        };
        let Some(path) = self.paths.by_id(path).filter(|path| path.address == Delivery::Wanted) else {
            return;
        };
        if writer.remaining() < 4 + 8 + 16 + 2 {
            return;
        }
        let (tag, remote) = match path.net.remote.ip().to_canonical() {
            ip @ IpAddr::V4(_) => (OBSERVED_V4, ip),
            ip @ IpAddr::V6(_) => (OBSERVED_V6, ip),
        };
        let encoder = writer.encoder();
        encoder.encode(&varint(tag));
        encoder.encode(&varint(extensions.told_sequence));
        match remote {
            IpAddr::V4(ip) => encoder.write_slice(&ip.octets()),
            IpAddr::V6(ip) => encoder.write_slice(&ip.octets()),
        }
        encoder.write_slice(&path.net.remote.port().to_be_bytes());
        writer.record(SentFrame::ObservedAddress);
        path.address = Delivery::Sent;
        extensions.told_sequence += 1;
    }

    /// A frame of no type that RFC 9000 knows. Gives its length.
    #[cold]
    pub(super) fn on_extension_frame(
        &mut self,
        context: &FrameContext,
        content: &mut Content,
        bytes: &[u8],
    ) -> Outcome<usize> {
        let unknown = || TransportError::FRAME_ENCODING_ERROR.with_reason("unknown frame type");
        let malformed = |_| TransportError::FRAME_ENCODING_ERROR.with_reason("malformed frame");
        let (tag, buffer) = DecoderBuffer::new(bytes).decode::<VarInt>().map_err(|_| unknown())?;
        let taken = bytes.len() - buffer.len();
        // RFC 9000 §12.4: types are written as short as can be.
        if taken != s2n_codec::EncoderValue::encoding_size(&tag) {
            return Err(unknown());
        }
        let known = match tag.as_u64() {
            IMMEDIATE_ACK | ACK_FREQUENCY => self.config.min_ack_delay.is_some(),
            OBSERVED_V4 | OBSERVED_V6 => self.config.address_discovery.is_some(),
            RESET_STREAM_AT => self.config.reset_stream_at,
            _ => false,
        };
        if !known {
            return Err(unknown());
        }
        // Of the parameters only that of RESET_STREAM_AT is remembered for 0-RTT, and the handshake's packets have no room
        // for extensions.
        let early = context.kind == PacketKind::ZeroRtt && tag.as_u64() == RESET_STREAM_AT;
        if context.kind != PacketKind::OneRtt && !early {
            return Err(TransportError::PROTOCOL_VIOLATION.with_reason("a frame its packet must not carry"));
        }
        content.eliciting = true;
        let rest = match tag.as_u64() {
            IMMEDIATE_ACK => {
                content.non_probing = true;
                self.app.acks.hurry();
                buffer
            }
            ACK_FREQUENCY => {
                content.non_probing = true;
                let mut fields = [0; 4];
                let mut buffer = buffer;
                for field in &mut fields {
                    let (value, rest) = buffer.decode::<VarInt>().map_err(malformed)?;
                    (*field, buffer) = (value.as_u64(), rest);
                }
                self.on_ack_frequency(fields)?;
                buffer
            }
            RESET_STREAM_AT => {
                content.non_probing = true;
                let (frame, buffer) = ResetStreamAt::decode(buffer).map_err(malformed)?;
                self.streams.on_reset_stream_at(&frame)?;
                buffer
            }
            tag => {
                let (sequence, buffer) = buffer.decode::<VarInt>().map_err(malformed)?;
                let len = if tag == OBSERVED_V4 { 4 } else { 16 };
                let (ip, buffer) = buffer.decode_slice(len).map_err(malformed)?;
                let (port, buffer) = buffer.decode::<u16>().map_err(malformed)?;
                let ip = ip.into_less_safe_slice();
                let ip = match <[u8; 4]>::try_from(ip) {
                    Ok(ip) => IpAddr::from(ip),
                    Err(_) => IpAddr::from(<[u8; 16]>::try_from(ip).unwrap_or_default()),
                };
                self.on_observed_address(sequence.as_u64(), SocketAddr::new(ip, port))?;
                buffer
            }
        };
        Ok(bytes.len() - rest.len())
    }

    fn on_ack_frequency(&mut self, [sequence, threshold, delay, reordering]: [u64; 4]) -> Outcome<()> {
        let delay = Duration::from_micros(delay);
        let least = self.config.min_ack_delay.unwrap_or_default();
        if delay < least || delay >= ACK_DELAY_BOUND {
            return Err(
                TransportError::PROTOCOL_VIOLATION.with_reason("ACK_FREQUENCY asks for a wrong delay")
            );
        }
        let extensions = self.extensions.get_or_insert_default();
        if sequence < extensions.next_requested {
            return Ok(());
        }
        extensions.next_requested = sequence + 1;
        // Theirs are packets that go by without an ACK, ours those after which one is sent.
        self.ack_policy.threshold = u8::try_from(threshold.saturating_add(1)).unwrap_or(u8::MAX);
        self.ack_policy.max_delay = delay;
        self.ack_policy.reordering = reordering;
        Ok(())
    }

    fn on_observed_address(&mut self, sequence: u64, address: SocketAddr) -> Outcome<()> {
        if !self.config.address_discovery.is_some_and(|ours| ours.requests()) {
            return Err(TransportError::PROTOCOL_VIOLATION.with_reason("an address nobody asked for"));
        }
        let extensions = self.extensions.get_or_insert_default();
        if extensions.observed.is_none_or(|(newest, _)| sequence > newest) {
            extensions.observed = Some((sequence, address));
        }
        Ok(())
    }
}

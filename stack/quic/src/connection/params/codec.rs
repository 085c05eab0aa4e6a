//! Transport parameters on the wire (RFC 9000 §18). Everything wrong is a TRANSPORT_PARAMETER_ERROR (RFC 9000 §7.4).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use s2n_codec::{DecoderBuffer, DecoderError, Encoder, EncoderBuffer, EncoderValue};
use s2n_quic_core::varint::VarInt;
use smallvec::SmallVec;

use super::{CibirEncoding, Parameters, PreferredAddress, VersionInformation};
use crate::cid::Cid;
use crate::config::{AddressDiscovery, MAX_STREAMS};
use crate::error::TransportError;
use crate::frame::varint;
use crate::role::Role;

/// Bytes all our parameters fit in.
const MAX_ENCODED_LEN: usize = 512;

/// Parameters a peer may send, known to us or not. RFC 9000 names 17; a list this long is an attack.
const MAX_PARAMETERS: usize = 128;

mod id {
    pub(super) const ORIGINAL_DCID: u64 = 0x00;
    pub(super) const MAX_IDLE_TIMEOUT: u64 = 0x01;
    pub(super) const STATELESS_RESET_TOKEN: u64 = 0x02;
    pub(super) const MAX_UDP_PAYLOAD_SIZE: u64 = 0x03;
    pub(super) const INITIAL_MAX_DATA: u64 = 0x04;
    pub(super) const INITIAL_MAX_STREAM_DATA_BIDI_LOCAL: u64 = 0x05;
    pub(super) const INITIAL_MAX_STREAM_DATA_BIDI_REMOTE: u64 = 0x06;
    pub(super) const INITIAL_MAX_STREAM_DATA_UNI: u64 = 0x07;
    pub(super) const INITIAL_MAX_STREAMS_BIDI: u64 = 0x08;
    pub(super) const INITIAL_MAX_STREAMS_UNI: u64 = 0x09;
    pub(super) const ACK_DELAY_EXPONENT: u64 = 0x0a;
    pub(super) const MAX_ACK_DELAY: u64 = 0x0b;
    pub(super) const DISABLE_ACTIVE_MIGRATION: u64 = 0x0c;
    pub(super) const PREFERRED_ADDRESS: u64 = 0x0d;
    pub(super) const ACTIVE_CONNECTION_ID_LIMIT: u64 = 0x0e;
    pub(super) const INITIAL_SCID: u64 = 0x0f;
    pub(super) const RETRY_SCID: u64 = 0x10;
    /// RFC 9368 §3.
    pub(super) const VERSION_INFORMATION: u64 = 0x11;
    /// RFC 9221 §3.
    pub(super) const MAX_DATAGRAM_FRAME_SIZE: u64 = 0x20;
    /// draft-ietf-quic-ack-frequency.
    pub(super) const MIN_ACK_DELAY: u64 = 0xff04_de1b;
    /// draft-ietf-quic-address-discovery.
    pub(super) const ADDRESS_DISCOVERY: u64 = 0x9f81_a176;
    /// MsQuic's `QUIC_TP_ID_CIBIR_ENCODING`.
    pub(super) const CIBIR_ENCODING: u64 = 0x1000;
    /// draft-ietf-quic-reliable-stream-reset.
    pub(super) const RESET_STREAM_AT: u64 = 0x0017_f758_6d2c_b571;
    /// RFC 9287 §3.
    pub(super) const GREASE_QUIC_BIT: u64 = 0x2ab2;
}

impl Parameters {
    /// The bytes that go into the TLS extension. With `grease`, a reserved parameter is among them (RFC 9000 §18.1).
    pub(crate) fn encode(&self, grease: Option<u64>) -> Vec<u8> {
        let mut bytes = vec![0; MAX_ENCODED_LEN];
        let mut encoder = EncoderBuffer::new(&mut bytes);
        let default = Self::default();
        let mut number = |id: u64, value: u64, default: u64| {
            if value != default {
                let value = varint(value);
                encoder.encode(&varint(id));
                encoder.encode(&varint(value.encoding_size() as u64));
                encoder.encode(&value);
            }
        };
        number(id::MAX_IDLE_TIMEOUT, self.max_idle_timeout, 0);
        number(id::MAX_UDP_PAYLOAD_SIZE, self.max_udp_payload_size, default.max_udp_payload_size);
        number(id::INITIAL_MAX_DATA, self.initial_max_data, 0);
        number(id::INITIAL_MAX_STREAM_DATA_BIDI_LOCAL, self.initial_max_stream_data_bidi_local, 0);
        number(id::INITIAL_MAX_STREAM_DATA_BIDI_REMOTE, self.initial_max_stream_data_bidi_remote, 0);
        number(id::INITIAL_MAX_STREAM_DATA_UNI, self.initial_max_stream_data_uni, 0);
        number(id::INITIAL_MAX_STREAMS_BIDI, self.initial_max_streams_bidi, 0);
        number(id::INITIAL_MAX_STREAMS_UNI, self.initial_max_streams_uni, 0);
        number(id::ACK_DELAY_EXPONENT, u64::from(self.ack_delay_exponent), 3);
        number(id::MAX_ACK_DELAY, self.max_ack_delay, 25);
        number(id::ACTIVE_CONNECTION_ID_LIMIT, self.active_connection_id_limit, 2);
        number(id::MAX_DATAGRAM_FRAME_SIZE, self.max_datagram_frame_size, 0);
        if let Some(delay) = self.min_ack_delay {
            number(id::MIN_ACK_DELAY, delay, 0);
        }
        if let Some(discovery) = self.address_discovery {
            // No value of it is the default.
            number(id::ADDRESS_DISCOVERY, discovery as u64, u64::MAX);
        }
        let mut bytes_of = |id: u64, value: &[u8]| {
            encoder.encode(&varint(id));
            encoder.encode(&varint(value.len() as u64));
            encoder.write_slice(value);
        };
        let cids = [
            (id::ORIGINAL_DCID, &self.original_dcid),
            (id::INITIAL_SCID, &self.initial_scid),
            (id::RETRY_SCID, &self.retry_scid),
        ];
        for (id, cid) in cids {
            if let Some(cid) = cid {
                bytes_of(id, cid.as_slice());
            }
        }
        if let Some(token) = &self.stateless_reset_token {
            bytes_of(id::STATELESS_RESET_TOKEN, token);
        }
        for (id, set) in [
            (id::DISABLE_ACTIVE_MIGRATION, self.disable_active_migration),
            (id::GREASE_QUIC_BIT, self.grease_quic_bit),
            (id::RESET_STREAM_AT, self.reset_stream_at),
        ] {
            if set {
                bytes_of(id, &[]);
            }
        }
        if let Some(preferred) = &self.preferred_address {
            bytes_of(id::PREFERRED_ADDRESS, &preferred.encode());
        }
        if let Some(information) = &self.version_information {
            bytes_of(id::VERSION_INFORMATION, &information.encode(grease));
        }
        if let Some(cibir) = &self.cibir {
            bytes_of(id::CIBIR_ENCODING, &cibir.encode());
        }
        if let Some(random) = grease {
            // Identifiers of the form 31 * N + 27 are reserved to be ignored.
            let id = 31 * (random % (1 << 32)) + 27;
            bytes_of(id, &random.to_be_bytes()[..(random % 9) as usize]);
        }
        let len = encoder.len();
        bytes.truncate(len);
        bytes
    }

    /// Reads and checks what `sender` announced. Everything wrong is a TRANSPORT_PARAMETER_ERROR (RFC 9000 §7.4).
    pub(crate) fn decode(bytes: &[u8], sender: Role) -> Result<Self, TransportError> {
        let error = |reason| TransportError::TRANSPORT_PARAMETER_ERROR.with_reason(reason);
        let mut parameters = Self::default();
        let mut seen = Vec::new();
        let mut buffer = DecoderBuffer::new(bytes);
        while !buffer.is_empty() {
            let (id, value, rest) = split_parameter(buffer).map_err(|_| error("truncated parameter"))?;
            buffer = rest;
            if seen.contains(&id) {
                return Err(error("duplicate parameter"));
            }
            if seen.len() == MAX_PARAMETERS {
                return Err(error("too many parameters"));
            }
            seen.push(id);
            parameters.set(id, value, sender).map_err(error)?;
        }
        if parameters.min_ack_delay.is_some_and(|least| least > parameters.max_ack_delay * 1000) {
            return Err(error("min_ack_delay above max_ack_delay"));
        }
        Ok(parameters)
    }

    fn set(&mut self, id: u64, value: &[u8], sender: Role) -> Result<(), &'static str> {
        // RFC 9000 §18.2: these only a server may send.
        let server_only =
            [id::ORIGINAL_DCID, id::STATELESS_RESET_TOKEN, id::PREFERRED_ADDRESS, id::RETRY_SCID]
                .contains(&id);
        if server_only && sender.is_client() {
            return Err("parameter of a server from a client");
        }
        match id {
            id::ORIGINAL_DCID => self.original_dcid = Some(cid(value)?),
            id::MAX_IDLE_TIMEOUT => self.max_idle_timeout = number(value)?,
            id::STATELESS_RESET_TOKEN => {
                self.stateless_reset_token = Some(value.try_into().map_err(|_| "bad stateless_reset_token")?);
            }
            id::MAX_UDP_PAYLOAD_SIZE => {
                self.max_udp_payload_size = number(value)?;
                if self.max_udp_payload_size < 1200 {
                    return Err("max_udp_payload_size below 1200");
                }
            }
            id::INITIAL_MAX_DATA => self.initial_max_data = number(value)?,
            id::INITIAL_MAX_STREAM_DATA_BIDI_LOCAL => {
                self.initial_max_stream_data_bidi_local = number(value)?
            }
            id::INITIAL_MAX_STREAM_DATA_BIDI_REMOTE => {
                self.initial_max_stream_data_bidi_remote = number(value)?
            }
            id::INITIAL_MAX_STREAM_DATA_UNI => self.initial_max_stream_data_uni = number(value)?,
            id::INITIAL_MAX_STREAMS_BIDI => self.initial_max_streams_bidi = streams(value)?,
            id::INITIAL_MAX_STREAMS_UNI => self.initial_max_streams_uni = streams(value)?,
            id::ACK_DELAY_EXPONENT => {
                let exponent = number(value)?;
                self.ack_delay_exponent =
                    u8::try_from(exponent).ok().filter(|&e| e <= 20).ok_or("ack_delay_exponent above 20")?;
            }
            id::MAX_ACK_DELAY => {
                self.max_ack_delay = number(value)?;
                if self.max_ack_delay >= 1 << 14 {
                    return Err("max_ack_delay of 2^14 ms or more");
                }
            }
            id::DISABLE_ACTIVE_MIGRATION => self.disable_active_migration = flag(value)?,
            id::PREFERRED_ADDRESS => self.preferred_address = Some(PreferredAddress::decode(value)?),
            id::ACTIVE_CONNECTION_ID_LIMIT => {
                self.active_connection_id_limit = number(value)?;
                if self.active_connection_id_limit < 2 {
                    return Err("active_connection_id_limit below 2");
                }
            }
            id::INITIAL_SCID => self.initial_scid = Some(cid(value)?),
            id::RETRY_SCID => self.retry_scid = Some(cid(value)?),
            id::MAX_DATAGRAM_FRAME_SIZE => self.max_datagram_frame_size = number(value)?,
            id::GREASE_QUIC_BIT => self.grease_quic_bit = flag(value)?,
            id::RESET_STREAM_AT => self.reset_stream_at = flag(value)?,
            id::MIN_ACK_DELAY => self.min_ack_delay = Some(number(value)?),
            id::ADDRESS_DISCOVERY => {
                self.address_discovery = Some(match number(value)? {
                    0 => AddressDiscovery::Provide,
                    1 => AddressDiscovery::Request,
                    2 => AddressDiscovery::Both,
                    _ => return Err("bad address_discovery"),
                });
            }
            id::VERSION_INFORMATION => {
                self.version_information = Some(VersionInformation::decode(value, sender)?);
            }
            id::CIBIR_ENCODING => self.cibir = Some(CibirEncoding::decode(value)?),
            // RFC 9000 §7.4.2: unknown ones are ignored.
            _ => {}
        }
        Ok(())
    }
}

type Split<'a> = (u64, &'a [u8], DecoderBuffer<'a>);

fn split_parameter(buffer: DecoderBuffer<'_>) -> Result<Split<'_>, DecoderError> {
    let (id, buffer) = buffer.decode::<VarInt>()?;
    let (value, buffer) = buffer.decode_slice_with_len_prefix::<VarInt>()?;
    Ok((id.as_u64(), value.into_less_safe_slice(), buffer))
}

fn number(value: &[u8]) -> Result<u64, &'static str> {
    let value: VarInt = DecoderBuffer::new(value).decode_exact().map_err(|_| "bad number")?;
    Ok(value.as_u64())
}

fn streams(value: &[u8]) -> Result<u64, &'static str> {
    number(value)
        .and_then(|count| if count <= MAX_STREAMS { Ok(count) } else { Err("more than 2^60 streams") })
}

fn flag(value: &[u8]) -> Result<bool, &'static str> {
    if value.is_empty() { Ok(true) } else { Err("a parameter that should be empty is not") }
}

fn cid(value: &[u8]) -> Result<Cid, &'static str> {
    Cid::new(value).ok_or("connection ID longer than 20 bytes")
}

impl VersionInformation {
    /// With `grease`, a version among the available ones that is reserved to be passed over (RFC 9000 §15).
    fn encode(&self, grease: Option<u64>) -> Vec<u8> {
        let reserved = grease.map(|bits| (bits >> 32) as u32 & 0xf0f0_f0f0 | 0x0a0a_0a0a);
        std::iter::once(self.chosen)
            .chain(self.available.iter().copied())
            .chain(reserved)
            .flat_map(u32::to_be_bytes)
            .collect()
    }

    /// RFC 9368 §4 says what is malformed.
    fn decode(value: &[u8], sender: Role) -> Result<Self, &'static str> {
        const WRONG: &str = "bad version_information";
        let versions = value.chunks_exact(4);
        if !versions.remainder().is_empty() {
            return Err(WRONG);
        }
        let mut versions = versions.map(|bytes| u32::from_be_bytes(bytes.try_into().unwrap_or_default()));
        let chosen = versions.next().ok_or(WRONG)?;
        let mut available: SmallVec<[u32; 4]> = versions.collect();
        if chosen == 0 || available.contains(&0) || sender.is_client() && !available.contains(&chosen) {
            return Err(WRONG);
        }
        // Reserved ones will never be chosen.
        available.retain(|version| *version & 0x0f0f_0f0f != 0x0a0a_0a0a);
        Ok(Self { chosen, available })
    }
}

impl CibirEncoding {
    fn encode(&self) -> Vec<u8> {
        let numbers = [varint(self.length), varint(self.offset)];
        let mut bytes = vec![0; numbers.iter().map(EncoderValue::encoding_size).sum()];
        let mut encoder = EncoderBuffer::new(&mut bytes);
        numbers.iter().for_each(|number| encoder.encode(number));
        bytes
    }

    fn decode(value: &[u8]) -> Result<Self, &'static str> {
        const WRONG: &str = "bad cibir_encoding";
        let (length, rest) = DecoderBuffer::new(value).decode::<VarInt>().map_err(|_| WRONG)?;
        let offset: VarInt = rest.decode_exact().map_err(|_| WRONG)?;
        let (length, offset) = (length.as_u64(), offset.as_u64());
        // The longest connection ID of any version (RFC 8999 §5.3) is the bound, as in MsQuic.
        let fits = (1..=255).contains(&length) && offset <= 255 - length;
        if fits { Ok(Self { length, offset }) } else { Err(WRONG) }
    }
}

impl PreferredAddress {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(61);
        let v4 = self.v4.unwrap_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
        bytes.extend(v4.ip().octets());
        bytes.extend(v4.port().to_be_bytes());
        let v6 = self.v6.unwrap_or(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0));
        bytes.extend(v6.ip().octets());
        bytes.extend(v6.port().to_be_bytes());
        bytes.push(self.cid.len() as u8);
        bytes.extend(self.cid.as_slice());
        bytes.extend(self.reset_token);
        bytes
    }

    fn decode(value: &[u8]) -> Result<Self, &'static str> {
        const WRONG: &str = "bad preferred_address";
        let (v4, value) = value.split_first_chunk::<4>().ok_or(WRONG)?;
        let (v4_port, value) = value.split_first_chunk().ok_or(WRONG)?;
        let (v6, value) = value.split_first_chunk::<16>().ok_or(WRONG)?;
        let (v6_port, value) = value.split_first_chunk().ok_or(WRONG)?;
        let (&len, value) = value.split_first().ok_or(WRONG)?;
        let (id, value) = value.split_at_checked(usize::from(len)).ok_or(WRONG)?;
        // RFC 9000 §18.2: a zero-length connection ID is a TRANSPORT_PARAMETER_ERROR.
        let cid = Cid::new(id).filter(|cid| !cid.is_empty()).ok_or(WRONG)?;
        let v4 = SocketAddrV4::new(Ipv4Addr::from(*v4), u16::from_be_bytes(*v4_port));
        let v6 = SocketAddrV6::new(Ipv6Addr::from(*v6), u16::from_be_bytes(*v6_port), 0, 0);
        Ok(Self {
            v4: (v4.port() != 0 && !v4.ip().is_unspecified()).then_some(v4),
            v6: (v6.port() != 0 && !v6.ip().is_unspecified()).then_some(v6),
            cid,
            reset_token: value.try_into().map_err(|_| WRONG)?,
        })
    }
}

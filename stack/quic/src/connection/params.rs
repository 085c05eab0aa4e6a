//! Transport parameters: what each end announces (RFC 9000 §18). As bytes: `params/codec.rs`.
//!
//! Our own rather than s2n-quic-core's: that one narrows the peer's connection IDs to its own lengths, and can't carry
//! parameters of extensions it does not know.

mod codec;

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

use smallvec::SmallVec;

use crate::cid::{CibirId, Cid};
use crate::config::{AddressDiscovery, TransportConfig};
use crate::reset::RESET_TOKEN_LEN;

/// The address a server wishes to be reached at after the handshake (RFC 9000 §9.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PreferredAddress {
    pub(crate) v4: Option<SocketAddrV4>,
    pub(crate) v6: Option<SocketAddrV6>,
    pub(crate) cid: Cid,
    pub(crate) reset_token: [u8; RESET_TOKEN_LEN],
}

/// The version a side chose and those it speaks (RFC 9368 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VersionInformation {
    pub(crate) chosen: u32,
    pub(crate) available: SmallVec<[u32; 4]>,
}

/// Where all connection IDs of a side carry their CIBIR identifier: on the wire two varints, the length first.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct CibirEncoding {
    length: u64,
    offset: u64,
}

impl From<CibirId> for CibirEncoding {
    fn from(id: CibirId) -> Self {
        Self { length: id.bytes().len() as u64, offset: id.offset() as u64 }
    }
}

/// One side's transport parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parameters {
    pub(crate) original_dcid: Option<Cid>,
    pub(crate) max_idle_timeout: u64,
    pub(crate) stateless_reset_token: Option<[u8; RESET_TOKEN_LEN]>,
    pub(crate) max_udp_payload_size: u64,
    pub(crate) initial_max_data: u64,
    pub(crate) initial_max_stream_data_bidi_local: u64,
    pub(crate) initial_max_stream_data_bidi_remote: u64,
    pub(crate) initial_max_stream_data_uni: u64,
    pub(crate) initial_max_streams_bidi: u64,
    pub(crate) initial_max_streams_uni: u64,
    pub(crate) ack_delay_exponent: u8,
    pub(crate) max_ack_delay: u64,
    pub(crate) disable_active_migration: bool,
    pub(crate) preferred_address: Option<PreferredAddress>,
    pub(crate) active_connection_id_limit: u64,
    pub(crate) initial_scid: Option<Cid>,
    pub(crate) retry_scid: Option<Cid>,
    pub(crate) max_datagram_frame_size: u64,
    pub(crate) grease_quic_bit: bool,
    pub(crate) version_information: Option<VersionInformation>,
    /// Microseconds; never remembered for another connection.
    pub(crate) min_ack_delay: Option<u64>,
    pub(crate) address_discovery: Option<AddressDiscovery>,
    pub(crate) cibir: Option<CibirEncoding>,
    pub(crate) reset_stream_at: bool,
}

impl Default for Parameters {
    /// What holds for parameters that are not sent (RFC 9000 §18.2).
    fn default() -> Self {
        Self {
            original_dcid: None,
            max_idle_timeout: 0,
            stateless_reset_token: None,
            max_udp_payload_size: 65527,
            initial_max_data: 0,
            initial_max_stream_data_bidi_local: 0,
            initial_max_stream_data_bidi_remote: 0,
            initial_max_stream_data_uni: 0,
            initial_max_streams_bidi: 0,
            initial_max_streams_uni: 0,
            ack_delay_exponent: 3,
            max_ack_delay: 25,
            disable_active_migration: false,
            preferred_address: None,
            active_connection_id_limit: 2,
            initial_scid: None,
            retry_scid: None,
            max_datagram_frame_size: 0,
            grease_quic_bit: false,
            version_information: None,
            min_ack_delay: None,
            address_discovery: None,
            cibir: None,
            reset_stream_at: false,
        }
    }
}

impl Parameters {
    /// What we announce.
    pub(crate) fn local(config: &TransportConfig, initial_scid: Cid) -> Self {
        let idle = config.idle_timeout.map_or(0, |timeout| timeout.as_millis() as u64);
        Self {
            max_idle_timeout: idle,
            max_udp_payload_size: u64::from(config.max_udp_payload),
            initial_max_data: config.connection_window,
            initial_max_stream_data_bidi_local: config.stream_window,
            initial_max_stream_data_bidi_remote: config.stream_window,
            initial_max_stream_data_uni: config.stream_window,
            initial_max_streams_bidi: config.max_bidi_streams,
            initial_max_streams_uni: config.max_uni_streams,
            ack_delay_exponent: config.ack_delay_exponent,
            max_ack_delay: config.max_ack_delay.as_millis() as u64,
            disable_active_migration: !config.migration,
            active_connection_id_limit: u64::from(config.active_connection_id_limit),
            initial_scid: Some(initial_scid),
            max_datagram_frame_size: if config.datagram_receive_buffer.is_some() { 65535 } else { 0 },
            grease_quic_bit: config.grease,
            min_ack_delay: config.min_ack_delay.map(|delay| delay.as_micros() as u64),
            address_discovery: config.address_discovery,
            reset_stream_at: config.reset_stream_at,
            ..Self::default()
        }
    }

    /// Client: may these parameters follow 0-RTT data sent under the remembered ones? Limits must not have shrunk (RFC
    /// 9000 §7.4.1).
    pub(crate) fn keeps_promises_of(&self, remembered: &Self) -> bool {
        self.active_connection_id_limit >= remembered.active_connection_id_limit
            && self.initial_max_data >= remembered.initial_max_data
            && self.initial_max_stream_data_bidi_local >= remembered.initial_max_stream_data_bidi_local
            && self.initial_max_stream_data_bidi_remote >= remembered.initial_max_stream_data_bidi_remote
            && self.initial_max_stream_data_uni >= remembered.initial_max_stream_data_uni
            && self.initial_max_streams_bidi >= remembered.initial_max_streams_bidi
            && self.initial_max_streams_uni >= remembered.initial_max_streams_uni
            && self.max_datagram_frame_size >= remembered.max_datagram_frame_size
            && self.reset_stream_at >= remembered.reset_stream_at
    }
}

impl PreferredAddress {
    /// The address of the family in use.
    pub(crate) fn like(&self, address: SocketAddr) -> Option<SocketAddr> {
        match address {
            SocketAddr::V4(_) => self.v4.map(SocketAddr::V4),
            SocketAddr::V6(_) => self.v6.map(SocketAddr::V6),
        }
    }
}

#[cfg(test)]
mod tests;

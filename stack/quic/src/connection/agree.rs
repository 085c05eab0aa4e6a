//! The peer's transport parameters, once the handshake brings them: whether they belong to this handshake (RFC 9000
//! §7.3), what became of 0-RTT, and what holds from now on.

use std::time::Duration;

use s2n_quic_core::time::Timestamp;
use s2n_quic_core::transport::parameters::MaxAckDelay;
use s2n_quic_core::varint::VarInt;

use super::Connection;
use super::params::Parameters;
use crate::cid::Cid;
use crate::error::TransportError;
use crate::event::Event;
use crate::packet::SpaceId;
use crate::stream::PeerLimits;

type Outcome = Result<(), TransportError>;

impl Connection {
    /// The peer's transport parameters have come.
    pub(super) fn on_peer_parameters(&mut self, now: Timestamp, bytes: &[u8]) -> Outcome {
        let parameters = Parameters::decode(bytes, self.role.peer())?;
        self.authenticate_cids(&parameters)?;
        self.check_versions(&parameters)?;
        self.log_parameters(now, false, &parameters);
        if parameters.cibir != self.local_cids.cibir() {
            let reason = "the CIBIR encodings of both ends differ";
            return Err(TransportError::TRANSPORT_PARAMETER_ERROR.with_reason(reason));
        }
        if self.role.is_client() {
            self.settle_early_data(&parameters)?;
        }
        let idle = Duration::from_millis(parameters.max_idle_timeout);
        // RFC 9000 §10.1: the smaller of both, where 0 means none.
        if !idle.is_zero() {
            self.idle_timeout = Some(self.idle_timeout.map_or(idle, |own| own.min(idle)));
        }
        self.restart_idle_timers(now);
        self.peer.ack_delay_exponent = parameters.ack_delay_exponent;
        self.peer.disable_active_migration = parameters.disable_active_migration;
        self.peer.max_udp_payload = parameters.max_udp_payload_size;
        self.peer.grease_quic_bit = parameters.grease_quic_bit;
        self.peer.reset_stream_at = parameters.reset_stream_at;
        let delay = MaxAckDelay::try_from(VarInt::new(parameters.max_ack_delay).unwrap_or_default());
        for path in self.paths.iter_mut() {
            path.rtt.on_max_ack_delay(delay.unwrap_or_default());
            path.mtu.limit_to(parameters.max_udp_payload_size);
        }
        if let Some(token) = parameters.stateless_reset_token {
            self.peer_cids.set_first_token(token);
        }
        if let Some(preferred) = &parameters.preferred_address {
            self.peer_cids.add_preferred(preferred.cid, preferred.reset_token);
            let remote = preferred.like(self.paths.active.net.remote);
            if let Some(handshake) = &mut self.handshake {
                handshake.preferred = remote;
            }
        }
        let events = &mut self.events;
        self.local_cids.on_peer_limit(parameters.active_connection_id_limit, |event| events.push_back(event));
        self.negotiate_extensions(&parameters);
        self.apply_limits(&parameters);
        Ok(())
    }

    pub(super) fn apply_limits(&mut self, parameters: &Parameters) {
        self.streams.on_peer_parameters(&PeerLimits {
            max_data: parameters.initial_max_data,
            max_stream_data_bidi_local: parameters.initial_max_stream_data_bidi_local,
            max_stream_data_bidi_remote: parameters.initial_max_stream_data_bidi_remote,
            max_stream_data_uni: parameters.initial_max_stream_data_uni,
            max_streams_bidi: parameters.initial_max_streams_bidi,
            max_streams_uni: parameters.initial_max_streams_uni,
        });
        self.datagrams.on_peer_parameters(parameters.max_datagram_frame_size);
    }

    /// RFC 9000 §7.3: the connection IDs of the handshake packets are those the parameters vouch for.
    fn authenticate_cids(&self, parameters: &Parameters) -> Outcome {
        let Some(handshake) = &self.handshake else { return Ok(()) };
        let error = |reason| Err(TransportError::TRANSPORT_PARAMETER_ERROR.with_reason(reason));
        if parameters.initial_scid.is_none() || parameters.initial_scid != handshake.peer_scid {
            return error("initial_source_connection_id is missing or another");
        }
        if self.role.is_server() {
            return Ok(());
        }
        if parameters.original_dcid != Some(handshake.original_dcid) {
            return error("original_destination_connection_id is missing or another");
        }
        if parameters.retry_scid != handshake.retry_scid {
            return error("retry_source_connection_id is missing or another");
        }
        if parameters.preferred_address.is_some() && handshake.peer_scid == Some(Cid::EMPTY) {
            return error("preferred_address with a zero-length connection ID");
        }
        Ok(())
    }

    /// Client: learns what became of 0-RTT (RFC 9001 §4.6.2).
    fn settle_early_data(&mut self, parameters: &Parameters) -> Outcome {
        let Some(handshake) = &mut self.handshake else { return Ok(()) };
        // RFC 9001 §5.6: from now on packets have 1-RTT keys.
        handshake.zero_rtt = None;
        let Some(remembered) = handshake.remembered.take() else { return Ok(()) };
        let accepted = handshake.tls.as_ref().and_then(|tls| tls.early_data_accepted()).unwrap_or(false);
        if accepted {
            if !parameters.keeps_promises_of(&remembered) {
                return Err(TransportError::PROTOCOL_VIOLATION.with_reason("limits below those of 0-RTT"));
            }
        } else {
            self.streams.on_zero_rtt_rejected();
            self.discard_sent(SpaceId::App);
        }
        self.event(Event::EarlyData { accepted });
        Ok(())
    }
}

//! What an application may set on its connections' transport.

use std::net::{SocketAddrV4, SocketAddrV6};
use std::time::Duration;

use s2n_quic_core::varint::MAX_VARINT_VALUE;

use crate::header::{VERSION_1, VERSION_2};
use crate::qlog::Logs;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Smallest UDP payload every QUIC path must carry (RFC 9000 §14).
pub const MIN_UDP_PAYLOAD: u16 = 1200;

/// Largest value of the max_udp_payload_size parameter (RFC 9000 §18.2).
pub const MAX_UDP_PAYLOAD: u16 = 65527;

/// Most streams of one type a connection can have (RFC 9000 §4.6).
pub const MAX_STREAMS: u64 = 1 << 60;

/// Least value of active_connection_id_limit (RFC 9000 §18.2).
pub const MIN_ACTIVE_CIDS: u8 = 2;

/// Most peer connection IDs we keep. Each costs about 40 bytes; nobody migrates over more than a few paths at once.
pub const MAX_ACTIVE_CIDS: u8 = 8;

/// Values of max_ack_delay from here on are invalid (RFC 9000 §18.2).
pub const ACK_DELAY_BOUND: Duration = Duration::from_millis(1 << 14);

/// Largest ack_delay_exponent (RFC 9000 §18.2).
pub const MAX_ACK_DELAY_EXPONENT: u8 = 20;

/// Least CRYPTO data an endpoint must be able to buffer (RFC 9000 §7.5).
pub const MIN_CRYPTO_BUFFER: usize = 4096;

/// Congestion control algorithms.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum Congestion {
    /// CUBIC (RFC 9438) with HyStart++ (RFC 9406).
    #[default]
    Cubic,
    /// BBR version 2, as s2n-quic-core builds it.
    Bbr,
}

/// What we ask of a peer that lets us say when to acknowledge (draft-ietf-quic-ack-frequency).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct AckRequest {
    /// Ack-eliciting packets that may go by without an acknowledgement.
    pub threshold: u32,
    /// Longest time an acknowledgement is to be held back, below 2^14 ms.
    pub max_delay: Duration,
    /// Packet numbers by which a packet may be late before it is reported at once; 0: never.
    pub reordering: u32,
}

/// Telling each other where one is seen from (draft-ietf-quic-address-discovery).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum AddressDiscovery {
    /// Tell the peer, if it asks.
    Provide,
    /// Ask the peer.
    Request,
    /// Both.
    Both,
}

impl AddressDiscovery {
    pub(crate) fn provides(self) -> bool {
        self != Self::Request
    }

    pub(crate) fn requests(self) -> bool {
        self != Self::Provide
    }
}

/// A setting that can't work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("transport setting `{setting}` is {value}: {advice}")]
pub struct TransportConfigError {
    /// Name of the setting.
    pub setting: &'static str,
    /// The value it has.
    pub value: String,
    /// What would be right.
    pub advice: &'static str,
}

/// Declares each setting once: its documentation, type and default, as a public field and as a builder method.
macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr;)+) => {
        /// Transport settings of a connection, with defaults for data centres and links of up to 10 Gbit/s.
        ///
        /// Set what differs and leave the rest:
        ///
        /// ```
        /// use std::time::Duration;
        /// use wirepath_quic::config::TransportConfig;
        ///
        /// let config = TransportConfig::default().max_bidi_streams(1000).idle_timeout(Some(Duration::from_secs(60)));
        /// assert!(config.validate().is_ok());
        /// ```
        #[derive(Clone, Debug, PartialEq)]
        pub struct TransportConfig {
            $($(#[doc = $doc])+ pub $name: $type,)+
        }

        impl Default for TransportConfig {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl TransportConfig {
            $($(#[doc = $doc])+
            #[must_use]
            pub fn $name(mut self, $name: $type) -> Self {
                self.$name = $name;
                self
            })+
        }
    };
}

settings! {
    /// QUIC versions spoken, the preferred first. A client offers them all and starts with one of them; a server accepts
    /// each, and goes on in its preferred one of those the client offers (RFC 9368 §2). Default: 1, then 2 (RFC 9369).
    versions: Vec<u32> = vec![VERSION_1, VERSION_2];

    /// Bytes the peer may send on each new stream before we say more (flow control, RFC 9000 §4.1). Default 1 MiB: a
    /// millisecond at 10 Gbit/s.
    stream_window: u64 = MIB;

    /// Bytes to which a stream's window may grow while the application reads as fast as data comes. Default 16 MiB:
    /// 10 Gbit/s at a round trip of 13 ms.
    max_stream_window: u64 = 16 * MIB;

    /// Bytes the peer may send on all streams of a connection before we say more. Default 4 MiB.
    connection_window: u64 = 4 * MIB;

    /// Bytes to which the connection's window may grow: a bound of the memory one peer can fill with unread data.
    /// Default 32 MiB.
    max_connection_window: u64 = 32 * MIB;

    /// Bytes a writer may have in a stream that are not yet acknowledged; writing waits beyond. Default 4 MiB.
    send_buffer: u64 = 4 * MIB;

    /// Bidirectional streams the peer may have open at a time. Default 512.
    max_bidi_streams: u64 = 512;

    /// Unidirectional streams the peer may have open at a time. Default 512.
    max_uni_streams: u64 = 512;

    /// Bytes of one stream sent before the next stream with data has its turn. Default 32 KiB: long enough for trains
    /// of segments, short enough that 100 streams share a 10 Gbit/s link within 3 ms.
    stream_burst: u32 = 32 * KIB as u32;

    /// Silence after which the connection is dropped; the smaller of both sides' holds (RFC 9000 §10.1). `None`: never
    /// from our side. Default 30 s.
    idle_timeout: Option<Duration> = Some(Duration::from_secs(30));

    /// Time a handshake may take. Default 10 s.
    handshake_timeout: Duration = Duration::from_secs(10);

    /// Silence after which a PING keeps the connection alive. Needs to be well below both sides' idle timeout. `None`,
    /// the default: off.
    keep_alive: Option<Duration> = None;

    /// Largest UDP payload in bytes that we take, and send if the path carries it: the upper end of path MTU
    /// discovery. Default 1472: Ethernet's 1500 less the IPv4 and UDP headers. For jumbo frames set the device's MTU
    /// less 28 (IPv4) or 48 (IPv6).
    max_udp_payload: u16 = 1472;

    /// UDP payload in bytes with which every path starts, 1200 at least (RFC 9000 §14.1). Default 1200.
    initial_mtu: u16 = MIN_UDP_PAYLOAD;

    /// Probe for larger packets (RFC 8899). Default on.
    mtu_discovery: bool = true;

    /// Round-trip time assumed before the first sample. Default 333 ms (RFC 9002 §6.2.2).
    initial_rtt: Duration = Duration::from_millis(333);

    /// Longest time an acknowledgement is held back, told to the peer; below 2^14 ms. Default 25 ms.
    max_ack_delay: Duration = Duration::from_millis(25);

    /// Scale of the ACK Delay field as a power of two of microseconds, 20 at most. Default 3.
    ack_delay_exponent: u8 = 3;

    /// Ack-eliciting packets after which an acknowledgement is sent at once. Default 2 (RFC 9000 §13.2.2). The
    /// connection may wait for the end of a received batch.
    ack_eliciting_threshold: u8 = 2;

    /// Let the peer ask for fewer acknowledgements, held back for no less than this, which is at most
    /// `max_ack_delay` (draft-ietf-quic-ack-frequency). `None`, the default: off.
    min_ack_delay: Option<Duration> = None;

    /// What to ask of a peer that allows it (draft-ietf-quic-ack-frequency). `None`, the default: nothing.
    ack_request: Option<AckRequest> = None;

    /// Tell the peer where we see it, or ask where it sees us (draft-ietf-quic-address-discovery). `None`, the default:
    /// neither.
    address_discovery: Option<AddressDiscovery> = None;

    /// Let the peer reset streams of which the start is delivered all the same (RESET_STREAM_AT,
    /// draft-ietf-quic-reliable-stream-reset). Default off. Whether we may, the peer's own setting says.
    reset_stream_at: bool = false;

    /// Connection IDs of the peer that we keep ready, 2 to 8; tells the peer how many to issue. Default 4.
    active_connection_id_limit: u8 = 4;

    /// Let the peer change its address (RFC 9000 §9). Default on.
    migration: bool = true;

    /// Server: an IPv4 address at which clients are to go on after the handshake (RFC 9000 §9.6). Default none.
    preferred_address_v4: Option<SocketAddrV4> = None;

    /// The same for IPv6. Default none.
    preferred_address_v6: Option<SocketAddrV6> = None;

    /// Congestion control algorithm. Default CUBIC.
    congestion: Congestion = Congestion::Cubic;

    /// Bytes in flight allowed at the start. `None`, the default: 10 packets (RFC 9002 §7.2).
    initial_window: Option<u32> = None;

    /// Spread packets over the round trip instead of sending each window in one burst (RFC 9002 §7.7). Default on.
    pacing: bool = true;

    /// Mark packets ECN-capable and react to congestion marks, if the path passes validation (RFC 9000 §13.4). Default
    /// on.
    ecn: bool = true;

    /// Bytes of unread datagrams kept (RFC 9221); the oldest go first. `None`, the default: datagrams are not offered.
    datagram_receive_buffer: Option<usize> = None;

    /// Bytes of datagrams waiting to be sent; the oldest go first. Default 1 MiB.
    datagram_send_buffer: usize = MIB as usize;

    /// Send reserved values that peers must ignore, such as an arbitrary QUIC bit (RFC 9287), so that nothing on the
    /// path comes to rely on their absence. Default on.
    grease: bool = true;

    /// Bytes of CRYPTO data kept per packet number space until the gaps before it are filled, 4096 at least (RFC 9000
    /// §7.5). Default 64 KiB: the longest certificate chains seen are about 30 KiB.
    crypto_buffer: usize = 64 * KIB as usize;

    /// Packets after which we update the 1-RTT keys (RFC 9001 §6). `None`, the default: at the AEAD's limit.
    key_update_after: Option<u64> = None;

    /// Where connections' logs go, in the qlog format. `None`, the default: none has a log, and none pays for one.
    qlog: Option<Logs> = None;
}

impl TransportConfig {
    /// Checks every setting alone and against the others. Listening and connecting call it.
    pub fn validate(&self) -> Result<(), TransportConfigError> {
        self.validate_versions()?;
        self.validate_windows()?;
        self.validate_streams()?;
        self.validate_times()?;
        self.validate_acks()?;
        self.validate_packets()
    }

    fn validate_versions(&self) -> Result<(), TransportConfigError> {
        let value = format!("{:#x?}", self.versions);
        check("versions", &value, !self.versions.is_empty(), "at least one")?;
        let known = self.versions.iter().all(|version| [VERSION_1, VERSION_2].contains(version));
        check("versions", &value, known, "1 (RFC 9000) and 0x6b3343cf (RFC 9369) only")?;
        let twice = (1..self.versions.len()).any(|at| self.versions[..at].contains(&self.versions[at]));
        check("versions", &value, !twice, "each once")
    }

    fn validate_windows(&self) -> Result<(), TransportConfigError> {
        let windows = [
            ("stream_window", self.stream_window),
            ("max_stream_window", self.max_stream_window),
            ("connection_window", self.connection_window),
            ("max_connection_window", self.max_connection_window),
        ];
        for (setting, bytes) in windows {
            check(setting, bytes, bytes <= MAX_VARINT_VALUE, "at most 2^62 - 1 bytes")?;
            check(setting, bytes, bytes > 0, "at least one byte, or the peer can never send")?;
        }
        check(
            "max_stream_window",
            self.max_stream_window,
            self.max_stream_window >= self.stream_window,
            "not less than stream_window",
        )?;
        check(
            "max_connection_window",
            self.max_connection_window,
            self.max_connection_window >= self.connection_window,
            "not less than connection_window",
        )?;
        check("send_buffer", self.send_buffer, self.send_buffer > 0, "at least one byte, or no write can end")
    }

    fn validate_streams(&self) -> Result<(), TransportConfigError> {
        for (setting, count) in
            [("max_bidi_streams", self.max_bidi_streams), ("max_uni_streams", self.max_uni_streams)]
        {
            check(setting, count, count <= MAX_STREAMS, "at most 2^60 (RFC 9000 section 4.6)")?;
        }
        check("stream_burst", self.stream_burst, self.stream_burst > 0, "at least one byte")
    }

    fn validate_times(&self) -> Result<(), TransportConfigError> {
        if let Some(idle) = self.idle_timeout {
            let milliseconds = idle.as_millis();
            check(
                "idle_timeout",
                format_args!("{idle:?}"),
                milliseconds > 0 && milliseconds <= u128::from(MAX_VARINT_VALUE),
                "at least 1 ms, or None for no timeout",
            )?;
        }
        if let Some(period) = self.keep_alive {
            check(
                "keep_alive",
                format_args!("{period:?}"),
                !period.is_zero() && self.idle_timeout.is_none_or(|idle| period < idle),
                "more than zero and less than idle_timeout",
            )?;
        }
        check(
            "handshake_timeout",
            format_args!("{:?}", self.handshake_timeout),
            !self.handshake_timeout.is_zero(),
            "more than zero",
        )?;
        check(
            "initial_rtt",
            format_args!("{:?}", self.initial_rtt),
            !self.initial_rtt.is_zero() && self.initial_rtt < Duration::from_secs(60),
            "between 1 ns and 60 s",
        )?;
        check(
            "max_ack_delay",
            format_args!("{:?}", self.max_ack_delay),
            self.max_ack_delay < ACK_DELAY_BOUND,
            "below 2^14 ms (RFC 9000 section 18.2)",
        )
    }

    fn validate_acks(&self) -> Result<(), TransportConfigError> {
        if let Some(least) = self.min_ack_delay {
            check(
                "min_ack_delay",
                format_args!("{least:?}"),
                !least.is_zero() && least <= self.max_ack_delay,
                "more than zero and at most max_ack_delay",
            )?;
        }
        if let Some(request) = self.ack_request {
            check(
                "ack_request",
                format_args!("{request:?}"),
                !request.max_delay.is_zero() && request.max_delay < ACK_DELAY_BOUND,
                "a delay of more than zero and below 2^14 ms",
            )?;
        }
        Ok(())
    }

    fn validate_packets(&self) -> Result<(), TransportConfigError> {
        let payload = self.max_udp_payload;
        check(
            "max_udp_payload",
            payload,
            (MIN_UDP_PAYLOAD..=MAX_UDP_PAYLOAD).contains(&payload),
            "between 1200 and 65527 bytes (RFC 9000 section 18.2)",
        )?;
        check(
            "initial_mtu",
            self.initial_mtu,
            (MIN_UDP_PAYLOAD..=payload).contains(&self.initial_mtu),
            "between 1200 and max_udp_payload",
        )?;
        check(
            "ack_delay_exponent",
            self.ack_delay_exponent,
            self.ack_delay_exponent <= MAX_ACK_DELAY_EXPONENT,
            "at most 20 (RFC 9000 section 18.2)",
        )?;
        check(
            "ack_eliciting_threshold",
            self.ack_eliciting_threshold,
            self.ack_eliciting_threshold > 0,
            "at least 1",
        )?;
        check(
            "active_connection_id_limit",
            self.active_connection_id_limit,
            (MIN_ACTIVE_CIDS..=MAX_ACTIVE_CIDS).contains(&self.active_connection_id_limit),
            "between 2 (RFC 9000 section 18.2) and 8",
        )?;
        if let Some(window) = self.initial_window {
            let least = 2 * u32::from(self.initial_mtu);
            check("initial_window", window, window >= least, "at least two packets (RFC 9002 section 7.2)")?;
        }
        check(
            "crypto_buffer",
            self.crypto_buffer,
            self.crypto_buffer >= MIN_CRYPTO_BUFFER,
            "at least 4096 bytes (RFC 9000 section 7.5)",
        )?;
        if let Some(packets) = self.key_update_after {
            check("key_update_after", packets, packets > 0, "at least one packet, or None")?;
        }
        Ok(())
    }
}

fn check(
    setting: &'static str,
    value: impl ToString,
    holds: bool,
    advice: &'static str,
) -> Result<(), TransportConfigError> {
    if holds { Ok(()) } else { Err(TransportConfigError { setting, value: value.to_string(), advice }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(config: TransportConfig) -> &'static str {
        config.validate().expect_err("the setting is wrong").setting
    }

    #[test]
    fn defaults_are_valid() {
        assert_eq!(TransportConfig::default().validate(), Ok(()));
    }

    #[test]
    fn each_wrong_setting_is_named() {
        let config = TransportConfig::default;
        for versions in [vec![], vec![VERSION_1, VERSION_1], vec![0], vec![VERSION_1, 0xff00_001d]] {
            assert_eq!(fault(config().versions(versions)), "versions");
        }
        assert_eq!(fault(config().min_ack_delay(Some(Duration::from_millis(26)))), "min_ack_delay");
        let max_delay = ACK_DELAY_BOUND;
        let request = AckRequest { threshold: 10, max_delay, reordering: 1 };
        assert_eq!(fault(config().ack_request(Some(request))), "ack_request");
        assert_eq!(fault(config().stream_window(0)), "stream_window");
        assert_eq!(fault(config().stream_window(1 << 62)), "stream_window");
        assert_eq!(fault(config().max_stream_window(1)), "max_stream_window");
        assert_eq!(fault(config().connection_window(0)), "connection_window");
        assert_eq!(fault(config().max_connection_window(1)), "max_connection_window");
        assert_eq!(fault(config().send_buffer(0)), "send_buffer");
        assert_eq!(fault(config().max_bidi_streams((1 << 60) + 1)), "max_bidi_streams");
        assert_eq!(fault(config().max_uni_streams(u64::MAX)), "max_uni_streams");
        assert_eq!(fault(config().stream_burst(0)), "stream_burst");
        assert_eq!(fault(config().idle_timeout(Some(Duration::ZERO))), "idle_timeout");
        assert_eq!(fault(config().keep_alive(Some(Duration::from_secs(30)))), "keep_alive");
        assert_eq!(fault(config().handshake_timeout(Duration::ZERO)), "handshake_timeout");
        assert_eq!(fault(config().initial_rtt(Duration::ZERO)), "initial_rtt");
        assert_eq!(fault(config().max_ack_delay(ACK_DELAY_BOUND)), "max_ack_delay");
        assert_eq!(fault(config().max_udp_payload(1199)), "max_udp_payload");
        assert_eq!(fault(config().max_udp_payload(65528)), "max_udp_payload");
        assert_eq!(fault(config().initial_mtu(1199)), "initial_mtu");
        assert_eq!(fault(config().initial_mtu(1473)), "initial_mtu");
        assert_eq!(fault(config().ack_delay_exponent(21)), "ack_delay_exponent");
        assert_eq!(fault(config().ack_eliciting_threshold(0)), "ack_eliciting_threshold");
        assert_eq!(fault(config().active_connection_id_limit(1)), "active_connection_id_limit");
        assert_eq!(fault(config().active_connection_id_limit(9)), "active_connection_id_limit");
        assert_eq!(fault(config().initial_window(Some(1200))), "initial_window");
        assert_eq!(fault(config().crypto_buffer(4095)), "crypto_buffer");
        assert_eq!(fault(config().key_update_after(Some(0))), "key_update_after");
    }

    #[test]
    fn the_error_says_what_to_do() {
        let error = TransportConfig::default().max_udp_payload(9).validate().unwrap_err();
        assert_eq!(
            error.to_string(),
            "transport setting `max_udp_payload` is 9: between 1200 and 65527 bytes (RFC 9000 section 18.2)"
        );
    }

    #[test]
    fn timeouts_may_be_off() {
        let config = TransportConfig::default().idle_timeout(None).keep_alive(Some(Duration::from_secs(600)));
        assert_eq!(config.validate(), Ok(()));
    }
}

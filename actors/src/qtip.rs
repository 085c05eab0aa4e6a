//! QTIP: QUIC datagrams in TCP segments, for paths on which UDP does not pass.
//!
//! To everybody on the way it is a TCP connection: SYN, SYN/ACK, ACK, then segments of one QUIC datagram each, whose
//! sequence numbers advance by what was sent and whose acknowledgement numbers follow what came; RST at the end. A
//! stateful firewall finds nothing to object to. To the ends it is a coat: nothing is retransmitted, held back or put in
//! order, since QUIC does all that. A lost segment leaves a gap in the numbers that nobody fills; the acknowledgement
//! number follows the highest segment seen, and the window is 1 GiB, so that no gap ever closes it.
//!
//! Data segments carry ACK and no other flag, the only ones that MsQuic takes. MsQuic's own numbers never advance; they
//! are taken, too.
//!
//! A listener keeps nothing for a SYN: what it must know comes back in the acknowledgement number of what follows
//! ([`Cookies`]). A segment of a flow that a listener does not know is answered with RST; the client then opens the flow
//! anew from the same port. That is how a flow survives a restarted server, an evicted entry, and a NAT that gave it
//! another address: there QUIC sees a new path and validates it. A client whose segments go unanswered opens the flow
//! anew by itself: whoever is on the way may have forgotten it and let nothing through.

mod cookie;
mod flow;
mod flows;
mod preview;
#[cfg(test)]
mod tests;

pub use cookie::Cookies;
pub use flows::{Flows, Sent, Verdict};
pub use preview::Outlook;

/// Largest window TCP can tell, in bytes: 65,535 times 2^14 (RFC 7323 §2.3), less what the scale cuts off.
pub const WINDOW: u32 = 65_535 << WINDOW_SCALE;

/// The largest scale (RFC 7323 §2.3).
pub const WINDOW_SCALE: u8 = 14;

/// What the window field says.
pub const WINDOW_FIELD: u16 = u16::MAX;

/// Smallest segment that can carry QUIC (RFC 9000 §14).
pub const MIN_MSS: u16 = 1200;

/// Largest segment of a flow whose SYN names none: MsQuic sends no options.
pub const UNLIMITED_MSS: u16 = u16::MAX;

/// Flows of a stack at most, of servers and clients together. About 300 bytes each.
pub const MAX_FLOWS: usize = 65_536;

/// Silence after which a server's flow may make room for a new one. An established QUIC connection that is silent as
/// long has mostly timed out; if not, its client opens the flow anew.
pub const EVICT_AFTER: u64 = 10_000_000_000;

/// Datagrams that wait for the SYN/ACK at most: a client's first flight and its repetitions.
pub const MAX_WAITING: usize = 8;

/// Time after which a SYN is sent again, if QUIC has something to send. The pace is QUIC's own.
pub const SYN_RETRY: u64 = 200_000_000;

/// Answers to segments of unknown flows a second, by RST. An answer is as long as its cause at most.
pub const RESETS_PER_SECOND: u64 = 1_000;

/// Segments in a row without a word from the server after which a client opens its flow anew, ...
pub const RENEW_SEGMENTS: u32 = 3;

/// ... and the silence it takes: by then QUIC has probed twice on most paths.
pub const RENEW_AFTER: u64 = 2_000_000_000;

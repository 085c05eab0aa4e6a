//! Loss detection and congestion control (RFC 9002).

mod sent;

pub(crate) use sent::{SentPacket, SentPackets};

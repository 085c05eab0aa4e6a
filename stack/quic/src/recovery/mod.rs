//! Loss detection and congestion control (RFC 9002).

mod congestion;
mod sent;

pub(crate) use congestion::{Congestion, LossKind};
pub(crate) use sent::{Fate, SentPacket, SentPackets};

//! Loss detection and congestion control (RFC 9002).

mod bbr;
mod congestion;
mod cubic;
mod hystart;
mod pacer;
mod sent;

use congestion::slow_start_limit;
pub(crate) use congestion::{Congestion, LossKind};
pub(crate) use sent::{Fate, SentPacket, SentPackets};

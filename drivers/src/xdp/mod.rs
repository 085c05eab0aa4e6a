//! The XDP program of an interface: loading, attaching, its rules and its counters.
//!
//! The C source and the compiled object are in `drivers/bpf`; what the rules mean is defined by
//! [`wirepath_wire::rules`].

mod attach;
mod control;
mod counters;
mod error;
mod exact;
mod holder;
mod link;
mod live;
mod prefixes;
mod program;
mod sys;
mod tables;
mod transmit;

pub use attach::{MultiBuffer, XdpAttachment, XdpMode, XdpModeWish, XdpOptions};
pub use control::{XdpAccess, XdpControl};
pub(crate) use holder::holder_of;
pub(crate) use program::{EVENTS, MAX_OWNERS};
pub use program::{TimedRun, XdpProgram};
pub use transmit::XdpTransmitter;
pub(crate) use transmit::{TRANSMIT_SLOT_SIZE, TRANSMIT_SLOTS};

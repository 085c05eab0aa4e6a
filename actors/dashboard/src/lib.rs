//! The dashboard: what the actors do, told over HTTP.
//!
//! [`api`] has every answer as a type. It reads counters and rings through a [`Source`]; it never sends an actor a
//! message, and the data path never waits for it.
//!
//! ```text
//! Source ── a Reading, 4 a second ──► model (the last readings, journeys, recordings)
//!                                       │ view: two readings make rates, lints, topology
//!                                       ▼
//!                              server: JSON, live stream, /metrics
//! ```

pub mod api;
mod books;
mod counters;
mod frames;
mod limits;
mod model;
mod page;
mod pcapng;
mod prometheus;
mod qlog;
mod reading;
mod recording;
mod rows;
mod server;
mod view;

pub use books::{Books, HopReading, KernelBooks, OtherBooks};
pub use counters::Counters;
pub use frames::{FrameNote, FrameWatch};
pub use limits::{Limit, LimitsReading};
pub use reading::{
    ActorReading, ConnectionReading, DeviceReading, KindReading, Reading, Source, StreamReading,
    StreamsReading, TracerReading, Wants, read_registry,
};
pub use rows::{Listed, Rows};
pub use server::{Dashboard, Options, Token};

pub(crate) use limits::blocked_by;
pub(crate) use view::all_drops as view_drops;

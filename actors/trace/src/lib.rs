//! What the actors tell of themselves: meters, histograms, and the registry that lists them.
//!
//! A leaf: no async, no actors. Writers touch relaxed atomics only; readers (the status, the dashboard, the
//! tests) read them without stopping anybody, so figures of one reading may be a few events apart.

mod clock;
mod histogram;
mod meter;
mod registry;

pub use clock::{BatchClock, Nanos};
pub use histogram::{Histogram, HistogramSnapshot};
pub use meter::{KindMeter, KindSnapshot, Meter, MeterSnapshot};
pub use registry::{ActorEntry, ActorRecord, Registry};

//! What the actors tell of themselves: meters, histograms, the registry that lists them, and the journeys of
//! sampled datagrams.
//!
//! A leaf: no async, no actors. Writers touch relaxed atomics only; readers (the status, the dashboard, the
//! tests) read them without stopping anybody, so figures of one reading may be a few events apart.

mod clock;
mod histogram;
mod journey;
mod memory;
mod meter;
mod payload;
mod registry;
mod ring;
mod tracer;

pub use clock::{BatchClock, Nanos};
pub use histogram::{Histogram, HistogramSnapshot};
pub use journey::{Direction, Hop, Journey, JourneyRecord, MAX_CID_LEN, MAX_HOPS, Stage};
pub use memory::{DEFAULT_MEMORY, MemoryPlan};
pub use meter::{ItemTotals, KindMeter, KindSnapshot, MessageSnapshot, Meter, MeterSnapshot, Passed, Ticket};
pub use payload::{Payload, SNAP_LEN};
pub use registry::{ActorEntry, Registry, Tombstone};
pub use tracer::{DEFAULT_ONE_IN, Filter, Sampler, Tracer, TracerStats};

//! From the readings of the actors' clock to the time the QUIC machine is told.

use std::time::Duration;

use wirepath_quic::{Clock as _, NoopClock, Timestamp};
use wirepath_trace::Nanos;

/// The QUIC machine's name for a reading.
pub(crate) fn timestamp(nanos: Nanos) -> Timestamp {
    NoopClock.get_time() + Duration::from_nanos(nanos)
}

/// The reading a time of the QUIC machine stands for, rounded up: a timer never fires early.
pub(crate) fn nanos(timestamp: Timestamp) -> Nanos {
    timestamp.saturating_duration_since(NoopClock.get_time()).as_nanos() as Nanos
}

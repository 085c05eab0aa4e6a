//! Doubt about the way: what gets lost may get lost because the next hop has another hardware address by now.

use std::time::Duration;

use wirepath_trace::{BatchClock, Nanos};

use super::Connection;

/// How long a probe waits for a next hop that is being asked for anew: neighbours on one link answer within a
/// millisecond, and a probe timeout is at least ten of these. Without it the probe would go the old way, and only
/// the next one, after twice the time, the new one.
const PROBE_HOLD: Duration = Duration::from_millis(2);

impl Connection {
    /// Has the route asked for anew after a probe timeout (RFC 9002 §6.2) or persistent congestion (§7.6).
    pub(super) fn doubt_route(&mut self) {
        let counters = self.quic.counters();
        let signs = counters.probe_timeout + counters.persistent_congestion;
        if signs == self.loss_signs {
            return;
        }
        self.loss_signs = signs;
        let Some(routes) = self.tables.routes.get() else { return };
        routes.suspect(self.quic.path().remote.ip());
        self.held_until = BatchClock::last() + PROBE_HOLD.as_nanos() as Nanos;
    }

    /// Whether nothing is to be sent for now.
    pub(super) fn is_held(&self) -> bool {
        self.held_until > BatchClock::last()
    }
}

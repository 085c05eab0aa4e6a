//! Doubt about the way: what gets lost may get lost because the next hop has another hardware address by now.

use std::time::Duration;

use wirepath_trace::{BatchClock, Nanos};

use super::Connection;

/// How long a probe waits at most for a next hop that is being asked for anew: less than the shortest probe timeout.
/// Neighbours on one link answer within a millisecond, and then the probe goes at once; on a busy machine it takes ten.
/// Without it the probe would go the old way, and only the next one, after twice the time, the new one.
const LONGEST_HOLD: Duration = Duration::from_millis(20);

/// How often it is looked whether the next hop has answered.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

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
        self.held_until = BatchClock::last() + LONGEST_HOLD.as_nanos() as Nanos;
    }

    /// Whether nothing is to be sent for now; then it is to be looked again at this time.
    pub(super) fn held_until(&mut self) -> Option<Nanos> {
        let now = BatchClock::last();
        if self.held_until <= now {
            return None;
        }
        if !self.is_route_doubted() {
            self.held_until = 0;
            return None;
        }
        Some(self.held_until.min(now + LOOK_INTERVAL.as_nanos() as Nanos))
    }

    /// Whether a probe is held back, or was until now. The machine counts its next probe timeout from the packet before the
    /// probe: while that waits for the route, and until it has left, no time passes for it.
    pub(super) fn take_held(&mut self) -> bool {
        if self.held_until == 0 {
            return false;
        }
        if self.held_until <= BatchClock::last() || !self.is_route_doubted() {
            self.held_until = 0;
        }
        true
    }

    fn is_route_doubted(&self) -> bool {
        let remote = self.quic.path().remote.ip();
        self.tables.routes.get().is_some_and(|routes| routes.is_suspected(remote))
    }
}

//! Credit in both directions (RFC 9000 §4): how much may still be sent, and how much the peer may send.

use std::time::Duration;

use s2n_quic_core::{time::Timestamp, varint::VarInt};

/// A new limit is announced once it is at least this fraction of the window above the old one. A larger step stalls the
/// sender when a limit is lost, a smaller one adds frames: four updates a window keep three quarters of it in flight.
const UPDATE_FRACTION: u64 = 4;

/// A sender that has used its whole limit is told of this much already: enough for a packet, so that neither a reader
/// that keeps most of a window back stops it, nor one that takes single bytes makes it send single bytes.
const LEAST_STEP: u64 = 1200;

/// A window grows if it was consumed within this many round trips: with a sender at full speed one round trip passes
/// from a limit to the last byte under it, so the window is what slows it down.
const GROW_WITHIN_RTTS: u32 = 2;

/// What the connection may still send on all its streams together.
#[derive(Debug, Default)]
pub(super) struct SendCredit {
    /// The peer's MAX_DATA.
    pub(super) limit: u64,
    /// Sum of the highest offsets sent on all streams.
    pub(super) used: u64,
    /// The limit for which DATA_BLOCKED was queued or sent last.
    pub(super) blocked_at: Option<u64>,
}

impl SendCredit {
    pub(super) fn available(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    /// Takes the peer's limit; a lower one than before is an old frame (RFC 9000 §4.1). Says whether it grew.
    pub(super) fn raise(&mut self, limit: u64) -> bool {
        let grows = limit > self.limit;
        self.limit = self.limit.max(limit);
        grows
    }
}

/// How much the peer may send, on one stream or on all of a connection together, and when to tell it more.
#[derive(Debug)]
pub(super) struct ReceiveWindow {
    /// The limit last announced.
    limit: u64,
    /// Bytes the application is done with.
    consumed: u64,
    /// Bytes the peer may be ahead of the application.
    size: u64,
    /// Since when the consumption of a window is measured, and what was consumed then.
    epoch: Option<Timestamp>,
    epoch_consumed: u64,
}

impl ReceiveWindow {
    /// A window whose size was announced as the initial limit.
    pub(super) fn new(size: u64) -> Self {
        let size = size.min(VarInt::MAX.as_u64());
        Self { limit: size, consumed: 0, size, epoch: None, epoch_consumed: 0 }
    }

    /// The highest offset (or sum of offsets) the peer may reach.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Counts bytes the application is done with.
    pub(super) fn consume(&mut self, bytes: u64) {
        self.consumed += bytes;
    }

    /// Is the limit that could be announced well above the announced one, of which the peer has used `received`? Higher
    /// limits wait for no BLOCKED frame, and mostly come before the sender has used up the old one (RFC 9000 §4.2).
    pub(super) fn is_update_due(&self, received: u64) -> bool {
        let (step, enough) = (self.next_limit() - self.limit, self.size / UPDATE_FRACTION);
        step > 0 && (step >= enough || (received >= self.limit && step >= LEAST_STEP))
    }

    /// Could a higher limit be announced at all? What a blocked peer wants to know.
    pub(super) fn can_raise(&self) -> bool {
        self.next_limit() > self.limit
    }

    /// Grows the window to `size` if it is smaller.
    pub(super) fn grow_to(&mut self, size: u64) {
        self.size = self.size.max(size);
    }

    /// The limit to announce now. Doubles the window, up to `max`, if the last one was consumed fast.
    pub(super) fn announce(&mut self, now: Timestamp, rtt: Duration, max: u64) -> u64 {
        match self.epoch {
            None => self.start_epoch(now),
            Some(start) if self.consumed - self.epoch_consumed >= self.size => {
                if now.saturating_duration_since(start) <= rtt * GROW_WITHIN_RTTS {
                    self.size = self.size.saturating_mul(2).min(max).max(self.size);
                }
                self.start_epoch(now);
            }
            Some(_) => {}
        }
        self.limit = self.next_limit();
        self.limit
    }

    fn start_epoch(&mut self, now: Timestamp) {
        self.epoch = Some(now);
        self.epoch_consumed = self.consumed;
    }

    /// Never below what was announced: a limit can't be taken back (RFC 9000 §4.1).
    fn next_limit(&self) -> u64 {
        self.consumed.saturating_add(self.size).min(VarInt::MAX.as_u64()).max(self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use s2n_quic_core::time::{Clock, NoopClock};

    const RTT: Duration = Duration::from_millis(10);

    fn at(millis: u64) -> Timestamp {
        NoopClock.get_time() + Duration::from_millis(millis)
    }

    #[test]
    fn grows_only_when_a_window_goes_within_two_round_trips() {
        let mut window = ReceiveWindow::new(1000);
        window.consume(249);
        assert!(!window.is_update_due(999));
        window.consume(1);
        assert!(window.is_update_due(999));
        assert_eq!(window.announce(at(0), RTT, 4000), 1250);
        window.consume(1000);
        assert_eq!(window.announce(at(20), RTT, 4000), 1250 + 2000, "20 ms are two round trips");
        window.consume(2000);
        assert_eq!(window.announce(at(41), RTT, 4000), 3250 + 2000, "21 ms are more");
        window.consume(2000);
        assert_eq!(window.announce(at(50), RTT, 4000), 5250 + 4000);
        window.consume(4000);
        assert_eq!(window.announce(at(51), RTT, 4000), 9250 + 4000, "the ceiling holds");
    }

    #[test]
    fn a_sender_at_its_limit_is_told_sooner() {
        let mut window = ReceiveWindow::new(100_000);
        window.consume(LEAST_STEP - 1);
        assert!(!window.is_update_due(100_000));
        window.consume(1);
        assert!(!window.is_update_due(99_999));
        assert!(window.is_update_due(100_000));
    }

    #[test]
    fn the_limit_stays_in_range() {
        let mut window = ReceiveWindow::new(u64::MAX);
        assert_eq!(window.limit(), VarInt::MAX.as_u64());
        window.consume(1 << 61);
        assert!(!window.is_update_due(1 << 61));
        assert_eq!(window.announce(at(0), RTT, u64::MAX), VarInt::MAX.as_u64());
    }
}

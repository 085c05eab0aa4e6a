//! HyStart++ (RFC 9406): leaves slow start when round-trip times rise, before packets are lost.

use std::time::Duration;

use s2n_quic_core::time::Timestamp;

/// RFC 9406 §4.3 recommends these.
const MIN_RTT_THRESHOLD: Duration = Duration::from_millis(4);
const MAX_RTT_THRESHOLD: Duration = Duration::from_millis(16);
const RTT_DIVISOR: u32 = 8;
const SAMPLES: u32 = 8;
const GROWTH_DIVISOR: f64 = 4.0;
const CONSERVATIVE_ROUNDS: u32 = 5;

/// What a round-trip time sample leads to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Slow start goes on.
    Continue,
    /// It is over.
    Exit,
}

/// Slow start, conservative or not. One round is the time from a packet to the acknowledgement of those sent after it.
#[derive(Clone, Debug, Default)]
pub(super) struct HyStart {
    /// The round ends with the acknowledgement of what was sent from here on.
    round_end: Option<Timestamp>,
    last_min: Option<Duration>,
    current_min: Option<Duration>,
    samples: u32,
    /// In conservative slow start: the round-trip time that led to it.
    baseline: Option<Duration>,
    conservative_rounds: u32,
}

impl HyStart {
    /// A sample of a packet sent at `sent`; `last_sent`: when the newest packet was sent.
    pub(super) fn on_rtt(&mut self, sent: Timestamp, last_sent: Timestamp, rtt: Duration) -> Verdict {
        if self.round_end.is_none_or(|end| sent >= end) {
            let had_round = self.round_end.is_some();
            self.last_min = self.current_min.take();
            self.samples = 0;
            self.round_end = Some(last_sent);
            if had_round && self.baseline.is_some() {
                self.conservative_rounds += 1;
                if self.conservative_rounds >= CONSERVATIVE_ROUNDS {
                    return Verdict::Exit;
                }
            }
        }
        let current = self.current_min.map_or(rtt, |min| min.min(rtt));
        self.current_min = Some(current);
        self.samples += 1;
        if self.samples < SAMPLES {
            return Verdict::Continue;
        }
        match self.baseline {
            // RFC 9406 §4.2: a rise that goes away was none.
            Some(baseline) if current < baseline => self.baseline = None,
            Some(_) => {}
            None => {
                if let Some(last) = self.last_min {
                    let threshold = (last / RTT_DIVISOR).clamp(MIN_RTT_THRESHOLD, MAX_RTT_THRESHOLD);
                    if current >= last + threshold {
                        self.baseline = Some(current);
                        self.conservative_rounds = 0;
                    }
                }
            }
        }
        Verdict::Continue
    }

    /// By how much the window grows for these acknowledged bytes. Pacing spreads them, so there is no other limit (RFC
    /// 9406 §4.2).
    pub(super) fn growth(&self, acked: f64) -> f64 {
        if self.baseline.is_some() { acked / GROWTH_DIVISOR } else { acked }
    }

    /// Is growth held back already?
    #[cfg(test)]
    fn is_conservative(&self) -> bool {
        self.baseline.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use s2n_quic_core::time::{Clock, NoopClock};

    const RTT: Duration = Duration::from_millis(40);

    /// Rounds of ten samples each with these round-trip times; says after which one slow start was left.
    fn run(rounds: impl IntoIterator<Item = Duration>) -> (HyStart, Option<usize>) {
        let mut hystart = HyStart::default();
        let mut now = NoopClock.get_time() + RTT;
        for (round, rtt) in rounds.into_iter().enumerate() {
            let sent = now;
            now += rtt;
            for sample in 0..10 {
                // What is acknowledged was sent in the last round, what goes out now is of the next.
                let at = sent + Duration::from_micros(sample);
                if hystart.on_rtt(at, now + Duration::from_micros(sample), rtt) == Verdict::Exit {
                    return (hystart, Some(round));
                }
            }
        }
        (hystart, None)
    }

    #[test]
    fn steady_round_trips_change_nothing() {
        let (hystart, left) = run([RTT; 50]);
        assert!(!hystart.is_conservative() && left.is_none());
        assert_eq!(hystart.growth(1000.0), 1000.0);
    }

    #[test]
    fn a_rise_slows_growth_and_ends_it_five_rounds_later() {
        let rise = RTT + Duration::from_millis(6);
        let (hystart, left) = run([RTT, RTT, RTT, rise, rise]);
        assert!(hystart.is_conservative() && left.is_none());
        assert_eq!(hystart.growth(1000.0), 250.0);
        let (_, left) = run([RTT; 3].into_iter().chain([rise; 20]));
        assert_eq!(left, Some(3 + 5));
    }

    #[test]
    fn a_rise_that_goes_away_was_none() {
        let rise = RTT + Duration::from_millis(6);
        let (hystart, left) = run([RTT, RTT, rise, rise, RTT, RTT, RTT, RTT, RTT, RTT, RTT]);
        assert!(!hystart.is_conservative() && left.is_none());
    }

    #[test]
    fn small_rises_are_noise() {
        let (hystart, left) = run((0..30).map(|round| RTT + Duration::from_millis(round % 4)));
        assert!(!hystart.is_conservative() && left.is_none());
    }
}

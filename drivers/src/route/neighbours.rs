//! The neighbours in use: solicited when unknown, nudged when stale, given up after a while and tried again.
//!
//! A state machine without clock or socket: told what the kernel tells, it says what to ask of the kernel.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use self::suspicions::Suspicions;
use super::cell::{Hop, NeighbourCell};

/// Rounds of solicitation that fail before a neighbour counts as unreachable. The kernel asks three times, a
/// second apart, in each.
const UNREACHABLE_AFTER: u32 = 2;

/// The wait before the round after that; doubled each time.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);

/// The longest wait between rounds, as long as somebody keeps sending.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);

/// With no word from the kernel for so long, a round counts as failed: its notification was lost. The kernel
/// itself takes 3 s.
const ROUND_PATIENCE: Duration = Duration::from_secs(8);

/// How often stale neighbours are looked at for new use. Short against the kernel's own timers (30 s reachable,
/// 60 s until collected).
const STALE_SWEEP: Duration = Duration::from_secs(5);

/// A neighbour used within this time is kept resolved. What befalls it (a flush, a change of the link) brings
/// several notifications in a row, and devices look again only after the first.
const WANTED_FOR: Duration = Duration::from_secs(5);

/// So many neighbours are kept without looking whether they are needed.
const FEW: usize = 256;

/// A neighbour's place: addresses mean something on one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct NeighbourKey {
    pub(super) link: u32,
    pub(super) ip: IpAddr,
}

/// What the kernel tells of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Set by the administrator, or needing no resolution.
    Fixed([u8; 6]),
    /// Confirmed lately, or just being confirmed.
    Fresh([u8; 6]),
    /// Usable, but unconfirmed for a while.
    Stale([u8; 6]),
    /// Being solicited for the first time.
    Unresolved,
    /// Did not answer.
    Failed,
    /// No longer in the kernel's table.
    Gone,
}

/// What to ask of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Find out or confirm the hardware address.
    Solicit(NeighbourKey),
    /// Forget the hardware address and find it out again.
    Rediscover(NeighbourKey),
}

/// All neighbours the kernel knows, and those that destinations go through.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    seen: HashMap<NeighbourKey, Seen>,
    tracked: HashMap<NeighbourKey, Tracked>,
    actions: VecDeque<Action>,
    next_sweep: Option<Instant>,
    /// How many tracked neighbours are worth looking for ones to forget.
    forget_at: usize,
    changed: bool,
}

#[derive(Debug)]
struct Tracked {
    cell: Arc<NeighbourCell>,
    phase: Phase,
    /// The kernel's own "failed" after a rediscovery is no failed round.
    invalidated: bool,
    suspicions: Suspicions,
    last_used: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Resolved, nothing to do.
    Settled,
    /// Resolved but stale: to be confirmed once it is used.
    Stale,
    /// The kernel is soliciting.
    Soliciting { round: u32, since: Instant },
    /// Given up for now.
    BackingOff { round: u32, until: Instant },
    /// Unresolved, and nobody needs it.
    Idle,
}

impl Neighbours {
    /// The cell of a neighbour that some destination goes through. Starts resolving it where needed.
    pub(super) fn on_needed(
        &mut self,
        key: NeighbourKey,
        source: [u8; 6],
        vlan: Option<u16>,
        now: Instant,
    ) -> Arc<NeighbourCell> {
        if self.tracked.len() >= self.forget_at.max(FEW) {
            self.forget_unneeded();
        }
        let tracked = self.tracked.entry(key).or_insert_with(|| Tracked {
            cell: Arc::new(NeighbourCell::new(Hop::Cold, source, vlan)),
            phase: Phase::Idle,
            invalidated: false,
            suspicions: Suspicions::new(now),
            last_used: now,
        });
        let cell = tracked.cell.clone();
        if cell.vlan != vlan {
            // The link was made again with another VLAN id: destinations are about to be asked for again.
            tracked.cell = Arc::new(NeighbourCell::new(cell.hop(), source, vlan));
        }
        let cell = tracked.cell.clone();
        let _ = cell.use_hop();
        if tracked.phase == Phase::Idle {
            match self.seen.get(&key).copied() {
                Some(seen @ (Seen::Fixed(_) | Seen::Fresh(_) | Seen::Stale(_))) => {
                    self.on_seen(key, seen, now)
                }
                _ => self.solicit(key, 1, now),
            }
        }
        cell
    }

    /// The kernel told of a neighbour.
    pub(super) fn on_seen(&mut self, key: NeighbourKey, seen: Seen, now: Instant) {
        match seen {
            Seen::Gone => drop(self.seen.remove(&key)),
            _ => drop(self.seen.insert(key, seen)),
        }
        let Some(tracked) = self.tracked.get_mut(&key) else { return };
        match seen {
            Seen::Fixed(mac) | Seen::Fresh(mac) => {
                self.changed |= tracked.cell.set_hop(Hop::At(mac));
                tracked.cell.set_doubted(false);
                tracked.phase = Phase::Settled;
                tracked.invalidated = false;
            }
            Seen::Stale(mac) => {
                self.changed |= tracked.cell.set_hop(Hop::At(mac));
                // Also an answer, if one was waited for: learnt from what the neighbour asked us in the meantime.
                tracked.cell.set_doubted(false);
                tracked.invalidated = false;
                tracked.phase = Phase::Stale;
                self.confirm_if_used(key, now);
                self.next_sweep.get_or_insert(now + STALE_SWEEP);
            }
            Seen::Unresolved => {}
            Seen::Failed if std::mem::take(&mut tracked.invalidated) => {}
            Seen::Failed => self.on_round_failed(key, now),
            Seen::Gone => self.on_gone(key, now),
        }
    }

    /// A full reading of the kernel's table, after which what is not in it is gone.
    pub(super) fn on_all_seen(&mut self, all: Vec<(NeighbourKey, Seen)>, now: Instant) {
        let mut missing = std::mem::take(&mut self.seen);
        for (key, seen) in all {
            missing.remove(&key);
            self.on_seen(key, seen, now);
        }
        for key in missing.into_keys() {
            self.on_seen(key, Seen::Gone, now);
        }
    }

    /// Our own hardware address on a link changed.
    pub(super) fn on_source(&mut self, link: u32, source: [u8; 6]) {
        for (_, tracked) in self.tracked.iter().filter(|(key, _)| key.link == link) {
            self.changed |= tracked.cell.set_source(source);
        }
    }

    /// A link is up again: what was asked for while it was down was never answered.
    pub(super) fn on_link_up(&mut self, link: u32, now: Instant) {
        let unanswered = |phase| matches!(phase, Phase::Soliciting { .. } | Phase::BackingOff { .. });
        let keys: Vec<_> = self
            .tracked
            .iter()
            .filter(|(key, tracked)| key.link == link && unanswered(tracked.phase))
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            self.solicit(key, 1, now);
        }
    }

    /// Packets seem to get lost on the way to this neighbour.
    pub(super) fn on_suspect(&mut self, cell: &Arc<NeighbourCell>, now: Instant) {
        let found = self.tracked.iter_mut().find(|(_, tracked)| Arc::ptr_eq(&tracked.cell, cell));
        let Some((key, tracked)) = found else { return cell.set_doubted(false) };
        if tracked.phase.is_soliciting() {
            // The answer to come is newer than this doubt.
            return;
        }
        let fixed = matches!(self.seen.get(key), Some(Seen::Fixed(_)));
        let resolved = matches!(tracked.phase, Phase::Settled | Phase::Stale);
        if fixed || !resolved || !tracked.suspicions.take(now) {
            return cell.set_doubted(false);
        }
        tracked.invalidated = true;
        tracked.phase = Phase::Soliciting { round: 1, since: now };
        self.actions.push_back(Action::Rediscover(*key));
    }

    pub(super) fn on_timeout(&mut self, now: Instant) {
        let due: Vec<_> =
            self.tracked.iter().filter_map(|(key, tracked)| Some((*key, tracked.due()?))).collect();
        for (key, _) in due.into_iter().filter(|(_, due)| *due <= now) {
            match self.tracked.get(&key).map(|tracked| tracked.phase) {
                Some(Phase::Soliciting { .. }) => self.on_round_failed(key, now),
                Some(Phase::BackingOff { round, .. }) => self.again_if_used(key, round + 1, now),
                _ => {}
            }
        }
        if self.next_sweep.is_some_and(|sweep| sweep <= now) {
            self.next_sweep = None;
            let stale: Vec<_> = self.in_phase(Phase::Stale).collect();
            for key in stale {
                self.confirm_if_used(key, now);
            }
            self.forget_unneeded();
            if self.in_phase(Phase::Stale).next().is_some() {
                self.next_sweep = Some(now + STALE_SWEEP);
            }
        }
    }

    /// When [`on_timeout`](Self::on_timeout) is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.tracked.values().filter_map(Tracked::due).chain(self.next_sweep).min()
    }

    pub(super) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether devices must look again.
    pub(super) fn poll_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    fn on_round_failed(&mut self, key: NeighbourKey, now: Instant) {
        let Some(tracked) = self.tracked.get_mut(&key) else { return };
        tracked.invalidated = false;
        tracked.cell.set_doubted(false);
        let round = match tracked.phase {
            Phase::Soliciting { round, .. } => round,
            Phase::BackingOff { .. } => return,
            // It had answered before: no round of ours has failed yet.
            Phase::Settled | Phase::Stale | Phase::Idle => return self.again_if_used(key, 1, now),
        };
        if round < UNREACHABLE_AFTER {
            return self.again_if_used(key, round + 1, now);
        }
        let doublings = (round - UNREACHABLE_AFTER).min(16);
        let wait = (FIRST_BACK_OFF * 2u32.pow(doublings)).min(LONGEST_BACK_OFF);
        tracked.phase = Phase::BackingOff { round, until: now + wait };
        // So that the next round waits for someone who still wants it.
        let _ = tracked.take_wanted(now);
        tracked.cell.set_hop(Hop::Unreachable);
        self.changed = true;
    }

    /// Flushed or collected: found out again if used, with the last hardware address in force meanwhile.
    fn on_gone(&mut self, key: NeighbourKey, now: Instant) {
        match self.tracked.get(&key).map(|tracked| tracked.phase) {
            Some(Phase::Settled | Phase::Stale) => self.again_if_used(key, 1, now),
            // The kernel dropped what it was asked to solicit. (A flush says "failed" first, then "gone".)
            Some(Phase::Soliciting { round, .. }) => self.solicit(key, round, now),
            _ => {}
        }
    }

    fn again_if_used(&mut self, key: NeighbourKey, round: u32, now: Instant) {
        let Some(tracked) = self.tracked.get_mut(&key) else { return };
        self.changed = true;
        if tracked.take_wanted(now) {
            self.solicit(key, round, now);
        } else {
            tracked.phase = Phase::Idle;
            tracked.cell.set_hop(Hop::Cold);
        }
    }

    fn confirm_if_used(&mut self, key: NeighbourKey, now: Instant) {
        let Some(tracked) = self.tracked.get_mut(&key) else { return };
        if tracked.take_wanted(now) {
            self.changed = true;
            tracked.phase = Phase::Settled;
            self.actions.push_back(Action::Solicit(key));
        }
    }

    fn solicit(&mut self, key: NeighbourKey, round: u32, now: Instant) {
        let Some(tracked) = self.tracked.get_mut(&key) else { return };
        if tracked.cell.hop() == Hop::Cold {
            self.changed |= tracked.cell.set_hop(Hop::Pending);
        }
        tracked.phase = Phase::Soliciting { round, since: now };
        self.actions.push_back(Action::Solicit(key));
    }

    /// Drops neighbours that no destination goes through any more.
    fn forget_unneeded(&mut self) {
        self.tracked.retain(|_, tracked| Arc::strong_count(&tracked.cell) > 1);
        self.forget_at = 2 * self.tracked.len();
    }

    fn in_phase(&self, phase: Phase) -> impl Iterator<Item = NeighbourKey> {
        self.tracked.iter().filter(move |(_, tracked)| tracked.phase == phase).map(|(key, _)| *key)
    }
}

impl Phase {
    fn is_soliciting(self) -> bool {
        matches!(self, Self::Soliciting { .. })
    }
}

impl Tracked {
    /// Whether it was used of late. Clears the mark of use: devices must look again.
    fn take_wanted(&mut self, now: Instant) -> bool {
        if self.cell.take_used() {
            self.last_used = now;
        }
        now.duration_since(self.last_used) < WANTED_FOR
    }

    fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Soliciting { since, .. } => Some(since + ROUND_PATIENCE),
            Phase::BackingOff { until, .. } => Some(until),
            Phase::Settled | Phase::Stale | Phase::Idle => None,
        }
    }
}

mod suspicions;
#[cfg(test)]
mod tests;

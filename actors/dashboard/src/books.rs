//! Whether what was handed on arrived: the books of the hops between actors.
//!
//! Each hop is counted at both ends, by whoever hands on and by whoever finds. The counters are read one after the other
//! while packets move, so a hop is read so that the result is a bound: first what was handed on, last what arrived. More
//! of the former than of the latter is a loss for certain, unless books changed hands meanwhile; then this reading says
//! nothing. A loss that passes unseen while traffic is dense shows in its next gap.

mod kernel;

pub use kernel::KernelBooks;

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use serde::{Deserialize, Serialize};
use wirepath_trace::{ItemTotals, MeterSnapshot, Passed, Registry};

use crate::reading::{ActorReading, Reading};

/// Kinds of actors that are few, and so can be read twice.
const FEW: [&str; 3] = ["device", "demux", "listener"];

/// Drops by the demux or a listener are where they say they handed a datagram on, or not; these are elsewhere.
const ELSEWHERE: [&str; 3] = ["binding_backlog_dropped", "datagram_unread_dropped", "path_unbound_dropped"];

/// Readings in which something must be missing from a mailbox: until then its sender may have been overtaken.
const STANDING: u32 = 5;

/// One hop, over all actors of its kinds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HopReading {
    /// From where to where.
    pub hop: Cow<'static, str>,
    /// Handed on, by those who do.
    pub sent: u64,
    /// Found, by those it was for.
    pub received: u64,
    /// In their mailboxes.
    pub queued: u64,
    /// Dropped on the way, by name.
    pub dropped: u64,
    /// Lost for certain as far as this reading tells; `None` if it tells nothing.
    pub loss: Option<u64>,
    /// Lost for certain so far.
    pub unaccounted: u64,
}

/// The first half of a reading of the books.
#[derive(Debug)]
pub struct Books {
    settled: Option<u64>,
    early: Totals,
    connections: ItemTotals,
}

type Totals = BTreeMap<&'static str, ItemTotals>;

/// What others than the meters count of the same datagrams.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OtherBooks {
    /// Datagrams given to be sent that went to no device.
    pub aside: u64,
    /// The hop from the kernel.
    pub kernel: Option<HopReading>,
    /// The hop to it.
    pub kernel_out: Option<HopReading>,
    /// What state machines took, read after the meters. Of connections that end meanwhile too much, if anything.
    pub datagram_taken: u64,
    /// Packets they found in it.
    pub packet_found: u64,
    /// Of these, opened, or understood without.
    pub packet_received: u64,
    /// Of these, kept for later, to be found once more.
    pub packet_deferred: u64,
    /// Of these, dropped by name.
    pub packet_dropped: u64,
    /// Datagrams, or trains of them, that state machines made. Of connections that end meanwhile too little, if anything.
    pub transmit_made: u64,
    /// The same at the reading before: all of these have been handed on by now.
    pub transmit_made_earlier: u64,
}

impl Books {
    /// Reads what was handed on. Before anything else is read.
    pub fn open(registry: &Registry) -> Self {
        let settled = registry.settled();
        let early = registry.totals_of_named(&FEW);
        Self { settled, early, connections: registry.departed("connection") }
    }

    /// Takes an actor's books: connections' are read once.
    pub(crate) fn read(&mut self, kind: &str, figures: &MeterSnapshot) {
        if kind == "connection" {
            self.connections += ItemTotals::from(figures);
        }
    }

    /// Reads what arrived. After all else, drops included, was read.
    pub fn close(self, registry: &Registry, reading: &mut Reading, other: OtherBooks) {
        let aside = other.aside;
        let late = registry.totals_of_named(&FEW);
        let is_sound = self.settled.is_some() && self.settled == registry.settled();
        let at = |totals: &Totals, kind| totals.get(kind).copied().unwrap_or_default();
        let early = |kind| at(&self.early, kind);
        let (device, demux, listener) = (at(&late, "device"), at(&late, "demux"), at(&late, "listener"));
        let connection = self.connections;
        let (up, down, done) = (Passed::Up as usize, Passed::Down as usize, Passed::Done as usize);
        let named: u64 = reading
            .drops
            .iter()
            .filter(|(cause, _)| !ELSEWHERE.contains(&cause.as_str()))
            .map(|(_, count)| count)
            .sum();
        let hop = |hop: &'static str, sent: [u64; 2], into: &[ItemTotals]| {
            let sum = |of: fn(&ItemTotals) -> u64| into.iter().map(of).sum::<u64>();
            HopReading {
                hop: Cow::Borrowed(hop),
                sent: sent[1],
                received: sum(|it| it.handled),
                queued: sum(|it| it.queued),
                dropped: sum(|it| it.dropped),
                loss: is_sound.then(|| sent[0].saturating_sub(sum(|it| it.sent))),
                unaccounted: 0,
            }
        };
        let sorted = |demux: &ItemTotals, listener: &ItemTotals| {
            demux.passed[up]
                + listener.passed[up]
                + demux.passed[done]
                + listener.passed[done]
                + listener.passed[down]
        };
        let (taken, taken_early) =
            (demux.handled + listener.handled, early("demux").handled + early("listener").handled);
        let unbound = reading.drops.get("path_unbound_dropped").copied().unwrap_or(0);
        let within = within_connections(&other, &connection, unbound, is_sound);
        reading.hops = vec![
            hop("device → demux", [early("device").passed[up], device.passed[up]], &[demux]),
            HopReading {
                hop: Cow::Borrowed("in demux, listener"),
                sent: taken,
                received: sorted(&demux, &listener),
                queued: 0,
                dropped: named,
                loss: is_sound.then(|| taken_early.saturating_sub(sorted(&demux, &listener) + named)),
                unaccounted: 0,
            },
            hop(
                "demux, listener → listener, connection",
                [
                    early("demux").passed[up] + early("listener").passed[up],
                    demux.passed[up] + listener.passed[up],
                ],
                &[listener, connection],
            ),
            hop(
                "connection, listener → device",
                [
                    (connection.passed[down] + early("listener").passed[down]).saturating_sub(aside),
                    (connection.passed[down] + listener.passed[down]).saturating_sub(aside),
                ],
                &[device],
            ),
        ];
        let out = reading.hops.len() - 1;
        reading.hops.splice(out..out, within);
        reading.hops.splice(0..0, other.kernel);
        reading.hops.extend(other.kernel_out);
    }
}

/// From a connection's mailbox through its state machine, and out again.
fn within_connections(
    other: &OtherBooks,
    connection: &ItemTotals,
    unbound: u64,
    is_sound: bool,
) -> [HopReading; 3] {
    let passed = connection.passed[Passed::Down as usize];
    let hop = |hop: &'static str, sent, received, dropped, loss: Option<u64>| HopReading {
        hop: Cow::Borrowed(hop),
        sent,
        received,
        queued: 0,
        dropped,
        loss,
        unaccounted: 0,
    };
    let told = other.packet_received + other.packet_deferred + other.packet_dropped;
    let (handled, taken) = (connection.handled, other.datagram_taken);
    let made = other.transmit_made_earlier.saturating_sub(passed + unbound);
    [
        hop("connection → QUIC", handled, taken, 0, is_sound.then(|| handled.saturating_sub(taken))),
        // Both sides are copied together, connection by connection. What was kept for later is found, and sent, then.
        hop(
            "packets in QUIC",
            other.packet_found.saturating_sub(other.packet_deferred),
            other.packet_received,
            other.packet_dropped,
            Some(other.packet_found.abs_diff(told)),
        ),
        hop("QUIC → connection", other.transmit_made, passed, unbound, is_sound.then_some(made)),
    ]
}

/// What is missing, told from what only seemed so for a moment.
#[derive(Debug, Default)]
pub(crate) struct Auditor {
    hops: HashMap<Cow<'static, str>, HopAudit>,
    /// Readings in a row in which an actor missed something, and the least it missed: messages, items.
    actors: HashMap<u64, (u32, [u64; 2])>,
}

#[derive(Debug, Default)]
struct HopAudit {
    last: u64,
    certain: u64,
}

impl Auditor {
    /// Notes in a reading what is certain. Rows it shares with the `last` one miss nothing.
    pub(crate) fn audit(&mut self, reading: &mut Reading, last: &Reading) {
        for hop in &mut reading.hops {
            let audit = self.hops.entry(hop.hop.clone()).or_default();
            if let Some(loss) = hop.loss {
                // Twice in a row: between handing on and counting at the other end a moment passes.
                audit.certain = audit.certain.max(loss.min(audit.last));
                audit.last = loss;
            }
            hop.unaccounted = audit.certain;
        }
        let mut actors = HashMap::new();
        reading.actors.revise(&last.actors, |actor| {
            if !is_missing_some(actor) {
                return None;
            }
            let missing = [actor.missing.unsigned_abs(), actor.items_missing.unsigned_abs()];
            let (times, least) = self.actors.get(&actor.id).copied().unwrap_or((0, missing));
            let (times, least) = (times + 1, [least[0].min(missing[0]), least[1].min(missing[1])]);
            actors.insert(actor.id, (times, least));
            let [unaccounted, items_unaccounted] = least;
            (times >= STANDING).then(|| ActorReading { unaccounted, items_unaccounted, ..actor.clone() })
        });
        self.actors = actors;
    }
}

fn is_missing_some(actor: &ActorReading) -> bool {
    actor.missing != 0 || actor.items_missing != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::{Wants, read_registry};

    fn read(registry: &Registry, auditor: &mut Auditor, drops: u64) -> Reading {
        let taken = registry.totals(&["connection"]).get("connection").map_or(0, |it| it.handled);
        read_with(registry, auditor, drops, OtherBooks { datagram_taken: taken, ..OtherBooks::default() })
    }

    fn read_with(registry: &Registry, auditor: &mut Auditor, drops: u64, other: OtherBooks) -> Reading {
        let mut reading = Reading::default();
        let last = Reading::default();
        let books = read_registry(registry, &Wants::default(), &last, &mut reading);
        reading.drops.insert("socket_unmatched_dropped".to_owned(), drops);
        books.close(registry, &mut reading, other);
        auditor.audit(&mut reading, &last);
        reading
    }

    fn unaccounted(reading: &Reading) -> Vec<u64> {
        reading.hops.iter().map(|hop| hop.unaccounted).collect()
    }

    #[test]
    fn a_datagram_lost_between_or_within_actors_shows_at_its_hop_and_stays() {
        let (registry, mut auditor) = (Registry::default(), Auditor::default());
        let enter = |kind, name: &str| registry.enter(kind, &["it"], name.into(), None);
        let (device, demux) = (enter("device", "eth0/0"), enter("demux", "0"));
        let connection = enter("connection", "");
        let carry = |sent: u32, arrives: u32, sorted: u32| {
            device.meter.on_passed(Passed::Up, sent);
            let ticket = demux.meter.on_sent(arrives, 0);
            demux.meter.on_handled(0, ticket, arrives, 0, 0);
            demux.meter.on_passed(Passed::Up, sorted);
            let ticket = connection.meter.on_sent(sorted, 0);
            connection.meter.on_handled(0, ticket, sorted, 0, 0);
        };
        carry(64, 64, 62);
        for _ in 0..3 {
            assert_eq!(unaccounted(&read(&registry, &mut auditor, 2)), [0; 7], "two were dropped by name");
        }
        carry(8, 7, 7);
        read(&registry, &mut auditor, 2);
        assert_eq!(unaccounted(&read(&registry, &mut auditor, 2)), [1, 0, 0, 0, 0, 0, 0]);
        carry(8, 8, 6);
        read(&registry, &mut auditor, 2);
        assert_eq!(unaccounted(&read(&registry, &mut auditor, 2)), [1, 2, 0, 0, 0, 0, 0]);
        // The connection ends; its books remain.
        registry.leave(connection.id, None);
        drop(connection);
        for _ in 0..3 {
            assert_eq!(unaccounted(&read(&registry, &mut auditor, 2)), [1, 2, 0, 0, 0, 0, 0]);
        }
    }

    #[test]
    fn a_datagram_lost_within_a_connection_shows_where() {
        let (registry, mut auditor) = (Registry::default(), Auditor::default());
        let connection = registry.enter("connection", &["it"], String::new(), None);
        let ticket = connection.meter.on_sent(9, 0);
        connection.meter.on_handled(0, ticket, 9, 0, 0);
        connection.meter.on_passed(Passed::Down, 4);
        let whole = OtherBooks {
            datagram_taken: 9,
            packet_found: 12,
            packet_received: 8,
            packet_deferred: 1,
            packet_dropped: 3,
            transmit_made: 5,
            transmit_made_earlier: 4,
            ..OtherBooks::default()
        };
        let mut within = |other: &OtherBooks| {
            read_with(&registry, &mut auditor, 0, other.clone());
            unaccounted(&read_with(&registry, &mut auditor, 0, other.clone()))[3..6].to_vec()
        };
        assert_eq!(within(&whole), [0; 3]);
        assert_eq!(within(&OtherBooks { datagram_taken: 8, ..whole.clone() }), [1, 0, 0]);
        assert_eq!(within(&OtherBooks { packet_dropped: 1, ..whole.clone() }), [1, 2, 0]);
        assert_eq!(within(&OtherBooks { transmit_made_earlier: 7, ..whole.clone() }), [1, 2, 3]);
        assert_eq!(within(&whole), [1, 2, 3], "what was lost stays lost");
    }

    #[test]
    fn a_message_missing_from_a_mailbox_counts_once_it_stays_missing() {
        let (registry, mut auditor) = (Registry::default(), Auditor::default());
        let demux = registry.enter("demux", &["packets"], "0".into(), None);
        let _lost = demux.meter.on_sent(5, 0);
        let ticket = demux.meter.on_sent(1, 0);
        demux.meter.on_handled(0, ticket, 1, 0, 0);
        for n in 1..=STANDING {
            let reading = read(&registry, &mut auditor, 0);
            let actor = reading.actors.find(demux.id).expect("it lives");
            let certain = if n == STANDING { (1, 5) } else { (0, 0) };
            assert_eq!((actor.unaccounted, actor.items_unaccounted), certain);
            assert_eq!((actor.depth, actor.missing, actor.queued()), (0, 1, 1 - certain.0));
        }
    }
}

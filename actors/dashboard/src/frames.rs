//! Who holds which UMEM frame, and since when.
//!
//! The data path stamps no time on frames: a ledger says of each where it is, in which stay, and who was noted to hold
//! it. Two looks that find the same stay prove that the frame was there all the time between, so ages are true lower
//! bounds, late by one reading at the most.

use std::collections::{BTreeMap, HashMap};

use crate::{
    api::{FrameHolder, FrameSuspect, PlaceCount, UmemLedger},
    reading::ActorReading,
    rows::Rows,
};

/// A frame that an actor holds, or the kernel sends, for so long may be lost: no mailbox, queue or ring of ours holds a
/// packet for a tenth of that.
const SUSPECT_NS: u64 = 10_000_000_000;
/// Suspects an answer names.
const SUSPECTS: usize = 100;

/// What is seen of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameNote {
    /// Where it is, in the words of [`PlaceCount::place`].
    pub place: &'static str,
    /// The same while it stays there.
    pub stay: u32,
    /// The actor noted to hold it.
    pub holder: Option<u64>,
}

/// Remembers since when frames are where they are.
#[derive(Debug, Default)]
pub struct FrameWatch {
    seen: HashMap<String, Vec<Stay>>,
}

#[derive(Clone, Copy, Debug)]
struct Stay {
    place: &'static str,
    stay: u32,
    since_ns: u64,
}

impl FrameWatch {
    /// The ledger of a UMEM, from what is seen of its frames at `now`. Actors are sorted by id.
    pub fn ledger(
        &mut self,
        device: &str,
        notes: &[FrameNote],
        actors: &Rows<ActorReading>,
        now: u64,
    ) -> UmemLedger {
        let seen = self.seen.entry(device.to_owned()).or_default();
        // A UMEM opened anew has frames of its own.
        if seen.len() != notes.len() {
            *seen = notes.iter().map(|it| Stay { place: it.place, stay: it.stay, since_ns: now }).collect();
        }
        let mut places: BTreeMap<&str, PlaceCount> = BTreeMap::new();
        let mut holders: BTreeMap<(&str, Option<u64>), (u64, u64)> = BTreeMap::new();
        let mut suspects = Vec::new();
        for (frame, (note, seen)) in notes.iter().zip(seen).enumerate() {
            if (seen.stay, seen.place) != (note.stay, note.place) {
                *seen = Stay { place: note.place, stay: note.stay, since_ns: now };
            }
            let age = now - seen.since_ns;
            let place = places.entry(note.place).or_insert_with(|| count(note.place));
            place.frames += 1;
            if !is_idle(note.place) {
                place.oldest_age_ns = place.oldest_age_ns.max(Some(age));
                let (frames, oldest) = holders.entry((note.place, note.holder)).or_default();
                (*frames, *oldest) = (*frames + 1, age.max(*oldest));
            }
            if age >= SUSPECT_NS && is_in_passing(note.place) {
                suspects.push((age, frame as u64, note));
            }
        }
        suspects.sort_by_key(|(age, ..)| std::cmp::Reverse(*age));
        let name = |place, holder| name(device, place, holder, actors);
        let suspects = suspects.into_iter().take(SUSPECTS).map(|(age_ns, frame, note)| {
            let (holder, actor) = name(note.place, note.holder);
            FrameSuspect { frame, place: note.place.to_owned(), holder, actor, age_ns }
        });
        let mut holders: Vec<_> = holders
            .into_iter()
            .map(|((place, holder), (frames, oldest))| {
                let (holder, actor) = name(place, holder);
                FrameHolder { holder, actor, frames, oldest_age_ns: Some(oldest) }
            })
            .collect();
        holders.sort_by_key(|it| std::cmp::Reverse(it.frames));
        let order = ["free", "fill", "rx_app", "tx_app", "tx_ring", "quarantined"];
        let (capacity, sum) = (notes.len() as u64, order.iter().filter_map(|it| places.get(it)));
        let sum = sum.map(|it| it.frames).sum();
        UmemLedger {
            device: device.to_owned(),
            capacity,
            sum,
            balanced: sum == capacity,
            places: order.map(|place| places.remove(place).unwrap_or_else(|| count(place))).into(),
            holders,
            suspects: suspects.collect(),
            ..UmemLedger::default()
        }
    }
}

fn count(place: &str) -> PlaceCount {
    PlaceCount { place: place.to_owned(), frames: 0, oldest_age_ns: None }
}

/// Frames lie here for as long as there is no traffic.
fn is_idle(place: &str) -> bool {
    matches!(place, "free" | "quarantined")
}

/// Frames only pass here.
fn is_in_passing(place: &str) -> bool {
    matches!(place, "rx_app" | "tx_app" | "tx_ring")
}

/// Whoever holds it, for people, and its actor.
fn name(
    device: &str,
    place: &str,
    holder: Option<u64>,
    actors: &Rows<ActorReading>,
) -> (String, Option<String>) {
    let text = |name: &str| (name.to_owned(), None);
    match (place, holder) {
        ("fill", _) => text("kernel, to receive into"),
        ("tx_ring", _) => text("kernel, being sent"),
        (_, Some(id)) => match actors.find(id) {
            Some(actor) => (actor.label(), Some(id.to_string())),
            None => text(&format!("actor {id}, which has ended")),
        },
        // Noted are those to whom the demux or a connection gives it.
        ("rx_app", None) => match actors.iter().find(|it| it.kind == "device" && it.name == device) {
            Some(device) => {
                (format!("{}, or the demux behind it", device.label()), Some(device.id.to_string()))
            }
            None => text("the demux"),
        },
        _ => text("leased, a packet being written"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn note(place: &'static str, stay: u32, holder: Option<u64>) -> FrameNote {
        FrameNote { place, stay, holder }
    }

    #[test]
    fn ages_grow_while_a_frame_stays_and_one_that_stays_for_long_is_a_suspect() {
        let actor = |id, kind: &'static str, name: &str| ActorReading {
            id,
            kind: kind.into(),
            name: name.into(),
            ..ActorReading::default()
        };
        let actors = Rows::from(vec![actor(5, "device", "eth0/0"), actor(17, "connection", "")]);
        let mut watch = FrameWatch::default();
        let mut look = |seconds: u64, stays: [u32; 3]| {
            let notes = [
                note("rx_app", stays[0], Some(17)),
                note("rx_app", stays[1], None),
                note("fill", stays[2], None),
                note("free", 0, None),
            ];
            watch.ledger("eth0/0", &notes, &actors, seconds * SECOND)
        };
        look(100, [1, 1, 1]);
        let ledger = look(105, [1, 2, 1]);
        assert_eq!((ledger.capacity, ledger.places.iter().map(|it| it.frames).sum::<u64>()), (4, 4));
        assert!(ledger.suspects.is_empty(), "five seconds are not long enough");
        let ledger = look(110, [1, 3, 1]);
        let [suspect] = &ledger.suspects[..] else { panic!("{ledger:?}") };
        assert_eq!((suspect.frame, suspect.holder.as_str()), (0, "connection 17"));
        assert_eq!((suspect.actor.as_deref(), suspect.age_ns), (Some("17"), 10 * SECOND));
        let holder = |name: &str| ledger.holders.iter().find(|it| it.holder == name).expect(name).clone();
        assert_eq!(holder("connection 17").oldest_age_ns, Some(10 * SECOND));
        let unsorted = holder("device eth0/0, or the demux behind it");
        assert_eq!((unsorted.frames, unsorted.oldest_age_ns), (1, Some(0)), "another packet each time");
        assert_eq!(holder("kernel, to receive into").oldest_age_ns, Some(10 * SECOND));
        assert!(look(111, [2, 4, 1]).suspects.is_empty(), "it went home, and came back");
    }

    #[test]
    fn frames_of_one_that_ended_are_told_so() {
        let mut watch = FrameWatch::default();
        let notes = [note("tx_app", 9, Some(40))];
        watch.ledger("eth0/0", &notes, &Rows::default(), 0);
        let ledger = watch.ledger("eth0/0", &notes, &Rows::default(), 60 * SECOND);
        assert_eq!(ledger.suspects[0].holder, "actor 40, which has ended");
    }
}

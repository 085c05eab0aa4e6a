//! The list of all actors, for those who look in from outside.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;

use crate::{BatchClock, ItemTotals, KindMeter, KindSnapshot, Meter, Nanos};

/// Slices of the table of nameless actors, so that partitions that make and end connections rarely meet at a lock.
const SLICES: usize = 16;

/// Ends of actors that are remembered. Failures are rare; plain ends of connections are not remembered at all.
const HISTORY: usize = 256;

type Entries = BTreeMap<u64, Arc<ActorEntry>>;

/// Lists the actors of one stack. Written when actors come and go, read by viewers.
#[derive(Debug)]
pub struct Registry {
    next_id: AtomicU64,
    /// Actors with a name are few: who looks for one of them need not pass by thousands of connections.
    named: Mutex<Entries>,
    nameless: [Mutex<Entries>; SLICES],
    kinds: Mutex<BTreeMap<&'static str, Arc<KindMeter>>>,
    history: Mutex<VecDeque<Tombstone>>,
}

/// The end of an actor.
#[derive(Clone, Debug)]
pub struct Tombstone {
    /// Its id.
    pub id: u64,
    /// Its kind.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Its supervisor.
    pub parent: Option<u64>,
    /// When it ended.
    pub ended_at: Nanos,
    /// How it failed; `None` if it was done or told to stop.
    pub failure: Option<String>,
    /// Who took its place.
    pub successor: Option<u64>,
}

/// One live actor.
#[derive(Debug)]
pub struct ActorEntry {
    /// Unique in its stack, never reused.
    pub id: u64,
    /// What tells it from others of its kind, as in "veth0/0"; empty for connections, whose id is their name.
    pub name: String,
    /// Its supervisor.
    pub parent: Option<u64>,
    /// When it was started.
    pub started_at: Nanos,
    restarts: AtomicU64,
    /// Its mailbox.
    pub meter: Meter,
    /// Whether it is off the list: then nobody reads its meter, and what is counted there is to be settled.
    has_left: AtomicBool,
    was_killed: AtomicBool,
}

impl ActorEntry {
    /// The kind, as in "demux".
    pub fn kind(&self) -> &'static str {
        self.meter.kind().name()
    }

    /// How many of its predecessors, of the same kind and name, have failed.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Relaxed)
    }

    /// It is being killed: should nobody know better how it ended, that is how.
    pub fn on_killed(&self) {
        self.was_killed.store(true, Relaxed);
    }

    fn shares_place_with(&self, other: &Self) -> bool {
        self.kind() == other.kind() && self.name == other.name
    }

    /// Something was counted for it. Cheap, but for actors that have ended.
    pub fn settle_if_ended(&self) {
        if self.has_left.load(Relaxed) {
            self.meter.settle();
        }
    }
}

/// Notes who takes the place of those that ended, and how many of them failed.
fn succeed(history: &mut VecDeque<Tombstone>, entry: &ActorEntry) {
    for tombstone in history.iter_mut().filter(|it| it.kind == entry.kind() && it.name == entry.name) {
        tombstone.successor.get_or_insert(entry.id);
        entry.restarts.fetch_add(tombstone.failure.is_some().into(), Relaxed);
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            next_id: AtomicU64::new(1),
            named: Mutex::default(),
            nameless: std::array::from_fn(|_| Mutex::default()),
            kinds: Mutex::new(BTreeMap::new()),
            history: Mutex::default(),
        }
    }
}

impl Registry {
    /// Lists a new actor, whose kind understands `messages`, and gives it its id.
    pub fn enter(
        &self,
        kind: &'static str,
        messages: &[&'static str],
        name: String,
        parent: Option<u64>,
    ) -> Arc<ActorEntry> {
        let kind =
            self.kinds.lock().entry(kind).or_insert_with(|| Arc::new(KindMeter::new(kind, messages))).clone();
        kind.on_spawned();
        let id = self.next_id.fetch_add(1, Relaxed);
        let entry = Arc::new(ActorEntry {
            id,
            name,
            parent,
            started_at: BatchClock::last(),
            restarts: AtomicU64::new(0),
            meter: Meter::new(kind),
            has_left: AtomicBool::new(false),
            was_killed: AtomicBool::new(false),
        });
        if entry.name.is_empty() {
            self.slice(id).lock().insert(id, entry.clone());
        } else {
            // Listed before another end can be noted, so that either this or that finds the other.
            let mut history = self.history.lock();
            succeed(&mut history, &entry);
            self.named.lock().insert(id, entry.clone());
        }
        entry
    }

    /// Strikes an actor off the list; `failure` says how it failed, if it did.
    pub fn leave(&self, id: u64, failure: Option<String>) {
        let strike = |list: &Mutex<Entries>| {
            let mut list = list.lock();
            let entry = list.remove(&id)?;
            entry.has_left.store(true, Relaxed);
            entry.meter.settle();
            Some(entry)
        };
        let Some(entry) = strike(self.slice(id)).or_else(|| strike(&self.named)) else { return };
        let failure = failure.or_else(|| entry.was_killed.load(Relaxed).then(|| "it was killed".to_owned()));
        entry.meter.kind().on_stopped(failure.is_some());
        // The plain end of one of many nameless ones is no news.
        if failure.is_none() && entry.name.is_empty() {
            return;
        }
        let mut history = self.history.lock();
        if history.len() == HISTORY {
            history.pop_front();
        }
        let successor = self.successor_of(&entry);
        if let Some(successor) = &successor {
            successor.restarts.fetch_add(failure.is_some().into(), Relaxed);
        }
        history.push_back(Tombstone {
            id,
            kind: entry.kind(),
            name: entry.name.clone(),
            parent: entry.parent,
            ended_at: BatchClock::last(),
            failure,
            successor: successor.map(|it| it.id),
        });
    }

    /// Who is in the place of one that has just been struck off: a supervisor may hear of an end, and start another,
    /// before the first is gone.
    fn successor_of(&self, former: &ActorEntry) -> Option<Arc<ActorEntry>> {
        if former.name.is_empty() {
            return None;
        }
        let named = self.named.lock();
        named.range(former.id..).map(|(_, it)| it).find(|it| it.shares_place_with(former)).cloned()
    }

    /// The ends of actors, oldest first.
    pub fn history(&self) -> Vec<Tombstone> {
        self.history.lock().iter().cloned().collect()
    }

    /// All live actors, by id.
    pub fn actors(&self) -> Vec<Arc<ActorEntry>> {
        let mut entries: Vec<_> = self
            .nameless
            .iter()
            .chain([&self.named])
            .flat_map(|list| list.lock().iter().map(|(id, entry)| (*id, entry.clone())).collect::<Vec<_>>())
            .collect();
        // By what is in the list: thousands of entries are not looked at for that.
        entries.sort_unstable_by_key(|(id, _)| *id);
        entries.into_iter().map(|(_, entry)| entry).collect()
    }

    /// The kinds of actors seen so far.
    pub fn kinds(&self) -> Vec<KindSnapshot> {
        let kinds: Vec<_> = self.kinds.lock().values().cloned().collect();
        kinds.iter().map(|kind| kind.snapshot()).collect()
    }

    /// Items in the books of these kinds of actors, those that have ended included.
    pub fn totals(&self, kinds: &[&'static str]) -> BTreeMap<&'static str, ItemTotals> {
        self.sum(kinds, self.nameless.iter().chain([&self.named]))
    }

    /// The same of kinds whose actors all have names: there are few of those.
    pub fn totals_of_named(&self, kinds: &[&'static str]) -> BTreeMap<&'static str, ItemTotals> {
        self.sum(kinds, [&self.named])
    }

    fn sum<'a>(
        &self,
        kinds: &[&'static str],
        lists: impl IntoIterator<Item = &'a Mutex<Entries>>,
    ) -> BTreeMap<&'static str, ItemTotals> {
        let known: Vec<_> = self.kinds.lock().values().cloned().collect();
        let known = known.into_iter().filter(|kind| kinds.contains(&kind.name()));
        let mut totals: BTreeMap<_, _> = known.map(|kind| (kind.name(), kind.departed())).collect();
        for list in lists {
            let entries: Vec<_> = {
                let list = list.lock();
                let wanted = |entry: &&Arc<ActorEntry>| kinds.contains(&entry.kind());
                list.values().filter(wanted).cloned().collect()
            };
            for entry in entries {
                if let Some(total) = totals.get_mut(entry.kind()) {
                    *total += ItemTotals::from(&entry.meter.snapshot());
                }
            }
        }
        totals
    }

    /// Items in the books that ended actors of a kind left.
    pub fn departed(&self, kind: &str) -> ItemTotals {
        self.kinds.lock().get(kind).map(|kind| kind.departed()).unwrap_or_default()
    }

    /// Moves on whenever an actor's books go over to its kind's; `None` while one's do. Totals read between two equal
    /// answers are true.
    pub fn settled(&self) -> Option<u64> {
        let mut sum = 0;
        for kind in self.kinds.lock().values() {
            let (begun, done) = kind.settled();
            (begun == done).then_some(())?;
            sum += done;
        }
        Some(sum)
    }

    fn slice(&self, id: u64) -> &Mutex<Entries> {
        &self.nameless[id as usize % SLICES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actors_come_and_go_and_their_kind_remembers() {
        let registry = Registry::default();
        let parent = registry.enter("listener", &["datagrams"], "0.0.0.0:443".into(), None);
        let child = registry.enter("connection", &["datagrams"], String::new(), Some(parent.id));
        assert_eq!(
            registry.actors().iter().map(|actor| actor.kind()).collect::<Vec<_>>(),
            ["listener", "connection"]
        );
        registry.leave(child.id, Some("it panicked".into()));
        registry.leave(child.id, Some("it panicked".into()));
        assert_eq!(registry.actors().len(), 1);
        let kinds = registry.kinds();
        let connection = kinds.iter().find(|kind| kind.name == "connection").expect("listed");
        assert_eq!((connection.actor_spawned, connection.actor_stopped, connection.actor_failed), (1, 1, 1));
    }

    #[test]
    fn a_successor_is_known_by_kind_and_name_and_plain_ends_of_nameless_ones_are_forgotten() {
        let registry = Registry::default();
        let first = registry.enter("listener", &["datagrams"], "0.0.0.0:443".into(), None);
        let nameless = registry.enter("connection", &["datagrams"], String::new(), None);
        registry.leave(first.id, Some("it was killed".into()));
        registry.leave(nameless.id, None);
        let second = registry.enter("listener", &["datagrams"], "0.0.0.0:443".into(), None);
        let history = registry.history();
        assert_eq!(history.len(), 1);
        assert_eq!(history[0].failure.as_deref(), Some("it was killed"));
        assert_eq!((history[0].successor, second.restarts()), (Some(second.id), 1));
    }

    #[test]
    fn totals_outlive_their_actors_and_count_nothing_twice() {
        let registry = Registry::default();
        let kinds = ["connection"];
        let actor = registry.enter("connection", &["datagrams"], String::new(), None);
        let tickets: Vec<_> = [5, 7].map(|items| actor.meter.on_sent(items, 0)).into();
        actor.meter.on_handled(0, tickets[0], 5, 0, 0);
        actor.meter.on_passed(crate::Passed::Down, 3);
        let live = registry.totals(&kinds)["connection"];
        assert_eq!(live, ItemTotals { sent: 12, handled: 5, dropped: 0, queued: 7, passed: [0, 3, 0] });
        let before = registry.settled().expect("nobody ends");
        registry.leave(actor.id, None);
        assert_ne!(registry.settled(), Some(before));
        // Its last message goes, and one more is sent in vain.
        actor.meter.on_dropped(7);
        actor.settle_if_ended();
        actor.meter.on_refused(2);
        actor.settle_if_ended();
        let ended = ItemTotals { sent: 14, handled: 5, dropped: 9, queued: 0, passed: [0, 3, 0] };
        assert_eq!(registry.totals(&kinds)["connection"], ended);
        drop(actor);
        assert_eq!(registry.totals(&kinds)["connection"], ended);
        assert!(registry.totals(&["demux"]).is_empty());
    }

    #[test]
    fn a_successor_that_starts_before_its_predecessor_is_gone_is_known_too() {
        let registry = Registry::default();
        let first = registry.enter("listener", &["datagrams"], "0.0.0.0:443".into(), None);
        let other = registry.enter("listener", &["datagrams"], "0.0.0.0:444".into(), None);
        first.on_killed();
        let second = registry.enter("listener", &["datagrams"], "0.0.0.0:443".into(), None);
        assert_eq!(second.restarts(), 0, "nobody has failed yet");
        registry.leave(first.id, None);
        registry.leave(other.id, None);
        let ends: Vec<_> = registry.history().into_iter().map(|it| (it.failure, it.successor)).collect();
        assert_eq!(ends, [(Some("it was killed".into()), Some(second.id)), (None, None)]);
        assert_eq!(second.restarts(), 1);
    }

    #[test]
    fn the_history_is_bounded() {
        let registry = Registry::default();
        for _ in 0..HISTORY + 10 {
            let actor = registry.enter("demux", &["packets"], "0".into(), None);
            registry.leave(actor.id, Some("again".into()));
        }
        assert_eq!(registry.history().len(), HISTORY);
    }
}

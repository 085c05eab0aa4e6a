//! The list of all actors, for those who look in from outside.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;

use crate::{KindMeter, KindSnapshot, Meter, MeterSnapshot};

/// Slices of the actor table, so that partitions that make and end connections rarely meet at a lock.
const SLICES: usize = 16;

/// Lists the actors of one stack. Written when actors come and go, read by viewers.
#[derive(Debug)]
pub struct Registry {
    next_id: AtomicU64,
    slices: [Mutex<BTreeMap<u64, Arc<ActorEntry>>>; SLICES],
    kinds: Mutex<BTreeMap<&'static str, Arc<KindMeter>>>,
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
    /// Its mailbox.
    pub meter: Meter,
}

/// A copy of an [`ActorEntry`] and its figures.
#[derive(Clone, Debug)]
pub struct ActorRecord {
    /// Unique in its stack.
    pub id: u64,
    /// The kind, as in "demux".
    pub kind: &'static str,
    /// What tells it from others of its kind.
    pub name: String,
    /// Its supervisor.
    pub parent: Option<u64>,
    /// Its mailbox.
    pub meter: MeterSnapshot,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            next_id: AtomicU64::new(1),
            slices: std::array::from_fn(|_| Mutex::new(BTreeMap::new())),
            kinds: Mutex::new(BTreeMap::new()),
        }
    }
}

impl Registry {
    /// Lists a new actor and gives it its id.
    pub fn enter(&self, kind: &'static str, name: String, parent: Option<u64>) -> Arc<ActorEntry> {
        let kind = self.kinds.lock().entry(kind).or_insert_with(|| Arc::new(KindMeter::new(kind))).clone();
        kind.on_spawned();
        let id = self.next_id.fetch_add(1, Relaxed);
        let entry = Arc::new(ActorEntry { id, name, parent, meter: Meter::new(kind) });
        self.slice(id).lock().insert(id, entry.clone());
        entry
    }

    /// Strikes an actor off the list.
    pub fn leave(&self, id: u64, failed: bool) {
        if let Some(entry) = self.slice(id).lock().remove(&id) {
            entry.meter.kind().on_stopped(failed);
        }
    }

    /// All live actors, by id.
    pub fn actors(&self) -> Vec<ActorRecord> {
        let mut records: Vec<_> = self
            .slices
            .iter()
            .flat_map(|slice| slice.lock().values().cloned().collect::<Vec<_>>())
            .map(|entry| ActorRecord {
                id: entry.id,
                kind: entry.meter.kind().name(),
                name: entry.name.clone(),
                parent: entry.parent,
                meter: entry.meter.snapshot(),
            })
            .collect();
        records.sort_unstable_by_key(|record| record.id);
        records
    }

    /// The kinds of actors seen so far.
    pub fn kinds(&self) -> Vec<KindSnapshot> {
        let kinds: Vec<_> = self.kinds.lock().values().cloned().collect();
        kinds.iter().map(|kind| kind.snapshot()).collect()
    }

    fn slice(&self, id: u64) -> &Mutex<BTreeMap<u64, Arc<ActorEntry>>> {
        &self.slices[id as usize % SLICES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actors_come_and_go_and_their_kind_remembers() {
        let registry = Registry::default();
        let parent = registry.enter("listener", "0.0.0.0:443".into(), None);
        let child = registry.enter("connection", String::new(), Some(parent.id));
        assert_eq!(
            registry.actors().iter().map(|actor| actor.kind).collect::<Vec<_>>(),
            ["listener", "connection"]
        );
        registry.leave(child.id, true);
        registry.leave(child.id, true);
        assert_eq!(registry.actors().len(), 1);
        let kinds = registry.kinds();
        let connection = kinds.iter().find(|kind| kind.name == "connection").expect("listed");
        assert_eq!((connection.actor_spawned, connection.actor_stopped, connection.actor_failed), (1, 1, 1));
    }
}

//! The list of actors, one actor, the tree.

use std::collections::HashMap;

use super::{Query, View, mean};
use crate::{
    api::{ActorDetail, ActorRef, ActorRow, Page, Tree, TreeNode},
    reading::ActorReading,
};

/// Children of an actor that its page names.
const CHILDREN: usize = 100;
/// Connections of a parent that the tree shows.
const TREE_CHILDREN: usize = 50;

impl View<'_> {
    /// The list.
    ///
    /// # Errors
    /// The query's mistake.
    pub(crate) fn actors(&self, query: &Query) -> Result<Page<ActorRow>, String> {
        let before = self.actors_before();
        let rows: Vec<_> = self
            .now
            .actors
            .iter()
            .filter(|actor| query.kind.as_ref().is_none_or(|kind| *kind == actor.kind))
            .map(|actor| self.actor_row(actor, before.get(&actor.id).copied()))
            .collect();
        query.page(rows, self.now.actors.len(), |row| format!("{} {} {}", row.kind, row.name, row.id))
    }

    pub(super) fn actor_row(&self, actor: &ActorReading, before: Option<&ActorReading>) -> ActorRow {
        // One that was not there before has done all it did since.
        let none = ActorReading::default();
        let before = before.unwrap_or(if self.seconds().is_some() { &none } else { actor });
        let handled = actor.handled.saturating_sub(before.handled);
        ActorRow {
            id: actor.id.to_string(),
            kind: actor.kind.to_string(),
            name: actor.name.clone(),
            parent: actor.parent.map(|id| id.to_string()),
            // Read one after the other while messages move: what was sent is at least what became of them.
            sent: actor.handled + actor.dropped + actor.queued(),
            handled: actor.handled,
            dropped: actor.dropped,
            queued: actor.queued(),
            items_queued: actor.items_queued,
            depth_peak: actor.depth_peak,
            oldest_age_ns: actor.oldest_age(self.now.t_ns),
            busy_share: self.share(actor.busy_ns, before.busy_ns),
            messages_per_s: self.rate(actor.handled, before.handled),
            items_per_s: self.rate(actor.items_handled, before.items_handled),
            wait_mean_ns: mean(actor.wait_ns.saturating_sub(before.wait_ns), handled),
            run_mean_ns: mean(actor.busy_ns.saturating_sub(before.busy_ns), handled),
            restarts: actor.restarts,
        }
    }

    /// One actor.
    pub(crate) fn actor(&self, id: u64) -> Option<ActorDetail> {
        let by_id: HashMap<u64, &ActorReading> = self.now.actors.iter().map(|it| (it.id, it)).collect();
        let actor = by_id.get(&id)?;
        let before = self.before.actors.iter().find(|it| it.id == id);
        let kind = self.now.kinds.iter().find(|kind| kind.name == actor.kind).cloned().unwrap_or_default();
        let children: Vec<_> = self.now.actors.iter().filter(|it| it.parent == Some(id)).collect();
        let ancestors = std::iter::successors(actor.parent.and_then(|id| by_id.get(&id)), |it| {
            it.parent.and_then(|id| by_id.get(&id))
        });
        let mut ancestors: Vec<_> = ancestors.map(|it| reference(it)).collect();
        ancestors.reverse();
        let same = |it: &&crate::api::TombstoneRow| it.kind == actor.kind && it.name == actor.name;
        Some(ActorDetail {
            row: self.actor_row(actor, before),
            ancestors,
            children: children.iter().take(CHILDREN).map(|it| reference(it)).collect(),
            children_total: children.len() as u64,
            messages: kind.messages,
            wait: kind.wait,
            run: kind.run,
            restarts: self.now.history.iter().rev().filter(same).cloned().collect(),
        })
    }

    /// The supervision tree.
    pub(crate) fn tree(&self) -> Tree {
        let before = self.actors_before();
        let mut children: HashMap<u64, u64> = HashMap::new();
        let mut shown: HashMap<u64, usize> = HashMap::new();
        for parent in self.now.actors.iter().filter_map(|actor| actor.parent) {
            *children.entry(parent).or_default() += 1;
        }
        let visible = self.now.actors.iter().filter(|actor| {
            if actor.kind != "connection" {
                return true;
            }
            let shown = shown.entry(actor.parent.unwrap_or(0)).or_default();
            *shown += 1;
            *shown <= TREE_CHILDREN
        });
        // By id: parents are made before their children.
        let nodes = visible.map(|actor| TreeNode {
            id: actor.id.to_string(),
            kind: actor.kind.to_string(),
            name: actor.name.clone(),
            parent: actor.parent.map(|id| id.to_string()),
            children_total: children.get(&actor.id).copied().unwrap_or(0),
            restarts: actor.restarts,
            busy_share: self.share(actor.busy_ns, before.get(&actor.id).map_or(0, |it| it.busy_ns)),
            started_ns: actor.started_ns,
        });
        let nodes = nodes.collect();
        Tree { nodes, history: self.now.history.iter().rev().take(200).cloned().collect() }
    }
}

fn reference(actor: &ActorReading) -> ActorRef {
    ActorRef { id: actor.id.to_string(), kind: actor.kind.to_string(), name: actor.name.clone() }
}

//! The list of actors, one actor, the tree.

use std::collections::HashMap;

use super::{
    Query, View, mean,
    query::{Key, List},
};
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
        let of_kind = |actor: &&ActorReading| query.kind.as_ref().is_none_or(|kind| *kind == actor.kind);
        query.page(self.now.actors.iter().filter(of_kind), self.now.actors.len(), &ActorList(self))
    }

    pub(super) fn actor_row(&self, actor: &ActorReading) -> ActorRow {
        let before = self.before(actor);
        let handled = actor.handled.saturating_sub(before.handled);
        ActorRow {
            id: actor.id.to_string(),
            kind: actor.kind.to_string(),
            name: actor.name.clone(),
            parent: actor.parent.map(|id| id.to_string()),
            sent: actor.sent,
            handled: actor.handled,
            dropped: actor.dropped,
            queued: actor.queued(),
            unaccounted: actor.unaccounted,
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
        let by_id = |id: u64| self.now.actors.find(id).map(|it| &**it);
        let actor = by_id(id)?;
        let kind = self.now.kinds.iter().find(|kind| kind.name == actor.kind).cloned().unwrap_or_default();
        let children: Vec<_> = self.now.actors.iter().filter(|it| it.parent == Some(id)).collect();
        let ancestors = std::iter::successors(actor.parent.and_then(by_id), |it| it.parent.and_then(by_id));
        let mut ancestors: Vec<_> = ancestors.map(reference).collect();
        ancestors.reverse();
        let same = |it: &&crate::api::TombstoneRow| it.kind == actor.kind && it.name == actor.name;
        Some(ActorDetail {
            row: self.actor_row(actor),
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
            busy_share: self.share(actor.busy_ns, self.before(actor).busy_ns),
            started_ns: actor.started_ns,
        });
        let nodes = nodes.collect();
        Tree { nodes, history: self.now.history.iter().rev().take(200).cloned().collect() }
    }
}

/// The list of actors.
struct ActorList<'a>(&'a View<'a>);

impl<'a> List for ActorList<'a> {
    type Candidate = &'a ActorReading;
    type Row = ActorRow;

    fn text(&self, it: &&ActorReading) -> String {
        format!("{} {} {}", it.kind, it.name, it.id)
    }

    fn key(&self, it: &&ActorReading, field: &str) -> Option<Key> {
        let (view, before) = (self.0, self.0.before(it));
        let handled = it.handled.saturating_sub(before.handled);
        let number = match field {
            "kind" => return Some(Key::text(&it.kind)),
            "name" => return Some(Key::text(&it.name)),
            "id" => it.id as f64,
            "parent" => it.parent.unwrap_or(0) as f64,
            "sent" => it.sent as f64,
            "handled" => it.handled as f64,
            "dropped" => it.dropped as f64,
            "queued" => it.queued() as f64,
            "unaccounted" => it.unaccounted as f64,
            "items_queued" => it.items_queued as f64,
            "depth_peak" => it.depth_peak as f64,
            "oldest_age_ns" => it.oldest_age(view.now.t_ns) as f64,
            "busy_share" => view.share(it.busy_ns, before.busy_ns),
            "messages_per_s" => view.rate(it.handled, before.handled),
            "items_per_s" => view.rate(it.items_handled, before.items_handled),
            "wait_mean_ns" => mean(it.wait_ns.saturating_sub(before.wait_ns), handled) as f64,
            "run_mean_ns" => mean(it.busy_ns.saturating_sub(before.busy_ns), handled) as f64,
            "restarts" => it.restarts as f64,
            _ => return None,
        };
        Some(Key::Number(number))
    }

    fn row(&self, it: &&ActorReading) -> ActorRow {
        self.0.actor_row(it)
    }
}

fn reference(actor: &ActorReading) -> ActorRef {
    ActorRef { id: actor.id.to_string(), kind: actor.kind.to_string(), name: actor.name.clone() }
}

//! Actors: the list, one of them, and the tree.

use serde::{Deserialize, Serialize};

use super::Distribution;

/// One line of the list of actors. Sort by any field's name; `filter` looks in kind, name and id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActorRow {
    /// Unique in its stack, never reused.
    pub id: String,
    /// The kind, as in `"demux"`.
    pub kind: String,
    /// What tells it from others of its kind.
    pub name: String,
    /// Its supervisor's id.
    pub parent: Option<String>,
    /// Messages ever sent to it, as its senders count.
    pub sent: u64,
    /// Of these, handled, as it counts itself.
    pub handled: u64,
    /// Of these, dropped.
    pub dropped: u64,
    /// Of these, in the mailbox now.
    pub queued: u64,
    /// Lost: a defect if above 0. Always `sent = handled + dropped + queued + unaccounted`.
    pub unaccounted: u64,
    /// Items (datagrams, for data) in the mailbox now.
    pub items_queued: u64,
    /// The most messages that were ever in the mailbox at once.
    pub depth_peak: u64,
    /// How long the oldest message has waited; 0 when there is none.
    pub oldest_age_ns: u64,
    /// Share of a core it is busy.
    pub busy_share: f64,
    /// Messages handled.
    pub messages_per_s: f64,
    /// Items handled.
    pub items_per_s: f64,
    /// How long its messages wait: mean over the last second.
    pub wait_mean_ns: u64,
    /// How long handling one takes: mean over the last second.
    pub run_mean_ns: u64,
    /// How often its predecessors under the same name failed.
    pub restarts: u64,
}

/// An actor by its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActorRef {
    /// Its id.
    pub id: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// One actor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActorDetail {
    /// What the list says of it.
    pub row: ActorRow,
    /// From the root of the tree down to its supervisor.
    pub ancestors: Vec<ActorRef>,
    /// Its children; the first 100.
    pub children: Vec<ActorRef>,
    /// How many there are.
    pub children_total: u64,
    /// What its kind handles, by kind of message.
    pub messages: Vec<MessageKind>,
    /// How long messages to actors of its kind wait.
    pub wait: Distribution,
    /// How long handling takes actors of its kind.
    pub run: Distribution,
    /// Ends of earlier actors of this kind and name, newest first.
    pub restarts: Vec<TombstoneRow>,
}

/// One kind of message, over all actors of a kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageKind {
    /// Its name.
    pub name: String,
    /// How many were handled.
    pub handled: u64,
    /// How long they waited.
    pub wait: Distribution,
    /// How long handling took.
    pub run: Distribution,
}

/// The supervision tree.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tree {
    /// Live actors, parents before children. Of the connections of one parent the first 50.
    pub nodes: Vec<TreeNode>,
    /// Ends of actors, newest first: failures always, plain ends of connections not. At most 200.
    pub history: Vec<TombstoneRow>,
}

/// A live actor in the tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TreeNode {
    /// Its id.
    pub id: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its supervisor.
    pub parent: Option<String>,
    /// Children it has, those left out included.
    pub children_total: u64,
    /// How often its predecessors under the same name failed.
    pub restarts: u64,
    /// Share of a core it is busy.
    pub busy_share: f64,
    /// When it was started.
    pub started_ns: u64,
}

/// The end of an actor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TombstoneRow {
    /// Its id.
    pub id: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its supervisor.
    pub parent: Option<String>,
    /// When it ended.
    pub ended_ns: u64,
    /// Whether it failed, panicked or was killed.
    pub failed: bool,
    /// What is known of why.
    pub reason: String,
    /// Who took its place.
    pub successor: Option<String>,
}

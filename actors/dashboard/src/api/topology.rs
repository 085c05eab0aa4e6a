//! The way of packets as a graph.

use serde::{Deserialize, Serialize};

/// NIC → queue → XSK → demux → listener / connections, and back: nodes in layers, edges with their flow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Topology {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The edges.
    pub edges: Vec<Edge>,
}

/// What is to be seen of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Nothing passes.
    Idle,
    /// Works.
    Ok,
    /// Where a jam begins: what others wait for.
    Cause,
    /// Waits for a node that is the cause.
    Victim,
    /// Not there now: failed, or between two lives.
    Down,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// `"nic:eth0"`, `"queue:eth0/0"`, `"actor:17"`, `"connections:0"` (all of a partition but the busiest), `"app"`.
    pub id: String,
    /// `nic`, `nic_queue`, `device`, `demux`, `pool_shard`, `listener`, `connection`, `connections`, `application`.
    pub kind: String,
    /// For people.
    pub label: String,
    /// Left (0) to right: NIC 0, queue 1, device 2, demux 3, pool shard and listener 4, connection 5, application 6.
    pub layer: u32,
    /// The actor it stands for.
    pub actor: Option<String>,
    /// Connections a `connections` node stands for; else 1.
    pub count: u64,
    /// How it does.
    pub state: NodeState,
    /// Items (datagrams, packets) handled.
    pub items_per_s: f64,
    /// Share of a core it is busy.
    pub busy_share: f64,
    /// Messages in its mailbox.
    pub depth: u64,
    /// How long the oldest of them has waited.
    pub oldest_age_ns: u64,
}

/// The flow from one node to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    /// A [`Node::id`].
    pub from: String,
    /// A [`Node::id`].
    pub to: String,
    /// `rx` or `tx`.
    pub direction: super::Direction,
    /// Items (datagrams, packets) that pass.
    pub items_per_s: f64,
    /// How long a message waits at `to` before it is handled: mean over the last second.
    pub wait_mean_ns: u64,
    /// 0 (cool) to 1: the wait on a logarithmic scale from 1 µs to 100 ms.
    pub heat: f64,
}

//! The way of packets as a graph.

use std::collections::BTreeMap;

use super::View;
use crate::{
    api::{ActorRow, Direction, Edge, Node, NodeState, Topology},
    reading::ActorReading,
};

/// Connections drawn by themselves; the others of a partition are one node.
const CONNECTIONS: usize = 12;

/// A mailbox whose oldest message has waited for so long jams: far more than a turn of 64 datagrams takes.
pub(super) const JAM_NS: u64 = 20_000_000;

/// An actor, and as it was before.
type Pair<'a> = (&'a ActorReading, &'a ActorReading);

impl<'a> View<'a> {
    /// The graph.
    pub(crate) fn topology(&self) -> Topology {
        // Connections may be thousands: rows are made of those only that are drawn.
        let (connections, others): (Vec<_>, Vec<_>) =
            self.actors_and_before().partition(|(actor, _)| actor.kind == "connection");
        let row = |actor| (actor, self.actor_row(actor));
        let rows: Vec<(&ActorReading, ActorRow)> = others.into_iter().map(|(actor, _)| row(actor)).collect();
        let mut graph = Graph { view: self, topology: Topology::default() };
        let cause = self.cause().map(|actor| actor.id);
        for (actor, row) in &rows {
            if let Some(layer) = layer(&actor.kind) {
                let state = self.state(row, cause == Some(actor.id), cause.is_some());
                graph.actor(row, layer, state);
            }
        }
        let (drawn, rest) = self.busiest(connections);
        let drawn: Vec<_> = drawn.into_iter().map(|(actor, _)| row(actor)).collect();
        for (actor, row) in &drawn {
            graph.actor(row, 5, self.state(row, cause == Some(actor.id), cause.is_some()));
        }
        graph.rest(&rest);
        graph.devices();
        graph.connect(&rows, drawn.iter().map(|(actor, row)| (*actor, row)));
        graph.topology
    }

    /// The connections to be drawn, those that jam first, then the busiest; and the others.
    fn busiest(&self, connections: Vec<Pair<'a>>) -> (Vec<Pair<'a>>, Vec<Pair<'a>>) {
        let rank = |(actor, before): Pair<'a>| {
            let items = actor.items_handled.saturating_sub(before.items_handled);
            (actor.oldest_age(self.now.t_ns) >= JAM_NS, items)
        };
        let mut ranked: Vec<_> = connections.into_iter().map(|pair| (rank(pair), pair)).collect();
        if ranked.len() > CONNECTIONS {
            ranked.select_nth_unstable_by(CONNECTIONS, |(a, _), (b, _)| b.cmp(a));
        }
        let rest = ranked.split_off(ranked.len().min(CONNECTIONS));
        ranked.sort_by(|(a, (first, _)), (b, (second, _))| b.cmp(a).then(first.id.cmp(&second.id)));
        let plain = |ranked: Vec<(_, Pair<'a>)>| ranked.into_iter().map(|(_, pair)| pair).collect();
        (plain(ranked), plain(rest))
    }

    /// Where a jam begins: of the actors whose oldest message has waited too long the one that is busy with it. Actors
    /// of one partition share a thread, so while one handles a message for long, all others of it only wait.
    pub(super) fn cause(&self) -> Option<&ActorReading> {
        let jams = self.now.actors.iter().filter(|it| it.oldest_age(self.now.t_ns) >= JAM_NS);
        let jammed: Vec<_> = jams.collect();
        if jammed.is_empty() {
            return None;
        }
        let busy = |it: &ActorReading| {
            // In hand for all that time: nothing was handled since, or very little took very long.
            let earlier = self.before.actors.find(it.id);
            let handled = it.handled.saturating_sub(earlier.map_or(0, |it| it.handled));
            let busy = it.busy_ns.saturating_sub(earlier.map_or(0, |it| it.busy_ns));
            busy.checked_div(handled).unwrap_or(u64::MAX - it.oldest_at_ns)
        };
        jammed.into_iter().max_by_key(|it| busy(it))
    }

    fn state(&self, row: &ActorRow, is_cause: bool, jam: bool) -> NodeState {
        if is_cause {
            NodeState::Cause
        } else if jam && row.oldest_age_ns >= JAM_NS {
            NodeState::Victim
        } else if row.messages_per_s > 0.0 {
            NodeState::Ok
        } else {
            NodeState::Idle
        }
    }
}

fn layer(kind: &str) -> Option<u32> {
    Some(match kind {
        "nic" => 0,
        "nic_queue" => 1,
        "device" => 2,
        "demux" => 3,
        "pool_shard" | "listener" => 4,
        "connection" => 5,
        _ => return None,
    })
}

pub(super) fn node_of(id: u64) -> String {
    format!("actor:{id}")
}

struct Graph<'a> {
    view: &'a View<'a>,
    topology: Topology,
}

impl Graph<'_> {
    fn actor(&mut self, row: &ActorRow, layer: u32, state: NodeState) {
        let label = if row.name.is_empty() {
            format!("{} {}", row.kind, row.id)
        } else {
            format!("{} {}", row.kind, row.name)
        };
        self.topology.nodes.push(Node {
            id: format!("actor:{}", row.id),
            kind: row.kind.clone(),
            label,
            layer,
            actor: Some(row.id.clone()),
            count: 1,
            state,
            items_per_s: row.items_per_s,
            busy_share: row.busy_share,
            depth: row.queued,
            oldest_age_ns: row.oldest_age_ns,
        });
    }

    /// One node for the connections of a partition that are not drawn.
    fn rest(&mut self, actors: &[Pair<'_>]) {
        let view = self.view;
        let mut by_parent: BTreeMap<u64, Node> = BTreeMap::new();
        for (actor, before) in actors {
            let parent = actor.parent.unwrap_or(0);
            let grew = |now: u64, of: fn(&ActorReading) -> u64| view.rate(now, of(before));
            let node = by_parent.entry(parent).or_insert_with(|| Node {
                id: format!("connections:{parent}"),
                kind: "connections".to_owned(),
                label: String::new(),
                layer: 5,
                actor: None,
                count: 0,
                state: NodeState::Idle,
                items_per_s: 0.0,
                busy_share: 0.0,
                depth: 0,
                oldest_age_ns: 0,
            });
            node.count += 1;
            node.items_per_s += grew(actor.items_handled, |it| it.items_handled);
            node.busy_share = (node.busy_share + grew(actor.busy_ns, |it| it.busy_ns) / 1e9).min(1.0);
            node.depth += actor.queued();
            node.oldest_age_ns = node.oldest_age_ns.max(actor.oldest_age(view.now.t_ns));
            if grew(actor.handled, |it| it.handled) > 0.0 {
                node.state = NodeState::Ok;
            }
        }
        for (_, mut node) in by_parent {
            node.label = format!("{} more connections", node.count);
            self.topology.nodes.push(node);
        }
    }

    /// A queue without an XSK is down.
    fn devices(&mut self) {
        for device in self.view.now.devices.iter().filter(|it| it.trouble.is_some()) {
            for node in &mut self.topology.nodes {
                if node.kind == "nic_queue" && node.label.ends_with(&format!(" {}", device.name)) {
                    node.state = NodeState::Down;
                }
            }
        }
    }

    fn edge(&mut self, from: String, to: String, direction: Direction, items_per_s: f64, wait: u64) {
        let has = |id: &String| self.topology.nodes.iter().any(|node| node.id == *id);
        if has(&from) && has(&to) {
            let edge = Edge { from, to, direction, items_per_s, wait_mean_ns: wait, heat: heat(wait) };
            self.topology.edges.push(edge);
        }
    }

    fn connect<'r>(
        &mut self,
        rows: &'r [(&'r ActorReading, ActorRow)],
        drawn: impl Iterator<Item = (&'r ActorReading, &'r ActorRow)>,
    ) {
        let of_kind = |kind: &'static str| rows.iter().filter(move |(actor, _)| actor.kind == kind);
        // The partition an actor lives on is its farthest ancestor.
        let view = self.view;
        let root = |mut id: u64| {
            while let Some(parent) = view.now.actors.find(id).and_then(|it| it.parent) {
                id = parent;
            }
            id
        };
        let connections =
            drawn.map(|(actor, row)| (node_of(actor.id), root(actor.id), row.items_per_s, row.wait_mean_ns));
        let mut ends: Vec<_> = connections.collect();
        let groups = self.topology.nodes.iter().filter(|node| node.kind == "connections");
        ends.extend(groups.filter_map(|node| {
            let parent = node.id.strip_prefix("connections:")?.parse().ok()?;
            Some((node.id.clone(), root(parent), node.items_per_s, 0))
        }));
        for (nic, _) in of_kind("nic") {
            for (queue, _) in of_kind("nic_queue").filter(|(it, _)| it.name.starts_with(&nic.name)) {
                let rate = self.device_rate(&queue.name, Direction::Rx);
                self.edge(node_of(nic.id), node_of(queue.id), Direction::Rx, rate, 0);
            }
        }
        let demuxes: Vec<_> =
            of_kind("demux").map(|(it, row)| (it.id, root(it.id), row.wait_mean_ns)).collect();
        for (device, row) in of_kind("device") {
            let (rx, tx) = (
                self.device_rate(&device.name, Direction::Rx),
                self.device_rate(&device.name, Direction::Tx),
            );
            if let Some((queue, _)) = of_kind("nic_queue").find(|(it, _)| it.name == device.name) {
                self.edge(node_of(queue.id), node_of(device.id), Direction::Rx, rx, 0);
            }
            let own = root(device.id);
            // An OS socket's device is its pool shard's child, and feeds the first partition's demux.
            let demux = demuxes.iter().find(|(_, partition, _)| *partition == own).or(demuxes.first());
            if let Some((demux, _, wait)) = demux {
                self.edge(node_of(device.id), node_of(*demux), Direction::Rx, rx, *wait);
            }
            if tx > 0.0 {
                let senders: Vec<_> = ends.iter().filter(|(_, partition, ..)| *partition == own).collect();
                let all: f64 = senders.iter().map(|(_, _, rate, _)| rate).sum();
                for (sender, _, rate, _) in senders {
                    let share = if all > 0.0 { rate / all } else { 0.0 };
                    self.edge(
                        sender.clone(),
                        node_of(device.id),
                        Direction::Tx,
                        tx * share,
                        row.wait_mean_ns,
                    );
                }
            }
        }
        for (demux, partition, _) in &demuxes {
            for (listener, row) in of_kind("listener").filter(|(it, _)| root(it.id) == *partition) {
                self.edge(
                    node_of(*demux),
                    node_of(listener.id),
                    Direction::Rx,
                    row.items_per_s,
                    row.wait_mean_ns,
                );
            }
            for (end, _, rate, wait) in ends.iter().filter(|(_, own, ..)| own == partition) {
                self.edge(node_of(*demux), end.clone(), Direction::Rx, *rate, *wait);
            }
        }
        self.application(&ends);
    }

    /// The application, where the streams end.
    fn application(&mut self, ends: &[(String, u64, f64, u64)]) {
        if ends.is_empty() {
            return;
        }
        self.topology.nodes.push(Node {
            id: "app".to_owned(),
            kind: "application".to_owned(),
            label: "application".to_owned(),
            layer: 6,
            actor: None,
            count: 1,
            state: if ends.iter().any(|end| end.2 > 0.0) { NodeState::Ok } else { NodeState::Idle },
            items_per_s: 0.0,
            busy_share: 0.0,
            depth: 0,
            oldest_age_ns: 0,
        });
        for (end, _, rate, _) in ends {
            self.edge(end.clone(), "app".to_owned(), Direction::Rx, *rate, 0);
        }
    }

    fn device_rate(&self, name: &str, direction: Direction) -> f64 {
        let of = |devices: &[crate::reading::DeviceReading]| {
            devices.iter().find(|it| it.name == name).map_or(0, |it| match direction {
                Direction::Rx => it.rx_packets,
                Direction::Tx => it.tx_datagrams,
            })
        };
        self.view.rate(of(&self.view.now.devices), of(&self.view.before.devices))
    }
}

/// 1 µs is cool, 100 ms is hot; a decade is a fifth of the scale.
fn heat(wait_ns: u64) -> f64 {
    ((wait_ns.max(1) as f64 / 1e3).log10() / 5.0).clamp(0.0, 1.0)
}

//! What is read of the actors: of thousands, most of which rest.

use std::{borrow::Cow, sync::Arc};

use wirepath_trace::{ActorEntry, MeterSnapshot, Registry};

use super::{ActorReading, ConnectionReading, KindReading, Reading, Wants};
use crate::{
    Books,
    api::TombstoneRow,
    rows::{Listed, Rows},
};

/// What a connection takes: its own row, and its actor's.
const PAIR: usize = ActorReading::MEMORY + ConnectionReading::MEMORY;

/// What a registry tells: actors, kinds, history. Actors that did nothing since `last` are shared with it, and
/// connections' are left out once there is no memory for them: those that came last. The books of the hops are
/// [closed](Books::close) when drops have been read.
pub fn read_registry(registry: &Registry, wants: &Wants, last: &Reading, reading: &mut Reading) -> Books {
    let mut books = Books::open(registry);
    let actors = registry.actors();
    reading.actors = Rows::with_capacity(actors.len());
    let mut left = wants.memory.unwrap_or(usize::MAX);
    for entry in &actors {
        let figures = entry.meter.snapshot();
        books.read(entry.kind(), &figures);
        let known = last.actors.find(entry.id).filter(|it| is_as_it_was(it, &figures));
        if entry.name.is_empty() {
            // One that has changed is in the reading before as it was then.
            let takes = if known.is_some() { PAIR } else { 2 * PAIR };
            if takes > left && !wants.streams.contains(&entry.id) {
                reading.left_out += 1;
                continue;
            }
            left = left.saturating_sub(takes);
        }
        reading.actors.push(known.cloned().unwrap_or_else(|| Arc::new(row(entry, figures))));
    }
    reading.kinds = registry.kinds().iter().map(KindReading::from).collect();
    let text = |id: u64| id.to_string();
    reading.history = registry
        .history()
        .into_iter()
        .map(|it| TombstoneRow {
            id: text(it.id),
            kind: it.kind.to_owned(),
            name: it.name,
            parent: it.parent.map(text),
            ended_ns: it.ended_at,
            failed: it.failure.is_some(),
            reason: it.failure.unwrap_or_else(|| "it was done, or told to stop".to_owned()),
            successor: it.successor.map(text),
        })
        .collect();
    books
}

/// Whether its meter stands where it stood. What may be missing is looked at anew each time.
fn is_as_it_was(it: &ActorReading, now: &MeterSnapshot) -> bool {
    let then = [it.sent, it.handled, it.dropped, it.items_handled, it.items_queued, it.items_dropped];
    let now_messages = [now.message_sent, now.message_handled, now.message_dropped];
    let now_items = [now.item_handled, now.item_depth, now.item_dropped];
    then[..3] == now_messages
        && then[3..] == now_items
        && (it.busy_ns, it.oldest_at_ns) == (now.busy_ns, now.oldest_at)
        && [it.missing, it.items_missing, now.message_missing, now.item_missing] == [0; 4]
}

fn row(entry: &ActorEntry, figures: MeterSnapshot) -> ActorReading {
    ActorReading {
        id: entry.id,
        kind: Cow::Borrowed(entry.kind()),
        name: entry.name.clone(),
        parent: entry.parent,
        started_ns: entry.started_at,
        restarts: entry.restarts(),
        sent: figures.message_sent,
        handled: figures.message_handled,
        dropped: figures.message_dropped,
        items_handled: figures.item_handled,
        items_dropped: figures.item_dropped,
        items_queued: figures.item_depth,
        depth: figures.depth,
        missing: figures.message_missing,
        items_missing: figures.item_missing,
        unaccounted: 0,
        items_unaccounted: 0,
        depth_peak: figures.depth_peak,
        oldest_at_ns: figures.oldest_at,
        busy_ns: figures.busy_ns,
        wait_ns: figures.wait_ns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actors_at_rest_are_shared_with_the_reading_before() {
        let registry = Registry::default();
        let demux = registry.enter("demux", &["packets"], "0".into(), None);
        let connections: Vec<_> = (0..3)
            .map(|_| registry.enter("connection", &["datagrams"], String::new(), Some(demux.id)))
            .collect();
        let read = |last: &Reading| {
            let mut reading = Reading::default();
            let _ = read_registry(&registry, &Wants::default(), last, &mut reading);
            reading
        };
        let first = read(&Reading::default());
        let ticket = connections[1].meter.on_sent(4, 7);
        let second = read(&first);
        connections[1].meter.on_handled(0, ticket, 4, 1, 1);
        let third = read(&second);
        let shared = |now: &Reading, before: &Reading| {
            let pairs = now.actors.beside(&before.actors);
            pairs.map(|(row, before)| Arc::ptr_eq(row, before.expect("it was there"))).collect::<Vec<_>>()
        };
        assert_eq!(shared(&second, &first), [true, true, false, true]);
        assert_eq!(shared(&third, &second), [true, true, false, true]);
        assert_eq!(third.actors.find(connections[1].id).expect("it lives").items_handled, 4);
        assert!(third.memory_beside(&second) < third.memory());
    }

    #[test]
    fn what_there_is_no_memory_for_is_left_out_and_counted_and_the_books_know_it_all() {
        let registry = Registry::default();
        registry.enter("demux", &["packets"], "0".into(), None);
        let connections: Vec<_> =
            (0..100).map(|_| registry.enter("connection", &["datagrams"], String::new(), None)).collect();
        for one in &connections {
            let ticket = one.meter.on_sent(2, 0);
            one.meter.on_handled(0, ticket, 2, 0, 0);
        }
        let last = connections.last().expect("a hundred").id;
        let wants = Wants { memory: Some(60 * PAIR), streams: vec![last], ..Wants::default() };
        let read = |last: &Reading| {
            let mut reading = Reading::default();
            read_registry(&registry, &wants, last, &mut reading).close(
                &registry,
                &mut reading,
                crate::OtherBooks::default(),
            );
            reading
        };
        let first = read(&Reading::default());
        // Thirty that are new to it, as they might change, one that is looked at, and the demux.
        assert_eq!((first.actors.len(), first.left_out), (32, 69));
        assert!(first.actors.find(last).is_some());
        let second = read(&first);
        let third = read(&second);
        assert!(second.actors.len() > first.actors.len() && third.actors.len() >= second.actors.len());
        assert!(third.actors.len() <= 62);
        for reading in [first, second, third] {
            assert_eq!(reading.actors.len() as u64 + reading.left_out, 101);
            let within = reading.hops.iter().find(|it| it.hop == "connection → QUIC").expect("a hop");
            assert_eq!(within.sent, 200, "whoever is told of");
        }
    }
}

//! The first page.

use std::collections::BTreeMap;

use wirepath_trace::HistogramSnapshot;

use super::{View, drops, traces::stages};
use crate::{
    HopReading,
    api::{Direction, HopBooks, HopSummary, Journeys, Overview, Rates, Totals, TracingCost},
    reading::Reading,
};

/// What recording a hop costs, about, in nanoseconds: a clock reading and its share of the journey's memory.
const NANOS_PER_HOP: f64 = 60.0;

impl View<'_> {
    /// How the stack is.
    pub(crate) fn overview(&self) -> Overview {
        let (totals, before) = (totals(self.now), totals(self.before));
        let kicks = |reading: &Reading| reading.devices.iter().map(|it| it.kicks).sum::<u64>();
        let mut actors_by_kind: BTreeMap<&str, u64> = BTreeMap::new();
        for actor in self.now.actors.iter() {
            *actors_by_kind.entry(&actor.kind).or_default() += 1;
        }
        let left_out = self.now.left_out;
        if left_out > 0 {
            *actors_by_kind.entry("connection").or_default() += left_out;
        }
        Overview {
            source: self.source.to_owned(),
            uptime_ns: self.now.uptime_ns,
            data_path: self.now.data_path.clone(),
            rates: Rates {
                rx_packets_per_s: self.rate(totals.rx_packets, before.rx_packets),
                rx_bytes_per_s: self.rate(totals.rx_bytes, before.rx_bytes),
                tx_datagrams_per_s: self.rate(totals.tx_datagrams, before.tx_datagrams),
                tx_bytes_per_s: self.rate(totals.tx_bytes, before.tx_bytes),
                drops_per_s: self.rate(totals.drops, before.drops),
                messages_per_s: self.rate(totals.messages, before.messages),
                kicks_per_s: self.rate(kicks(self.now), kicks(self.before)),
            },
            totals,
            actors: self.now.actors.len() as u64 + left_out,
            actors_by_kind: actors_by_kind.into_iter().map(|(kind, n)| (kind.to_owned(), n)).collect(),
            connections: self.now.connections.len() as u64 + left_out,
            connections_left_out: left_out,
            hops: self.hop_summaries(),
            journeys: self.journey_summary(),
            lints: self.lints(),
            conserved: self.conserved(),
            books: self.now.hops.iter().map(books).collect(),
            tracing: self.tracing(),
        }
    }

    fn conserved(&self) -> bool {
        self.now.actors.iter().all(|it| it.unaccounted + it.items_unaccounted == 0)
            && self.now.hops.iter().all(|it| it.unaccounted == 0)
    }

    fn hop_summaries(&self) -> Vec<HopSummary> {
        [Direction::Rx, Direction::Tx]
            .into_iter()
            .flat_map(|direction| {
                let journeys = self.journeys.iter().copied().filter(move |it| it.direction == direction);
                stages(journeys).into_iter().map(move |(stage, samples)| HopSummary {
                    direction,
                    stage: stage.stage,
                    wait_p50_ns: stage.wait_p50_ns,
                    wait_p99_ns: stage.wait_p99_ns,
                    run_p50_ns: stage.run_p50_ns,
                    run_p99_ns: stage.run_p99_ns,
                    samples,
                })
            })
            .collect()
    }

    fn journey_summary(&self) -> Journeys {
        let totals = |direction| {
            let journeys = self.journeys.iter().filter(|it| it.direction == direction);
            HistogramSnapshot::of(journeys.map(|it| it.total_ns))
        };
        let (rx, tx) = (totals(Direction::Rx), totals(Direction::Tx));
        Journeys {
            rx_samples: rx.count(),
            rx_p50_ns: rx.quantile(0.5),
            rx_p99_ns: rx.quantile(0.99),
            tx_samples: tx.count(),
            tx_p50_ns: tx.quantile(0.5),
            tx_p99_ns: tx.quantile(0.99),
        }
    }

    fn tracing(&self) -> TracingCost {
        let (now, before) = (&self.now.tracer, &self.before.tracer);
        TracingCost {
            sample_one_in: now.one_in,
            armed: self.armed.clone(),
            journeys_begun: now.journeys_begun,
            hops_recorded: now.hops_recorded,
            hops_overwritten: now.hops_overwritten,
            memory_bytes: self.memory.iter().map(|part| part.bytes).sum(),
            memory_limit_bytes: self.memory.iter().map(|part| part.limit_bytes).sum(),
            memory: self.memory.clone(),
            share_of_core: self.rate(now.hops_recorded, before.hops_recorded) * NANOS_PER_HOP / 1e9,
            viewers: self.viewers,
            reader_share_of_core: self.reader_share,
        }
    }
}

fn books(hop: &HopReading) -> HopBooks {
    let accounted = hop.received + hop.queued + hop.dropped + hop.unaccounted;
    HopBooks {
        hop: hop.hop.to_string(),
        sent: hop.sent,
        received: hop.received,
        queued: hop.queued,
        dropped: hop.dropped,
        moving: hop.sent as i64 - accounted as i64,
        unaccounted: hop.unaccounted,
    }
}

fn totals(reading: &Reading) -> Totals {
    let sum = |of: fn(&crate::reading::DeviceReading) -> u64| reading.devices.iter().map(of).sum();
    Totals {
        rx_packets: sum(|it| it.rx_packets),
        rx_bytes: sum(|it| it.rx_bytes),
        tx_datagrams: sum(|it| it.tx_datagrams),
        tx_bytes: sum(|it| it.tx_bytes),
        drops: drops::all(reading).values().sum(),
        // Those of actors that have ended included.
        messages: reading.kinds.iter().map(|it| it.run.count).sum(),
    }
}

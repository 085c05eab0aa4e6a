//! Journeys: one, all of late, and by path.

use std::collections::{BTreeMap, HashMap};

use wirepath_trace::{HistogramSnapshot, JourneyRecord};

use super::{Query, View};
use crate::{
    api::{Armed, Direction, Hop, Journey, PathGroup, StageSummary, Traces},
    reading::ActorReading,
    rows::Rows,
};

impl View<'_> {
    /// Journeys of late.
    pub(crate) fn traces(&self, query: &Query) -> Traces {
        let wanted = |journey: &&&Journey| {
            let text = |direction| if direction == Direction::Rx { "rx" } else { "tx" };
            query.direction.as_ref().is_none_or(|it| it == text(journey.direction))
                && query.path.as_ref().is_none_or(|it| *it == journey.path)
                && query.actor.as_ref().is_none_or(|it| {
                    journey.connection.as_ref() == Some(it)
                        || journey.hops.iter().any(|hop| hop.actor.as_ref() == Some(it))
                })
        };
        let journeys = self.journeys.iter().rev().filter(wanted).take(query.limit() as usize);
        Traces {
            armed: Armed { filter: self.armed.clone(), sample_one_in: self.now.tracer.one_in },
            groups: self.groups(),
            journeys: journeys.map(|journey| (*journey).clone()).collect(),
            kept: self.journeys.len() as u64,
            incomplete: self.now.tracer.journeys_incomplete,
        }
    }

    /// One of them.
    pub(crate) fn trace(&self, id: &str) -> Option<Journey> {
        self.journeys.iter().find(|journey| journey.id == id).map(|journey| (*journey).clone())
    }

    fn groups(&self) -> Vec<PathGroup> {
        let mut by_path: BTreeMap<(Direction, &str), Vec<&Journey>> = BTreeMap::new();
        for journey in &self.journeys {
            by_path.entry((journey.direction, &journey.path)).or_default().push(journey);
        }
        let groups = by_path.into_iter().map(|((direction, path), journeys)| {
            let totals = HistogramSnapshot::of(journeys.iter().map(|journey| journey.total_ns));
            PathGroup {
                path: path.to_owned(),
                direction,
                count: totals.count(),
                total_p50_ns: totals.quantile(0.5),
                total_p99_ns: totals.quantile(0.99),
                stages: stages(journeys.into_iter()).into_iter().map(|(stage, _)| stage).collect(),
            }
        });
        let mut groups: Vec<_> = groups.collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.count));
        groups
    }
}

/// Each stage of these journeys with how many passed it, in the order of the way.
pub(super) fn stages<'a>(journeys: impl Iterator<Item = &'a Journey>) -> Vec<(StageSummary, u64)> {
    let mut by_stage: HashMap<&str, (usize, Vec<u64>, Vec<u64>)> = HashMap::new();
    for (place, hop) in journeys.flat_map(|journey| journey.hops.iter().enumerate()) {
        let stage = by_stage.entry(&hop.stage).or_default();
        stage.0 = stage.0.max(place);
        stage.1.push(hop.wait_ns);
        stage.2.push(hop.run_ns);
    }
    let mut stages: Vec<_> = by_stage.into_iter().collect();
    stages.sort_by_key(|(stage, (place, ..))| (*place, *stage));
    let summary = |(stage, (_, wait, run)): (&str, (usize, Vec<u64>, Vec<u64>))| {
        let samples = wait.len() as u64;
        let (wait, run) = (HistogramSnapshot::of(wait), HistogramSnapshot::of(run));
        let summary = StageSummary {
            stage: stage.to_owned(),
            wait_p50_ns: wait.quantile(0.5),
            wait_p99_ns: wait.quantile(0.99),
            run_p50_ns: run.quantile(0.5),
            run_p99_ns: run.quantile(0.99),
        };
        (summary, samples)
    };
    stages.into_iter().map(summary).collect()
}

/// A journey for people: actors by their names. Actors are sorted by id.
pub(crate) fn row(record: &JourneyRecord, actors: &Rows<ActorReading>) -> Journey {
    let actor = |id: u64| (id != 0).then(|| id.to_string());
    let mut at = record.begin;
    let hops: Vec<_> = record
        .hops()
        .iter()
        .map(|hop| {
            let begin_ns = at;
            at += hop.wait + hop.run;
            Hop {
                stage: hop.stage.name().to_owned(),
                actor: actor(hop.actor),
                label: actors.find(hop.actor).map_or_else(|| hop.stage.name().to_owned(), |it| it.label()),
                begin_ns,
                wait_ns: hop.wait,
                run_ns: hop.run,
                batch: hop.batch,
            }
        })
        .collect();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Journey {
        id: record.id.to_string(),
        direction: match record.direction {
            wirepath_trace::Direction::Rx => Direction::Rx,
            wirepath_trace::Direction::Tx => Direction::Tx,
        },
        begin_ns: record.begin,
        total_ns: record.total(),
        path: hops.iter().map(|hop| hop.stage.as_str()).collect::<Vec<_>>().join(" > "),
        len_bytes: record.len.into(),
        local: record.path.map(|(local, _)| local.to_string()),
        remote: record.path.map(|(_, remote)| remote.to_string()),
        cid: (!record.cid().is_empty()).then(|| hex(record.cid())),
        connection: actor(record.connection),
        outcome: record.outcome.to_owned(),
        hops,
    }
}

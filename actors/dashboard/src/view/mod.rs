//! From two readings to answers: every rate is the difference of the two over the time between them.

mod actors;
mod connections;
mod drops;
mod lints;
mod overview;
mod query;
mod queues;
mod streams;
mod topology;
mod traces;

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

pub(crate) use drops::all as all_drops;
pub(crate) use query::Query;
pub(crate) use traces::row as journey_row;

use crate::{
    api::{self, Live},
    reading::{ActorReading, Reading},
};

/// What is looked at: the reading shown, the one before it to take rates from, and what was gathered meanwhile.
pub(crate) struct View<'a> {
    /// `"live"`, or a recording's id.
    pub(crate) source: &'a str,
    /// The reading shown.
    pub(crate) now: &'a Reading,
    /// The one about a second before; the same one if there is none: all rates are 0 then.
    pub(crate) before: &'a Reading,
    /// Journeys of late, newest last.
    pub(crate) journeys: Vec<&'a api::Journey>,
    /// First and last times a drop was seen to grow.
    pub(crate) drops_seen: &'a HashMap<String, (u64, u64)>,
    /// Timelines of connections.
    pub(crate) timelines: &'a HashMap<u64, crate::model::ConnectionHistory>,
    /// The filter armed.
    pub(crate) armed: Option<api::TraceFilter>,
    /// Viewers of the live stream.
    pub(crate) viewers: u64,
    /// What is kept in memory.
    pub(crate) memory: Vec<api::MemoryPart>,
    /// Share of a core the reader takes.
    pub(crate) reader_share: f64,
}

impl<'a> View<'a> {
    /// Seconds between the readings; `None` where a rate means nothing.
    fn seconds(&self) -> Option<f64> {
        let nanos = self.now.t_ns.saturating_sub(self.before.t_ns);
        (nanos > 0).then_some(nanos as f64 / 1e9)
    }

    /// A rate per second. Counters of something that began anew count from 0.
    fn rate(&self, now: u64, before: u64) -> f64 {
        self.seconds().map_or(0.0, |seconds| now.saturating_sub(before) as f64 / seconds)
    }

    /// Nanoseconds between the readings.
    fn elapsed(&self) -> u64 {
        self.now.t_ns.saturating_sub(self.before.t_ns)
    }

    /// Share of the time between the readings.
    fn share(&self, now: u64, before: u64) -> f64 {
        (self.rate(now, before) / 1e9).min(1.0)
    }

    /// An actor as it was before. One that was not there before has done all it did since.
    fn before(&self, actor: &'a ActorReading) -> &'a ActorReading {
        self.or_then(actor, self.before.actors.find(actor.id))
    }

    /// All actors, and each as it was before.
    fn actors_and_before(&self) -> impl Iterator<Item = (&'a ActorReading, &'a ActorReading)> {
        let (now, before): (&'a Reading, &'a Reading) = (self.now, self.before);
        now.actors.beside(&before.actors).map(|(actor, earlier)| (&**actor, self.or_then(actor, earlier)))
    }

    fn or_then(&self, actor: &'a ActorReading, earlier: Option<&'a Arc<ActorReading>>) -> &'a ActorReading {
        static NONE: LazyLock<ActorReading> = LazyLock::new(ActorReading::default);
        match earlier {
            Some(before) => before,
            None if self.seconds().is_some() => &NONE,
            None => actor,
        }
    }

    /// What the live stream carries.
    pub(crate) fn live(&self) -> Live {
        Live {
            overview: self.overview(),
            topology: self.topology(),
            queues: self.queues(),
            drops: self.drops(),
        }
    }
}

/// The mean of what grew by `sum` over `count`.
fn mean(sum: u64, count: u64) -> u64 {
    sum.checked_div(count).unwrap_or(0)
}

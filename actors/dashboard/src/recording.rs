//! The flight recorder: readings and journeys of a while, kept to be looked at later.

use std::{collections::HashMap, collections::VecDeque, sync::Arc};

use crate::{
    api::{self, Journey, RecordingRequest, RecordingRow, RecordingState, TraceFilter},
    model::ConnectionHistory,
    reading::Reading,
};

/// Bytes all recordings hold at most; the oldest go first.
const MEMORY: u64 = 64 << 20;
/// Seconds a recording lasts, unless told otherwise, and at most.
const SECONDS: u32 = 10;
const MAX_SECONDS: u32 = 600;
/// A reading is recorded of so many: one a second.
const READINGS_PER_RECORDED: u64 = 4;
/// Recordings kept at most.
const COUNT: usize = 32;

/// One recording.
#[derive(Clone, Debug)]
pub(crate) struct Recording {
    id: String,
    name: String,
    filter: TraceFilter,
    begin_ns: u64,
    end_ns: u64,
    until_ns: u64,
    is_done: bool,
    readings: Vec<Arc<Reading>>,
    journeys: Vec<Journey>,
    memory: u64,
}

impl Recording {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn filter(&self) -> &TraceFilter {
        &self.filter
    }

    pub(crate) fn readings(&self) -> &[Arc<Reading>] {
        &self.readings
    }

    pub(crate) fn journeys(&self) -> &[Journey] {
        &self.journeys
    }

    pub(crate) fn timelines(&self, until: usize) -> HashMap<u64, ConnectionHistory> {
        let end = self.readings.len().min(until + 1);
        crate::model::timelines(&self.readings[..end])
    }

    pub(crate) fn row(&self) -> RecordingRow {
        RecordingRow {
            id: self.id.clone(),
            name: self.name.clone(),
            state: if self.is_done { RecordingState::Done } else { RecordingState::Recording },
            begin_ns: self.begin_ns,
            end_ns: self.end_ns,
            filter: self.filter.clone(),
            journeys: self.journeys.len() as u64,
            readings: self.readings.len() as u64,
            packets: self.journeys.iter().filter(|it| it.local.is_some()).count() as u64,
            memory_bytes: self.memory,
            has_secrets: false,
            formats: vec!["trace".to_owned(), "pcapng".to_owned()],
        }
    }
}

/// All recordings, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Recordings {
    all: VecDeque<Recording>,
    next: u64,
}

impl Recordings {
    pub(crate) fn begin(&mut self, request: RecordingRequest, now: u64) -> RecordingRow {
        self.next += 1;
        let seconds = request.seconds.unwrap_or(SECONDS).clamp(1, MAX_SECONDS);
        if self.all.len() == COUNT {
            self.all.pop_front();
        }
        let id = format!("r{}", self.next);
        self.all.push_back(Recording {
            name: if request.name.is_empty() { format!("recording {}", self.next) } else { request.name },
            id,
            filter: request.filter,
            begin_ns: now,
            end_ns: now,
            until_ns: now + u64::from(seconds) * 1_000_000_000,
            is_done: false,
            readings: Vec::new(),
            journeys: Vec::new(),
            memory: 0,
        });
        self.all.back().map(Recording::row).expect("just pushed")
    }

    pub(crate) fn stop(&mut self, id: &str) -> Option<RecordingRow> {
        let recording = self.all.iter_mut().find(|it| it.id == id)?;
        recording.is_done = true;
        Some(recording.row())
    }

    pub(crate) fn find(&self, id: &str) -> Option<&Recording> {
        self.all.iter().find(|it| it.id == id)
    }

    /// Takes a reading, if it is time for one.
    pub(crate) fn on_reading(&mut self, reading: &Arc<Reading>, tick: u64) {
        for recording in self.all.iter_mut().filter(|it| !it.is_done) {
            if recording.readings.is_empty() || tick.is_multiple_of(READINGS_PER_RECORDED) {
                recording.memory += estimate(reading);
                recording.readings.push(reading.clone());
            }
            recording.end_ns = reading.t_ns;
        }
        self.make_room();
    }

    /// Ends those whose time has come. Whether the filter one of them armed is to go.
    pub(crate) fn ends_armed(&mut self, now: u64) -> bool {
        let mut disarm = false;
        for recording in self.all.iter_mut().filter(|it| !it.is_done && it.until_ns <= now) {
            recording.is_done = true;
            disarm |= recording.filter != TraceFilter::default();
        }
        disarm
    }

    pub(crate) fn on_journey(&mut self, journey: &Journey) {
        for recording in self.all.iter_mut().filter(|it| !it.is_done) {
            // What a hop takes in memory, about.
            recording.memory += 400 + 160 * journey.hops.len() as u64;
            recording.journeys.push(journey.clone());
        }
        self.make_room();
    }

    /// The oldest go; the last one ends rather than grow.
    fn make_room(&mut self) {
        while self.memory() > MEMORY {
            if self.all.len() > 1 {
                self.all.pop_front();
            } else {
                self.all.iter_mut().for_each(|it| it.is_done = true);
                return;
            }
        }
    }

    fn memory(&self) -> u64 {
        self.all.iter().map(|it| it.memory).sum()
    }

    pub(crate) fn answer(&self) -> api::Recordings {
        api::Recordings {
            rows: self.all.iter().rev().map(Recording::row).collect(),
            payload_allowed: false,
            secrets_allowed: false,
            memory_bytes: self.memory(),
            memory_limit_bytes: MEMORY,
        }
    }
}

/// What a reading takes in memory, about: actors and connections are what grows.
fn estimate(reading: &Reading) -> u64 {
    16_384 + 200 * reading.actors.len() as u64 + 2_000 * reading.connections.len() as u64
}

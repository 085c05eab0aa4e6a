//! The flight recorder: readings and journeys of a while, kept to be looked at later.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use wirepath_trace::Payload;

use crate::{
    api::{self, Journey, RecordingRequest, RecordingRow, RecordingState, TraceFilter},
    model::ConnectionHistory,
    reading::{ConnectionReading, Reading},
};

/// A reading that takes more than this part of what recordings may hold is recorded without its quietest connections.
const READING_PART: u64 = 16;
/// Connections that are left then.
const CONNECTIONS: usize = 1000;
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
    /// Bytes of the datagrams of some of these journeys, by their ids.
    payloads: HashMap<String, Arc<Payload>>,
    has_secrets: bool,
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

    pub(crate) fn payloads(&self) -> &HashMap<String, Arc<Payload>> {
        &self.payloads
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
            packets: self.payloads.values().map(|it| it.datagrams.len() as u64).sum(),
            memory_bytes: self.memory,
            has_secrets: self.has_secrets,
            formats: ["trace", "pcapng", "qlog"].map(str::to_owned).into(),
        }
    }
}

/// A recording as a file: all figures and journeys of it, to be opened here or elsewhere. Packets' bytes and secrets are
/// not in it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TraceFile<'a> {
    /// [`TraceFile::VERSION`].
    wirepath_trace: u32,
    name: Cow<'a, str>,
    filter: Cow<'a, TraceFilter>,
    begin_ns: u64,
    end_ns: u64,
    readings: Vec<Cow<'a, Reading>>,
    journeys: Cow<'a, [Journey]>,
}

impl TraceFile<'_> {
    const VERSION: u32 = 1;
}

impl Recording {
    /// How its connections fared, as qlog.
    pub(crate) fn to_qlog(&self) -> Vec<u8> {
        crate::qlog::write(&self.name, self.begin_ns, &self.readings)
    }

    pub(crate) fn to_file(&self) -> Vec<u8> {
        let file = TraceFile {
            wirepath_trace: TraceFile::VERSION,
            name: Cow::Borrowed(&self.name),
            filter: Cow::Borrowed(&self.filter),
            begin_ns: self.begin_ns,
            end_ns: self.end_ns,
            readings: self.readings.iter().map(|it| Cow::Borrowed(&**it)).collect(),
            journeys: Cow::Borrowed(&self.journeys),
        };
        // Plain data: it has a form in JSON.
        serde_json::to_vec(&file).unwrap_or_default()
    }
}

/// All recordings, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Recordings {
    all: VecDeque<Recording>,
    next: u64,
    /// Bytes all recordings hold at most; the oldest go first.
    limit: u64,
    payload_allowed: bool,
    secrets_allowed: bool,
}

impl Recordings {
    /// Recordings that may hold, or not, what peers say to each other; and nothing, until they have a limit.
    pub(crate) fn new(payload_allowed: bool, secrets_allowed: bool) -> Self {
        Self { payload_allowed, secrets_allowed, ..Self::default() }
    }

    /// All of them together take at most so many bytes from now on.
    pub(crate) fn limit(&mut self, bytes: u64) {
        self.limit = bytes;
        self.make_room();
    }

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
            payloads: HashMap::new(),
            has_secrets: self.secrets_allowed,
            memory: 0,
        });
        self.all.back().map(Recording::row).expect("just pushed")
    }

    /// Adds a recording out of a file.
    ///
    /// # Errors
    /// It is no recording of a version known here.
    pub(crate) fn open(&mut self, file: &[u8]) -> Result<RecordingRow, String> {
        let file: TraceFile<'_> =
            serde_json::from_slice(file).map_err(|error| format!("that is no recording: {error}"))?;
        if file.wirepath_trace != TraceFile::VERSION || file.readings.is_empty() {
            return Err("that recording is empty, or of another version".to_owned());
        }
        let request = RecordingRequest {
            name: file.name.into_owned(),
            filter: file.filter.into_owned(),
            seconds: None,
        };
        self.begin(request, file.begin_ns);
        let recording = self.all.back_mut().expect("just begun");
        recording.is_done = true;
        recording.has_secrets = false;
        recording.end_ns = file.end_ns;
        recording.readings = file.readings.into_iter().map(|it| Arc::new(it.into_owned())).collect();
        recording.journeys = file.journeys.into_owned();
        recording.memory = recording.readings.iter().map(|it| it.memory()).sum::<u64>()
            + recording.journeys.iter().map(weight).sum::<u64>();
        let row = recording.row();
        self.make_room();
        Ok(row)
    }

    pub(crate) fn stop(&mut self, id: &str) -> Option<RecordingRow> {
        let recording = self.all.iter_mut().find(|it| it.id == id)?;
        recording.is_done = true;
        Some(recording.row())
    }

    pub(crate) fn is_recording(&self) -> bool {
        self.all.iter().any(|it| !it.is_done)
    }

    pub(crate) fn find(&self, id: &str) -> Option<&Recording> {
        self.all.iter().find(|it| it.id == id)
    }

    /// Takes a reading, if it is time for one.
    pub(crate) fn on_reading(&mut self, reading: &Arc<Reading>, tick: u64) {
        for recording in self.all.iter_mut().filter(|it| !it.is_done) {
            if recording.readings.is_empty() || tick.is_multiple_of(READINGS_PER_RECORDED) {
                let reading = pruned(reading, self.limit / READING_PART);
                let last = recording.readings.last();
                recording.memory += last.map_or_else(|| reading.memory(), |last| reading.memory_beside(last));
                recording.readings.push(reading);
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

    /// Takes a journey, and the bytes of its datagram if they were kept.
    pub(crate) fn on_journey(&mut self, journey: &Journey, payload: Option<&Arc<Payload>>) {
        for recording in self.all.iter_mut().filter(|it| !it.is_done) {
            recording.memory += weight(journey);
            recording.journeys.push(journey.clone());
            if let Some(payload) = payload {
                recording.memory += payload.memory() as u64;
                recording.payloads.insert(journey.id.clone(), payload.clone());
            }
        }
        self.make_room();
    }

    /// The oldest go; the last one ends rather than grow.
    fn make_room(&mut self) {
        while self.memory() > self.limit {
            if self.all.len() > 1 {
                self.all.pop_front();
            } else {
                self.all.iter_mut().for_each(|it| it.is_done = true);
                return;
            }
        }
    }

    pub(crate) fn memory(&self) -> u64 {
        self.all.iter().map(|it| it.memory).sum()
    }

    pub(crate) fn answer(&self) -> api::Recordings {
        api::Recordings {
            rows: self.all.iter().rev().map(Recording::row).collect(),
            payload_allowed: self.payload_allowed,
            secrets_allowed: self.secrets_allowed,
            memory_bytes: self.memory(),
            memory_limit_bytes: self.limit,
        }
    }
}

/// What a journey takes in memory, about.
pub(crate) fn weight(journey: &Journey) -> u64 {
    500 + 240 * journey.hops.len() as u64
}

/// The reading, without its quietest connections if it takes more than `limit` bytes.
fn pruned(reading: &Arc<Reading>, limit: u64) -> Arc<Reading> {
    if reading.memory() <= limit || reading.connections.len() <= CONNECTIONS {
        return reading.clone();
    }
    let moved = |it: &ConnectionReading| it.counter("byte_sent") + it.counter("byte_received");
    let mut busy: Vec<_> = reading.connections.iter().map(|it| (moved(it), it.id)).collect();
    busy.select_nth_unstable_by(CONNECTIONS, |a, b| b.cmp(a));
    let kept: HashSet<u64> = busy[..CONNECTIONS].iter().map(|(_, id)| *id).collect();
    let left_out = (reading.connections.len() - CONNECTIONS) as u64;
    Arc::new(Reading {
        actors: reading
            .actors
            .shared()
            .filter(|it| it.kind != "connection" || kept.contains(&it.id))
            .cloned()
            .collect(),
        connections: reading.connections.shared().filter(|it| kept.contains(&it.id)).cloned().collect(),
        left_out: reading.left_out + left_out,
        ..Reading::clone(reading)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::reading::ActorReading;

    fn reading(connections: u64) -> Arc<Reading> {
        let connection = |id| ConnectionReading {
            id,
            counters: [("byte_sent", id % 3000)].into(),
            ..ConnectionReading::default()
        };
        let actor = |id| ActorReading { id, kind: "connection".into(), ..ActorReading::default() };
        Arc::new(Reading {
            actors: (1..=connections).map(actor).chain([ActorReading { id: 1 << 40, ..actor(0) }]).collect(),
            connections: (1..=connections).map(connection).collect(),
            ..Reading::default()
        })
    }

    #[test]
    fn a_recording_of_thousands_keeps_the_busiest_and_its_limit() {
        let limit = 4 << 20;
        let mut recordings = Recordings::new(false, false);
        recordings.limit(limit);
        recordings.begin(RecordingRequest::default(), 0);
        for tick in 0..100 {
            recordings.on_reading(&reading(6000), tick);
        }
        let recording = recordings.all.back().expect("it goes on");
        assert!(recordings.memory() <= limit + recording.readings[0].memory(), "{}", recordings.memory());
        let first = &recording.readings[0];
        assert_eq!(first.connections.len(), CONNECTIONS);
        assert!(first.connections.iter().all(|it| it.counter("byte_sent") >= 2400));
        assert_eq!(first.left_out, 5000);
        let few = reading(10);
        assert!(Arc::ptr_eq(&few, &pruned(&few, limit)));
    }
}

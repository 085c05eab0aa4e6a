//! What the dashboard remembers: the last readings, journeys, timelines, recordings. All of it is bounded.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use wirepath_trace::{BatchClock, Filter, MemoryPlan, Nanos, Payload, Tracer};

use crate::{
    api::{self, BlockedBy, Direction, Timeline},
    books::Auditor,
    reading::{Reading, Source, Wants},
    recording::{Recording, Recordings, weight},
    view::{View, journey_row},
};

/// Time between two readings, unless they take long.
pub(crate) const TICK: Duration = Duration::from_millis(250);
/// Rates are over so many readings: about a second.
const RATE_READINGS: usize = 5;
/// Readings over which the dashboard's own CPU time is told: five seconds.
const SPENT_READINGS: usize = 20;
/// Bytes that figures may take without a look at how many they are.
const FEW_FIGURES: u64 = 1 << 20;
/// Journeys read at a time.
const JOURNEYS: usize = 4000;
/// Connections of a recording with a timeline.
const TIMELINES: usize = 1000;
/// Points of a timeline, one a second: five minutes.
const POINTS: usize = 300;
/// Readings a timeline's point is taken from.
const READINGS_PER_POINT: u64 = 4;
/// Readings for which CIDs go on being read after somebody asked for them: five seconds.
const CIDS_KEPT: u32 = 20;
/// Connections whose streams are read at a time: viewers look at one each.
const STREAMS_WANTED: usize = 16;
/// Readings that `blocked_share` is of: ten seconds.
const BLOCKED_READINGS: usize = 40;

/// Of what matches a filter one in so many is followed, unless told otherwise: following every datagram takes a connection
/// more than the tenth of its speed that watching it may cost.
const DEFAULT_ONE_IN: u32 = 2;

/// A connection over time.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionHistory {
    points: VecDeque<Point>,
    blocked: VecDeque<BlockedBy>,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    t_ns: u64,
    cwnd: u64,
    in_flight: u64,
    rtt: u64,
    lost: u64,
    sent: u64,
    received: u64,
}

impl ConnectionHistory {
    /// Bytes it takes at most, its place in the map included.
    const MEMORY: usize = POINTS * size_of::<Point>() + BLOCKED_READINGS * size_of::<BlockedBy>() + 256;

    /// The share of the readings in which it waited for this.
    pub(crate) fn share_of(&self, cause: BlockedBy) -> f64 {
        let count = self.blocked.iter().filter(|it| **it == cause).count();
        if self.blocked.is_empty() { 0.0 } else { count as f64 / self.blocked.len() as f64 }
    }

    /// As columns; the first point only gives the rates of the second.
    pub(crate) fn timeline(&self) -> Timeline {
        let mut columns = Timeline::default();
        for (before, now) in self.points.iter().zip(self.points.iter().skip(1)) {
            let seconds = now.t_ns.saturating_sub(before.t_ns).max(1) as f64 / 1e9;
            let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
            columns.t_ns.push(now.t_ns);
            columns.cwnd_bytes.push(now.cwnd);
            columns.in_flight_bytes.push(now.in_flight);
            columns.rtt_ns.push(now.rtt);
            columns.lost_per_s.push(rate(now.lost, before.lost));
            columns.tx_bytes_per_s.push(rate(now.sent, before.sent));
            columns.rx_bytes_per_s.push(rate(now.received, before.received));
        }
        columns
    }
}

/// What is remembered of the live stack.
pub(crate) struct Model {
    source: Arc<dyn Source>,
    tracer: Arc<Tracer>,
    /// With what each takes beside the one before.
    readings: VecDeque<(Arc<Reading>, u64)>,
    rx: VecDeque<api::Journey>,
    tx: VecDeque<api::Journey>,
    next_journey: u64,
    drops_seen: HashMap<String, (u64, u64)>,
    timelines: HashMap<u64, ConnectionHistory>,
    pub(crate) recordings: Recordings,
    armed: Option<api::TraceFilter>,
    ticks: u64,
    /// CPU time of the thread that reads, and when, of late.
    spent: VecDeque<(Nanos, u64)>,
    pub(crate) viewers: u64,
    auditor: Auditor,
    /// Bytes of datagrams whose journeys are yet to be read, and whether they have waited for one reading already.
    payloads: HashMap<u64, (Arc<Payload>, bool)>,
    plan: MemoryPlan,
    /// Bytes the journeys take that came in, and that went out.
    kept: [u64; 2],
    /// Whether somebody asked for CIDs since the last reading, and for how many readings they are wanted still.
    cids_wanted: AtomicBool,
    cids_kept: u32,
    /// Connections whose streams somebody asked for of late, and for how many readings they are wanted still.
    streams_wanted: Mutex<HashMap<u64, u32>>,
}

impl Model {
    pub(crate) fn new(source: Arc<dyn Source>, plan: MemoryPlan) -> Self {
        let tracer = source.tracer();
        let recordings = Recordings::new(tracer.keeps_payloads(), source.secrets().is_some());
        Self {
            source,
            tracer,
            recordings,
            readings: VecDeque::new(),
            rx: VecDeque::new(),
            tx: VecDeque::new(),
            next_journey: 0,
            drops_seen: HashMap::new(),
            timelines: HashMap::new(),
            armed: None,
            ticks: 0,
            spent: VecDeque::new(),
            viewers: 0,
            auditor: Auditor::default(),
            payloads: HashMap::new(),
            plan,
            kept: [0; 2],
            cids_wanted: AtomicBool::new(false),
            cids_kept: 0,
            streams_wanted: Mutex::default(),
        }
    }

    /// Takes a reading. Returns whether the stack is still there.
    pub(crate) fn tick(&mut self) -> bool {
        let cids = self.cids_wanted.swap(false, Relaxed) || self.recordings.is_recording();
        self.cids_kept = if cids { CIDS_KEPT } else { self.cids_kept.saturating_sub(1) };
        let wants = Wants {
            cids: self.cids_kept > 0,
            streams: self.streams_wanted(),
            all_streams: self.recordings.is_recording(),
            memory: Some(self.plan.last_figures()),
        };
        let before = self.last().cloned().unwrap_or_default();
        let Some(mut reading) = self.source.read(&wants, &before) else { return false };
        self.auditor.audit(&mut reading, &before);
        let reading = Arc::new(reading);
        self.note_drops(&reading);
        if !self.readings.is_empty() {
            self.note_connections(&reading, &before);
        }
        self.keep(&reading, &before);
        self.note_journeys(&reading);
        self.recordings.on_reading(&reading, self.ticks);
        if self.recordings.ends_armed(reading.t_ns) {
            self.arm(None).ok();
        }
        self.ticks += 1;
        if self.spent.len() == SPENT_READINGS {
            self.spent.pop_front();
        }
        self.spent.push_back((BatchClock::read(), cpu_time()));
        true
    }

    /// The last reading.
    fn last(&self) -> Option<&Arc<Reading>> {
        self.readings.back().map(|(reading, _)| reading)
    }

    /// Keeps a reading for rates, and lets go of old ones. What figures leave, recordings may have.
    fn keep(&mut self, reading: &Arc<Reading>, before: &Reading) {
        self.readings.push_back((reading.clone(), reading.memory_beside(before)));
        let most = self.plan.last_figures() as u64;
        // Two are all there are where thousands of connections are busy.
        while self.readings.len() > RATE_READINGS || self.readings.len() > 2 && self.figures() > most {
            self.readings.pop_front();
        }
        let room = (2 * self.figures()).max(FEW_FIGURES).min(most);
        self.recordings.limit(self.plan.figures as u64 - room);
    }

    /// Bytes the readings take: the first one wholly, the others what they don't share with the one before.
    fn figures(&self) -> u64 {
        let first = self.readings.front().map_or(0, |(first, _)| first.memory());
        first + self.readings.iter().skip(1).map(|(_, own)| own).sum::<u64>()
    }

    /// Somebody looks at CIDs, or for one.
    pub(crate) fn want_cids(&self) {
        self.cids_wanted.store(true, Relaxed);
    }

    /// Somebody looks at a connection: its streams are read from now on, for a while.
    pub(crate) fn want_streams(&self, connection: u64) {
        let mut wanted = self.streams_wanted.lock();
        if wanted.len() < STREAMS_WANTED || wanted.contains_key(&connection) {
            wanted.insert(connection, CIDS_KEPT);
        }
    }

    fn streams_wanted(&self) -> Vec<u64> {
        let mut wanted = self.streams_wanted.lock();
        wanted.retain(|_, readings| {
            *readings -= 1;
            *readings > 0
        });
        wanted.keys().copied().collect()
    }

    pub(crate) fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    fn note_drops(&mut self, reading: &Reading) {
        let before = self.last().map(|before| crate::view_drops(before)).unwrap_or_default();
        for ((layer, cause), count) in crate::view_drops(reading) {
            if count > before.get(&(layer, cause.clone())).copied().unwrap_or(0) {
                let seen = self.drops_seen.entry(format!("{layer}/{cause}"));
                seen.or_insert((reading.t_ns, reading.t_ns)).1 = reading.t_ns;
            }
        }
    }

    fn note_connections(&mut self, reading: &Reading, before: &Reading) {
        self.timelines.retain(|id, _| reading.connections.find(*id).is_some());
        let most = self.plan.timelines / ConnectionHistory::MEMORY;
        for now in reading.connections.iter() {
            if self.timelines.len() >= most {
                break;
            }
            self.timelines.entry(now.id).or_default();
        }
        self.give_timelines(most);
        let elapsed = reading.t_ns.saturating_sub(before.t_ns);
        for (id, history) in &mut self.timelines {
            let Some(now) = reading.connections.find(*id) else { continue };
            if history.blocked.len() == BLOCKED_READINGS {
                history.blocked.pop_front();
            }
            let blocked = before.connections.find(*id);
            let blocked = blocked.map_or(BlockedBy::Idle, |it| crate::blocked_by(now, it, elapsed));
            history.blocked.push_back(blocked);
            if !self.ticks.is_multiple_of(READINGS_PER_POINT) {
                continue;
            }
            if history.points.len() == POINTS {
                history.points.pop_front();
            }
            history.points.push_back(Point {
                t_ns: reading.t_ns,
                cwnd: now.cwnd_bytes,
                in_flight: now.in_flight_bytes,
                rtt: now.rtt_ns,
                lost: now.counter("packet_lost"),
                sent: now.counter("byte_sent"),
                received: now.counter("byte_received"),
            });
        }
    }

    /// Who is looked at has a timeline, were there thousands of others.
    fn give_timelines(&mut self, most: usize) {
        let wanted = self.streams_wanted.get_mut();
        for id in wanted.keys() {
            if self.timelines.len() >= most && !self.timelines.contains_key(id) {
                let other = self.timelines.keys().find(|it| !wanted.contains_key(it)).copied();
                if let Some(other) = other {
                    self.timelines.remove(&other);
                }
            }
            if self.timelines.len() < most {
                self.timelines.entry(*id).or_default();
            }
        }
    }

    /// What is kept, by part: the whole is fixed from the start, and so are the limits but for those of figures and
    /// recordings, which share theirs.
    fn memory(&self) -> Vec<api::MemoryPart> {
        let part =
            |name: &str, bytes, limit_bytes| api::MemoryPart { name: name.to_owned(), bytes, limit_bytes };
        let (figures, recordings) = (self.plan.figures as u64, self.recordings.answer().memory_limit_bytes);
        let timelines = (self.timelines.len() * ConnectionHistory::MEMORY) as u64;
        let plan = &self.plan;
        vec![
            part("rings", self.tracer.stats().memory, (plan.ring + plan.captured) as u64),
            part("journeys", self.kept.iter().sum(), plan.journeys as u64),
            part("timelines", timelines, plan.timelines as u64),
            part("figures", self.figures(), figures - recordings),
            part("recordings", self.recordings.memory(), recordings),
        ]
    }

    fn note_journeys(&mut self, reading: &Reading) {
        let (records, next) = self.tracer.read(self.next_journey, JOURNEYS);
        self.next_journey = next;
        // Those of journeys that the ring got since wait for the next reading.
        self.payloads.retain(|_, (_, has_waited)| !std::mem::replace(has_waited, true));
        let fresh = self.tracer.take_payloads().into_iter();
        self.payloads.extend(fresh.map(|it| (it.journey, (Arc::new(it), false))));
        for record in &records {
            let row = journey_row(record, &reading.actors);
            let payload = self.payloads.remove(&record.id).map(|(payload, _)| payload);
            self.recordings.on_journey(&row, payload.as_ref());
            let (kept, bytes) = match row.direction {
                Direction::Rx => (&mut self.rx, &mut self.kept[0]),
                Direction::Tx => (&mut self.tx, &mut self.kept[1]),
            };
            *bytes += weight(&row);
            kept.push_back(row);
            // Half for each way, so that one does not crowd the other out.
            while *bytes > self.plan.journeys as u64 / 2 {
                let Some(oldest) = kept.pop_front() else { break };
                *bytes -= weight(&oldest);
            }
        }
    }

    /// Arms a filter, or disarms.
    ///
    /// # Errors
    /// What is wrong with the filter.
    pub(crate) fn arm(&mut self, filter: Option<api::TraceFilter>) -> Result<api::Armed, String> {
        let parsed = filter.as_ref().map(parse).transpose()?;
        self.tracer.arm(parsed);
        self.armed = filter.clone();
        Ok(api::Armed { filter, sample_one_in: self.tracer.stats().one_in })
    }

    /// Begins a recording.
    ///
    /// # Errors
    /// What is wrong with its filter.
    pub(crate) fn record(&mut self, request: api::RecordingRequest) -> Result<api::RecordingRow, String> {
        if request.filter != api::TraceFilter::default() {
            self.arm(Some(request.filter.clone()))?;
        }
        let now = self.last().map_or(0, |reading| reading.t_ns);
        let row = self.recordings.begin(request, now);
        if let Some((reading, _)) = self.readings.back() {
            // How things are now: a recording that is stopped at once has something to show.
            self.recordings.on_reading(reading, 1);
        }
        Ok(row)
    }

    fn reader_share(&self) -> f64 {
        let (Some((from, before)), Some((until, now))) = (self.spent.front(), self.spent.back()) else {
            return 0.0;
        };
        now.saturating_sub(*before) as f64 / (until - from).max(1) as f64
    }

    /// Answers from the live stack.
    pub(crate) fn live<T>(&self, answer: impl FnOnce(&View<'_>) -> T) -> Option<(u64, T)> {
        let ((now, _), (before, _)) = (self.readings.back()?, self.readings.front()?);
        let view = View {
            source: "live",
            now,
            before,
            journeys: self.rx.iter().chain(&self.tx).collect(),
            drops_seen: &self.drops_seen,
            timelines: &self.timelines,
            armed: self.armed.clone(),
            viewers: self.viewers,
            memory: self.memory(),
            reader_share: self.reader_share(),
        };
        Some((now.t_ns, answer(&view)))
    }

    /// Answers from a recording, as of the last reading not after `at`.
    pub(crate) fn recorded<T>(
        recording: &Recording,
        at: Option<u64>,
        answer: impl FnOnce(&View<'_>) -> T,
    ) -> Option<(u64, T)> {
        let readings = recording.readings();
        let place = readings.iter().rposition(|it| at.is_none_or(|at| it.t_ns <= at)).unwrap_or(0);
        let now = readings.get(place)?;
        let before = readings.get(place.saturating_sub(1)).unwrap_or(now);
        let until = if at.is_some() { now.t_ns } else { u64::MAX };
        let view = View {
            source: recording.id(),
            now,
            before,
            journeys: recording.journeys().iter().filter(|it| it.begin_ns <= until).collect(),
            drops_seen: &HashMap::new(),
            timelines: &recording.timelines(place),
            armed: Some(recording.filter().clone()),
            viewers: 0,
            memory: Vec::new(),
            reader_share: 0.0,
        };
        Some((now.t_ns, answer(&view)))
    }
}

/// Nanoseconds this thread was on a core so far; 0 where the kernel does not tell.
fn cpu_time() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|it| it.parse().ok()).unwrap_or(0)
}

/// Timelines out of a recording's readings.
pub(crate) fn timelines(readings: &[Arc<Reading>]) -> HashMap<u64, ConnectionHistory> {
    let mut timelines: HashMap<u64, ConnectionHistory> = HashMap::new();
    for (n, reading) in readings.iter().enumerate() {
        for now in reading.connections.iter().take(TIMELINES) {
            let history = timelines.entry(now.id).or_default();
            let earlier =
                n.checked_sub(1).and_then(|n| Some((&readings[n], readings[n].connections.find(now.id)?)));
            history.blocked.push_back(earlier.map_or(BlockedBy::Idle, |(earlier, it)| {
                crate::blocked_by(now, it, reading.t_ns.saturating_sub(earlier.t_ns))
            }));
            history.points.push_back(Point {
                t_ns: reading.t_ns,
                cwnd: now.cwnd_bytes,
                in_flight: now.in_flight_bytes,
                rtt: now.rtt_ns,
                lost: now.counter("packet_lost"),
                sent: now.counter("byte_sent"),
                received: now.counter("byte_received"),
            });
        }
    }
    timelines
}

/// A filter as the tracer takes it.
fn parse(filter: &api::TraceFilter) -> Result<Filter, String> {
    let rare = filter.drop_cause.as_ref().is_some_and(|it| !it.is_empty());
    let one_in = filter.one_in.unwrap_or(if rare { 1 } else { DEFAULT_ONE_IN });
    let mut parsed = Filter { one_in, ..Filter::default() };
    if let Some(address) = filter.address.as_deref().filter(|it| !it.is_empty()) {
        if let Ok(ip) = address.parse() {
            parsed.ip = Some(ip);
        } else {
            let end: std::net::SocketAddr = address
                .parse()
                .map_err(|_| format!("{address:?} is no IP address, nor an address and port"))?;
            (parsed.ip, parsed.port) = (Some(end.ip()), Some(end.port()));
        }
    }
    if let Some(cid) = filter.cid.as_deref().filter(|it| !it.is_empty()) {
        let digits = cid.as_bytes().chunks(2).map(|pair| {
            std::str::from_utf8(pair)
                .ok()
                .filter(|it| it.len() == 2)
                .and_then(|it| u8::from_str_radix(it, 16).ok())
        });
        let bytes: Option<Vec<u8>> = digits.collect();
        parsed.cid = Some(bytes.ok_or_else(|| format!("{cid:?} is no CID: hex digits in pairs are"))?);
    }
    parsed.drop_cause = filter.drop_cause.clone().filter(|it| !it.is_empty());
    Ok(parsed)
}

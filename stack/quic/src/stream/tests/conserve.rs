//! Random scripts on two ends and a bad network: what goes in comes out, once, and nothing is left behind.

use std::collections::HashMap;

use super::*;

/// What the script knows of one direction of a stream.
#[derive(Debug, Default)]
struct Direction {
    written: u64,
    /// Bytes of credit given back to the writer.
    released: u64,
    finish: bool,
    /// Given up by the writer, by the reader.
    reset: bool,
    stopped: bool,
    /// The least that was promised by a reset.
    promised: Option<u64>,
    /// Events of the writer.
    finished_told: u32,
    stopped_told: u32,
    /// What the reader saw.
    read: u64,
    ended: bool,
    reset_told: u32,
    /// Read and not released.
    held: u64,
}

/// One end: its streams, packets in flight from it, verdicts on their way back.
struct End {
    streams: Streams,
    in_flight: Vec<Packet>,
    arrived: Vec<Packet>,
    opened: Vec<StreamId>,
    /// Streams the peer opened, as told.
    accepted: Vec<StreamId>,
    limits: [u64; 2],
}

struct World {
    ends: [End; 2],
    /// By sender's end and stream.
    directions: HashMap<(usize, StreamId), Direction>,
    dice: Dice,
    now: u64,
    loss: u64,
    packet_size: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mut config = || {
            let stream = 1 + dice.below(20_000);
            let connection = 1 + dice.below(40_000);
            TransportConfig::default()
                .stream_window(stream)
                .max_stream_window(stream + dice.below(100_000))
                .connection_window(connection)
                .max_connection_window(connection + dice.below(100_000))
                .max_bidi_streams(1 + dice.below(12))
                .max_uni_streams(dice.below(12))
                .stream_burst(1 + dice.below(10_000) as u32)
        };
        let (client, server) = (config(), config());
        let (c, s) = pair(&client, &server);
        let end = |streams, peer: &TransportConfig| End {
            streams,
            in_flight: Vec::new(),
            arrived: Vec::new(),
            opened: Vec::new(),
            accepted: Vec::new(),
            limits: [peer.max_bidi_streams, peer.max_uni_streams],
        };
        let ends = [end(c, &server), end(s, &client)];
        let (loss, packet_size) = (dice.below(40), 60 + dice.below(1400));
        Self { ends, directions: HashMap::new(), dice, now: 0, loss, packet_size }
    }

    fn direction(&mut self, sender: usize, id: StreamId) -> &mut Direction {
        self.directions.entry((sender, id)).or_default()
    }

    /// Any stream that this end can use, if there is one.
    fn any_stream(&mut self, end: usize) -> Option<StreamId> {
        let of = &self.ends[end];
        let n = (of.opened.len() + of.accepted.len()) as u64;
        // Mostly recent ones: old ones are over.
        let i = n.checked_sub(1 + self.dice.below(n.min(20)))? as usize;
        Some(*of.opened.get(i).unwrap_or_else(|| &of.accepted[i - of.opened.len()]))
    }

    fn sends(&self, end: usize, id: StreamId) -> bool {
        id.stream_type() == BIDI || self.ends[end].opened.contains(&id)
    }

    fn command(&mut self, end: usize) {
        match self.dice.below(16) {
            0 | 1 => {
                let ty = if self.dice.percent(50) { BIDI } else { UNI };
                if let Some(id) = self.ends[end].streams.open(ty) {
                    self.ends[end].opened.push(id);
                }
            }
            2..=6 => self.write(end),
            7 | 8 => self.finish(end),
            9 => self.give_up(end),
            10 => {
                if let Some(id) = self.any_stream(end) {
                    let _ = self.ends[end].streams.set_priority(id, self.dice.below(3) as i8);
                }
            }
            _ => {
                if let Some(id) = self.any_stream(end) {
                    self.read(end, id);
                }
            }
        }
    }

    fn write(&mut self, end: usize) {
        let Some(id) = self.any_stream(end).filter(|id| self.sends(end, *id)) else { return };
        let len = match self.dice.below(4) {
            0 => self.dice.below(10),
            1 => self.dice.below(20_000),
            _ => self.dice.below(500),
        };
        let written = self.direction(end, id).written;
        let result = self.ends[end].streams.write(id, content(id, written, len));
        let direction = self.direction(end, id);
        match result {
            Ok(()) => {
                assert!(!direction.finish && !direction.reset);
                direction.written += len;
            }
            Err(StreamError::Finished) => assert!(direction.finish),
            Err(StreamError::Abandoned(_)) => assert!(direction.reset),
            Err(StreamError::Stopped(_)) => assert!(direction.stopped),
            Err(StreamError::Unknown) => assert!(direction.finish || direction.reset || direction.stopped),
            Err(error) => panic!("{error}"),
        }
    }

    fn finish(&mut self, end: usize) {
        let Some(id) = self.any_stream(end).filter(|id| self.sends(end, *id)) else { return };
        if self.ends[end].streams.finish(id).is_ok() {
            self.direction(end, id).finish = true;
        }
    }

    fn give_up(&mut self, end: usize) {
        let Some(id) = self.any_stream(end) else { return };
        if self.dice.percent(50) {
            if self.sends(end, id) && self.ends[end].streams.reset(id, code(1)).is_ok() {
                let direction = self.direction(end, id);
                direction.reset = true;
                direction.promised = None;
            }
        } else if self.dice.percent(50) {
            if !self.sends(end, id) {
                return;
            }
            let written = self.direction(end, id).written;
            let reliable = self.dice.below(written + 2);
            if self.ends[end].streams.reset_at(id, code(1), reliable).is_ok() {
                let direction = self.direction(end, id);
                let reliable = reliable.min(direction.written);
                direction.promised = match direction.reset {
                    // After a whole reset nothing can be promised.
                    true => direction.promised.map(|before| before.min(reliable)),
                    false => Some(reliable),
                };
                direction.reset = true;
            }
        } else if (id.stream_type() == BIDI || !self.sends(end, id))
            && self.ends[end].streams.stop_sending(id, code(2)).is_ok()
        {
            self.direction(1 - end, id).stopped = true;
        }
    }

    fn read(&mut self, end: usize, id: StreamId) {
        if !self.sends(1 - end, id) {
            assert_eq!(self.ends[end].streams.read(id).unwrap_err(), self.no_direction(end, id));
            return;
        }
        let most = 1 + self.dice.below(5);
        for _ in 0..most {
            let result = self.ends[end].streams.read(id);
            let direction = self.directions.entry((1 - end, id)).or_default();
            match result {
                Ok(ReadOutcome::Data(data)) => {
                    assert!(!data.is_empty() && !direction.ended);
                    assert_eq!(data, content(id, direction.read, data.len() as u64));
                    direction.read += data.len() as u64;
                    direction.held += data.len() as u64;
                    assert!(direction.read <= direction.written);
                }
                Ok(ReadOutcome::Blocked) => break,
                Ok(ReadOutcome::Finished) => {
                    assert!(direction.finish);
                    assert_eq!(direction.read, direction.written);
                    direction.ended = true;
                    break;
                }
                Err(StreamError::Unknown) => break,
                Err(StreamError::Reset(_)) => {
                    let direction = &self.directions[&(1 - end, id)];
                    assert!(direction.reset || direction.stopped);
                    break;
                }
                Err(StreamError::Abandoned(_)) => {
                    assert!(direction.stopped);
                    break;
                }
                Err(error) => panic!("{error}"),
            }
        }
        let held = self.direction(1 - end, id).held;
        let n = if self.dice.percent(60) { held } else { self.dice.below(held + 1) };
        self.direction(1 - end, id).held -= n;
        self.ends[end].streams.release(id, n);
    }

    /// The error of reading a stream that only sends.
    fn no_direction(&mut self, end: usize, id: StreamId) -> StreamError {
        match self.ends[end].streams.registry.get_or_use(id) {
            Some(_) => StreamError::Direction,
            None => StreamError::Unknown,
        }
    }

    fn events(&mut self, end: usize) {
        while let Some(event) = self.ends[end].streams.poll_event() {
            match event {
                Event::StreamOpened(id) => {
                    let of_type = |other: &&StreamId| other.stream_type() == id.stream_type();
                    let before = self.ends[end].accepted.iter().filter(of_type).count() as u64;
                    assert_eq!(u64::from(id) >> 2, before, "in order, each once");
                    assert!(self.ends[1 - end].opened.contains(&id));
                    self.ends[end].accepted.push(id);
                }
                Event::StreamReadable(id) => {
                    assert!(!self.direction(1 - end, id).ended);
                    if self.dice.percent(80) {
                        self.read(end, id);
                    }
                }
                Event::SendReleased { id, bytes } => {
                    assert!(bytes > 0);
                    let direction = self.direction(end, id);
                    direction.released += bytes;
                    assert!(direction.released <= direction.written);
                }
                Event::StreamFinished(id) => {
                    let direction = self.direction(end, id);
                    direction.finished_told += 1;
                    assert!(direction.finish);
                    assert_eq!(direction.released, direction.written);
                }
                Event::StreamReset { id, code, partial } => {
                    let direction = self.direction(1 - end, id);
                    assert_eq!(code, super::code(1), "the peer's stop is answered to us alone");
                    assert!(direction.reset && !direction.ended);
                    direction.reset_told += 1;
                    assert_eq!(direction.reset_told, 1);
                    if let Some(promised) = direction.promised {
                        assert!(
                            direction.read >= promised && (partial || promised == 0),
                            "{id:?} {direction:?}"
                        );
                    }
                }
                Event::StreamStopped { id, .. } => {
                    let direction = self.direction(end, id);
                    assert!(direction.stopped);
                    direction.stopped_told += 1;
                    assert_eq!(direction.stopped_told, 1);
                }
                Event::StreamsAvailable { ty, limit } => {
                    let known = &mut self.ends[end].limits[usize::from(ty == UNI)];
                    assert!(limit > *known);
                    *known = limit;
                }
                other => panic!("not about streams: {other:?}"),
            }
        }
    }

    fn send(&mut self, end: usize) {
        self.now += self.dice.below(3);
        let size = self.packet_size as usize;
        let of = &mut self.ends[end];
        if let Some(packet) = packet(&mut of.streams, size, at(self.now)) {
            of.in_flight.push(packet);
        }
    }

    /// One packet in flight from `end` arrives, is lost, or both.
    fn network(&mut self, end: usize) {
        let n = self.ends[end].in_flight.len() as u64;
        if n == 0 {
            return;
        }
        let index = if self.dice.percent(70) { 0 } else { self.dice.below(n) } as usize;
        let packet = self.ends[end].in_flight.remove(index);
        if self.dice.percent(self.loss) {
            lost(&mut self.ends[end].streams, &packet);
            return;
        }
        deliver(&mut self.ends[1 - end].streams, &packet).expect("no limit is exceeded");
        if self.dice.percent(self.loss) {
            // Thought lost, although it arrived.
            lost(&mut self.ends[end].streams, &packet);
        }
        if self.dice.percent(10) {
            self.ends[end].in_flight.push(packet.clone());
        }
        self.ends[end].arrived.push(packet);
    }

    fn acknowledge(&mut self, end: usize) {
        let n = self.ends[end].arrived.len() as u64;
        if n > 0 {
            let packet = self.ends[end].arrived.swap_remove(self.dice.below(n) as usize);
            acked(&mut self.ends[end].streams, &packet);
        }
    }

    fn step(&mut self) {
        let end = self.dice.below(2) as usize;
        match self.dice.below(10) {
            0 | 1 => self.command(end),
            2..=4 => self.send(end),
            5 | 6 => self.network(end),
            7 | 8 => self.acknowledge(end),
            _ => self.events(end),
        }
        self.check();
    }

    fn check(&self) {
        for end in 0..2 {
            let (sender, receiver) = (&self.ends[end].streams, &self.ends[1 - end].streams);
            assert!(sender.outbound.credit.used <= sender.outbound.credit.limit);
            assert!(receiver.inbound.received <= receiver.inbound.window.limit());
            assert!(receiver.inbound.received <= sender.outbound.credit.used);
            assert!(receiver.inbound.window.consumed() <= receiver.inbound.received);
        }
    }

    /// Ends every stream and lets all packets through.
    fn wind_up(&mut self) {
        self.loss = 0;
        for _ in 0..100_000 {
            for end in 0..2 {
                let of = &self.ends[end];
                let ids: Vec<StreamId> = of.opened.iter().chain(&of.accepted).copied().collect();
                for id in ids {
                    if self.sends(end, id) && self.ends[end].streams.finish(id).is_ok() {
                        self.direction(end, id).finish = true;
                    }
                    self.read(end, id);
                    if let Some(direction) = self.directions.get_mut(&(1 - end, id)) {
                        let held = std::mem::take(&mut direction.held);
                        self.ends[end].streams.release(id, held);
                    }
                }
                self.send(end);
                while !self.ends[end].in_flight.is_empty() {
                    self.network(end);
                }
                while !self.ends[end].arrived.is_empty() {
                    self.acknowledge(end);
                }
                self.events(end);
            }
            self.check();
            if self.ends.iter().all(|end| end.streams.is_idle()) {
                return;
            }
        }
        panic!("streams are left: {:?}", self.ends.each_ref().map(|end| &end.streams));
    }

    fn check_end(&mut self) {
        for ((_, id), direction) in &self.directions {
            assert_eq!(direction.released, direction.written, "all credit returned: {id:?}");
            let given_up = direction.reset || direction.stopped;
            assert!(given_up || (direction.finish && direction.ended), "{id:?} {direction:?}");
            assert!(direction.finished_told <= 1);
            if !given_up {
                assert_eq!(direction.finished_told, 1);
                assert_eq!(direction.read, direction.written);
            }
            assert!(!direction.ended || direction.reset_told == 0);
        }
        for end in 0..2 {
            for ty in [BIDI, UNI] {
                let limit = self.ends[1 - end].streams.registry.theirs(ty).limit;
                assert_eq!(self.ends[end].streams.registry.ours(ty).limit, limit, "the last limit arrived");
            }
            let (sender, receiver) = (&self.ends[end].streams, &self.ends[1 - end].streams);
            assert_eq!(sender.outbound.credit.limit, receiver.inbound.window.limit());
            assert_eq!(sender.outbound.credit.used, receiver.inbound.received);
            assert_eq!(receiver.inbound.window.consumed(), receiver.inbound.received);
            assert_eq!(receiver.inbound.held, 0);
        }
    }
}

fn run(seed: u64, steps: u64) {
    let mut world = World::new(seed);
    for _ in 0..steps {
        world.step();
    }
    world.wind_up();
    world.check_end();
}

/// 50 scripts, or as many as the environment asks for: a failure prints its seed last.
#[test]
fn random_scripts_conserve_everything() {
    let seeds = std::env::var("WIREPATH_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(50);
    for seed in 0..seeds {
        println!("seed {seed}");
        run(seed, 3_000);
    }
}

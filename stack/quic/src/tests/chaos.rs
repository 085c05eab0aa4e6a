//! Everything at once, by seed: both applications and the network do whatever comes to mind.
//!
//! `CHAOS_SEEDS=from..to` runs other seeds than the few of every test run.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use s2n_quic_core::stream::{StreamId, StreamType};
use s2n_quic_core::varint::VarInt;

use super::pair::{client_addr, server_addr};
use super::{Pair, PairBuilder};
use crate::endpoint::RetryPolicy;
use crate::error::CloseReason;
use crate::event::Event;
use crate::header::{VERSION_1, VERSION_2};
use crate::net::NetPath;
use crate::role::Role;

/// What a stream carries at an offset.
fn content(id: StreamId, offset: u64, len: usize) -> Bytes {
    let id = id.as_varint().as_u64();
    (offset..offset + len as u64)
        .map(|at| (id.wrapping_mul(31).wrapping_add(at.wrapping_mul(7)) >> 1) as u8)
        .collect()
}

/// What one side has sent on a stream.
#[derive(Default)]
struct Sending {
    written: u64,
    finished: bool,
    reset: bool,
}

struct Chaos {
    rng: StdRng,
    pair: Pair,
    sending: BTreeMap<(u8, StreamId), Sending>,
    stopped: Vec<(u8, StreamId)>,
}

fn builder(rng: &mut StdRng, seed: u64) -> PairBuilder {
    let mut builder = PairBuilder::default().seed(seed).faults(|faults| {
        faults.latency = Duration::from_micros(rng.random_range(0..60_000));
        faults.jitter = Duration::from_micros(if rng.random() { rng.random_range(0..10_000) } else { 0 });
        faults.loss = if rng.random() { rng.random_range(0..150) } else { 0 };
        faults.duplicate = if rng.random() { rng.random_range(0..100) } else { 0 };
        faults.corrupt = if rng.random() { rng.random_range(0..50) } else { 0 };
        faults.truncate = if rng.random() { rng.random_range(0..50) } else { 0 };
        faults.bleach_ecn = rng.random_ratio(1, 4);
        faults.mark_ce = if rng.random() { rng.random_range(0..20) } else { 0 };
        faults.bandwidth = if rng.random() { rng.random_range(1_000_000..100_000_000) } else { 0 };
        faults.queue = rng.random_range(10_000..1_000_000);
        faults.mtu = rng.random_range(1200..1600);
    });
    for role in [Role::Client, Role::Server] {
        let change = |config: crate::TransportConfig| {
            config
                .idle_timeout(None)
                .handshake_timeout(Duration::from_secs(3600))
                .pacing(rng.random())
                .mtu_discovery(rng.random())
                .grease(rng.random())
                .ack_eliciting_threshold(rng.random_range(1..20))
                .max_ack_delay(Duration::from_millis(rng.random_range(0..60)))
                .active_connection_id_limit(rng.random_range(2..=8))
                .max_bidi_streams(rng.random_range(0..20))
                .max_uni_streams(rng.random_range(0..20))
                .stream_window(rng.random_range(1..200_000))
                .max_stream_window(1 << 20)
                .connection_window(rng.random_range(1..400_000))
                .max_connection_window(2 << 20)
                .key_update_after(if rng.random() { Some(rng.random_range(10..500)) } else { None })
                .datagram_receive_buffer(if rng.random() { Some(100_000) } else { None })
        };
        builder = if role.is_client() { builder.client(change) } else { builder.server(change) };
    }
    if rng.random_ratio(1, 4) {
        builder.retry = RetryPolicy::Always;
    }
    builder.version = if rng.random_ratio(1, 4) { VERSION_2 } else { VERSION_1 };
    builder
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let pair = builder(&mut rng, seed).build();
        Self { rng, pair, sending: BTreeMap::new(), stopped: Vec::new() }
    }

    /// One of the sides there are.
    fn role(&mut self) -> Role {
        if self.rng.random() || self.pair.server.is_none() { Role::Client } else { Role::Server }
    }

    fn any_sending(&mut self, role: Role) -> Option<StreamId> {
        let ids: Vec<StreamId> = self
            .sending
            .iter()
            .filter(|((side, _), sending)| *side == role as u8 && !sending.finished && !sending.reset)
            .map(|((_, id), _)| *id)
            .collect();
        if ids.is_empty() { None } else { Some(ids[self.rng.random_range(0..ids.len())]) }
    }

    fn act(&mut self) {
        let role = self.role();
        let now = self.pair.now;
        match self.rng.random_range(0..100) {
            0..20 => {
                let ty =
                    if self.rng.random() { StreamType::Bidirectional } else { StreamType::Unidirectional };
                if let Some(id) = self.pair.side(role).connection.open(ty) {
                    self.sending.insert((role as u8, id), Sending::default());
                }
            }
            20..55 => {
                let Some(id) = self.any_sending(role) else { return };
                let len = 1 << self.rng.random_range(0..17);
                let sending = self.sending.get_mut(&(role as u8, id)).unwrap();
                let data = content(id, sending.written, len);
                if self.pair.side(role).connection.write(id, data).is_ok() {
                    sending.written += len as u64;
                } else {
                    sending.reset = true;
                }
            }
            55..65 => {
                let Some(id) = self.any_sending(role) else { return };
                let finished = self.pair.side(role).connection.finish(id).is_ok();
                let sending = self.sending.get_mut(&(role as u8, id)).unwrap();
                sending.finished = finished;
                sending.reset = !finished;
            }
            65..68 => {
                let Some(id) = self.any_sending(role) else { return };
                let _ = self.pair.side(role).connection.reset(id, VarInt::from_u8(5));
                self.sending.get_mut(&(role as u8, id)).unwrap().reset = true;
            }
            68..70 => {
                let ids: Vec<StreamId> = self.pair.side(role).received.keys().copied().collect();
                if let Some(&id) = ids.first() {
                    let _ = self.pair.side(role).connection.stop_sending(id, VarInt::from_u8(6));
                    self.stopped.push((role as u8, id));
                }
            }
            70..74 => {
                self.pair.side(role).connection.update_keys();
            }
            74..78 => self.pair.side(role).connection.ping(),
            78..82 => {
                let len = self.rng.random_range(0..1000);
                let _ = self.pair.side(role).connection.send_datagram(vec![8; len].into());
            }
            82..86 => {
                // Nobody moves during the handshake (RFC 9000 §9).
                if self.pair.client.connection.is_handshake_confirmed() {
                    self.pair.client.net.local.set_port(self.rng.random_range(1000..60000));
                }
            }
            86..88 => {
                let local = client_addr_variant(self.rng.random_range(1..200));
                if self.pair.client.connection.migrate(now, NetPath { local, remote: server_addr() }).is_ok()
                {
                    self.pair.client.net.local = local;
                }
            }
            88..90 => {
                // An outage.
                let loss = std::mem::replace(&mut self.pair.network.faults.loss, 1000);
                let time = Duration::from_millis(self.rng.random_range(0..400));
                self.pair.run_for(time);
                self.pair.network.faults.loss = loss;
            }
            _ => {
                let time = Duration::from_micros(self.rng.random_range(0..50_000));
                self.pair.run_for(time);
            }
        }
        self.adopt_bidirectional();
        self.check();
    }

    /// Both sides send on bidirectional streams, whoever opened them.
    fn adopt_bidirectional(&mut self) {
        for role in [Role::Client, Role::Server] {
            if role.is_server() && self.pair.server.is_none() {
                continue;
            }
            for event in std::mem::take(&mut self.pair.side(role).events) {
                match event {
                    Event::StreamOpened(id) if id.stream_type().is_bidirectional() => {
                        self.sending.entry((role as u8, id)).or_default();
                    }
                    Event::StreamStopped { id, .. } => {
                        if let Some(sending) = self.sending.get_mut(&(role as u8, id)) {
                            sending.reset = true;
                        }
                    }
                    Event::Closed(reason) => panic!("{role:?} closed: {reason}"),
                    _ => {}
                }
            }
        }
    }

    /// Nothing received is other than what was sent.
    fn check(&mut self) {
        for role in [Role::Client, Role::Server] {
            let Some(side) =
                (if role.is_client() { Some(&self.pair.client) } else { self.pair.server.as_ref() })
            else {
                continue;
            };
            for (id, received) in &side.received {
                let sent = &self.sending[&(role.peer() as u8, *id)];
                assert!(received.len() as u64 <= sent.written);
            }
        }
    }

    /// The network heals, everything is finished, and all that was not given up must arrive.
    fn finish(mut self) {
        let faults = &mut self.pair.network.faults;
        (faults.loss, faults.corrupt, faults.truncate) = (0, 0, 0);
        self.pair.run_until(|pair| {
            pair.client.connection.is_handshake_confirmed()
                && pair.server.as_ref().is_some_and(|server| server.connection.is_handshake_confirmed())
        });
        for _ in 0..20 {
            self.adopt_bidirectional();
            let open: Vec<_> = self
                .sending
                .iter()
                .filter(|(_, sending)| !sending.finished && !sending.reset)
                .map(|(key, _)| *key)
                .collect();
            for (side, id) in open {
                let role = if side == Role::Client as u8 { Role::Client } else { Role::Server };
                let finished = self.pair.side(role).connection.finish(id).is_ok();
                let sending = self.sending.get_mut(&(side, id)).unwrap();
                sending.finished = finished;
                sending.reset = !finished;
            }
            // A server that knows too little of the client's new address to be let send to it waits for a word.
            self.pair.client.connection.ping();
            self.pair.run_for(Duration::from_secs(20));
        }
        self.adopt_bidirectional();
        for ((side, id), sending) in &self.sending {
            let role = if *side == Role::Client as u8 { Role::Client } else { Role::Server };
            let peer = if role.is_client() { self.pair.server.as_ref().unwrap() } else { &self.pair.client };
            let received = peer.received.get(id).map_or(&[][..], |received| &received[..]);
            assert!(received == &content(*id, 0, received.len())[..], "{role:?} {id:?} is damaged");
            let given_up = sending.reset || self.stopped.contains(&(role.peer() as u8, *id));
            if sending.finished && !given_up {
                assert!(
                    received.len() as u64 == sending.written,
                    "{role:?} {id:?} is incomplete: {} of {}\n{:#?}\n{:#?}",
                    received.len(),
                    sending.written,
                    self.pair.client.connection,
                    self.pair.server.as_ref().map(|server| &server.connection),
                );
                assert!(peer.finished.contains(id), "{role:?} {id:?} has no end");
            }
        }
        self.pair.log.clear();
        self.pair.run_for(Duration::from_secs(20));
        for side in [&self.pair.client, self.pair.server.as_ref().unwrap()] {
            assert_eq!(side.connection.stats().bytes_in_flight, 0);
        }
        // Path MTU probes, at most.
        assert!(self.pair.log.len() < 10, "{:?}", self.pair.log);
        let now = self.pair.now;
        self.pair.client.connection.close(now, VarInt::from_u8(1), b"done");
        self.pair.run_to_end();
        let server = self.pair.server();
        assert!(server.connection.is_drained());
        let told = server.closed().cloned();
        assert!(matches!(told, Some(CloseReason::Application { .. })), "{told:?}");
    }
}

fn client_addr_variant(last: u8) -> std::net::SocketAddr {
    let mut address = client_addr();
    address.set_ip(std::net::Ipv4Addr::new(203, 0, 113, last).into());
    address
}

fn run(seed: u64) {
    let mut chaos = Chaos::new(seed);
    let steps = chaos.rng.random_range(10..400);
    for _ in 0..steps {
        chaos.act();
    }
    chaos.finish();
}

#[test]
fn all_that_is_not_given_up_arrives() {
    let seeds = std::env::var("CHAOS_SEEDS").unwrap_or_else(|_| "0..40".to_owned());
    let (from, to) = seeds.split_once("..").expect("from..to");
    for seed in from.parse::<u64>().unwrap()..to.parse().unwrap() {
        let result = std::panic::catch_unwind(|| run(seed));
        assert!(result.is_ok(), "seed {seed}");
    }
}

//! Each way that a datagram can go.

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use wirepath_drivers::{HeapTxPool, RxMeta};
use wirepath_trace::{Filter, Tracer};
use wirepath_wire::{
    Tcp, UdpHeaders,
    tcp::{ACK, RST},
    write_tcp,
};

use super::*;
use crate::{
    device::DeviceMessage,
    kit::Spawner,
    partition::MAX_QUEUE_DELAY,
    tables::{Claim, Socket},
};

/// Passes on what it gets.
struct Probe<M>(mpsc::UnboundedSender<M>);

impl<M: Send + 'static> Actor for Probe<M> {
    type Message = M;
    const KIND: &'static str = "probe";
    const CREDIT: u32 = 10_000;

    async fn handle(&mut self, _cx: &Context<M>, message: M) -> Result<(), StopReason> {
        let _ = self.0.send(message);
        Ok(())
    }
}

async fn probe<M: Send + 'static>() -> (Mailbox<M>, mpsc::UnboundedReceiver<M>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let mailbox = Spawner::default().spawn(String::new(), Probe(sender)).await.expect("the runtime is up");
    (mailbox, receiver)
}

const LOCAL: &str = "10.0.0.1:443";
const REMOTE: &str = "192.0.2.1:5000";
const OURS: [u8; 8] = [7; 8];

/// A demux with one socket, a listener on it and one connection.
struct World {
    demux: Demux,
    via: Arc<Egress>,
    connection: Mailbox<ConnectionMessage>,
    at_connection: mpsc::UnboundedReceiver<ConnectionMessage>,
    at_listener: mpsc::UnboundedReceiver<ListenerMessage>,
    _device: mpsc::UnboundedReceiver<DeviceMessage>,
}

async fn world() -> World {
    let (device, _device) = probe().await;
    let (connection, at_connection) = probe().await;
    let (listener, at_listener) = probe().await;
    let tables = Arc::new(Tables::default());
    let socket = Arc::new(Socket::new(Claim::udp(LOCAL.parse().expect("an address"))));
    socket.listeners.set(Box::new([Default::default()])).expect("a fresh socket");
    socket.listeners.get().expect("set")[0].fill(listener);
    assert!(tables.sockets.insert(socket));
    tables.connections.insert(Cid::new(&OURS).expect("short"), connection.clone());
    let via = Arc::new(Egress::new(device, Arc::new(HeapTxPool::new(1500, 1)), 1, [1472, 1452]));
    let demux = Demux::new(0, tables, Arc::default(), true);
    World { demux, via, connection, at_connection, at_listener, _device }
}

fn packet(local: &str, datagram: &[u8]) -> RxPacket {
    let mut buf = PacketBuf::heap(datagram.len());
    buf.as_mut_slice().copy_from_slice(datagram);
    let (local, remote) = (local.parse().expect("an address"), REMOTE.parse().expect("an address"));
    RxPacket { buf, meta: RxMeta::Udp { local, remote, ecn: Ecn::NotEct } }
}

fn short(cid: &[u8], mark: u8) -> Vec<u8> {
    [&[0x40], cid, &[mark; 24]].concat()
}

/// Initial 0xc0, 0-RTT 0xd0, Handshake 0xe0.
fn long(first: u8, dcid: &[u8], scid: &[u8], mark: u8) -> Vec<u8> {
    [&[first, 0, 0, 0, 1, dcid.len() as u8], dcid, &[scid.len() as u8], scid, &[mark; 24]].concat()
}

impl World {
    /// The last byte of each datagram that came to the connection and to the listener.
    async fn sort(&mut self, datagrams: &[Vec<u8>]) -> (Vec<u8>, Vec<u8>) {
        let packets = datagrams.iter().map(|datagram| packet(LOCAL, datagram)).collect();
        self.demux.sort(packets, &self.via);
        let via = self.via.clone();
        self.demux.forward(self.connection.meter(), &via, 0);
        // Everything is in the mailboxes: each probe passes it on in its next turns.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let marks = |batch: DatagramBatch| -> Vec<u8> {
            batch
                .datagrams
                .iter()
                .filter_map(|datagram| datagram.payload.as_slice().last().copied())
                .collect()
        };
        let (mut connection, mut listener) = (Vec::new(), Vec::new());
        while let Ok(message) = self.at_connection.try_recv() {
            let ConnectionMessage::Datagrams(batch) = message else { panic!("{message:?}") };
            connection.extend(marks(batch));
        }
        while let Ok(message) = self.at_listener.try_recv() {
            let ListenerMessage::Datagrams(batch) = message else { panic!("{message:?}") };
            listener.extend(marks(batch));
        }
        (connection, listener)
    }

    fn drops(&self) -> BTreeMap<&'static str, u64> {
        self.demux.tables.drops.snapshot()
    }
}

#[tokio::test]
async fn a_short_header_goes_by_cid_then_by_reset_token_then_to_the_listener() {
    let mut world = world().await;
    world.demux.tables.reset_tokens.insert([9; 16], world.connection.clone());
    let datagrams = [short(&OURS, 1), short(&[1; 8], 9), short(&[1; 8], 3)];
    assert_eq!(world.sort(&datagrams).await, (vec![1, 9], vec![3]));
    assert_eq!(world.drops(), BTreeMap::new());
}

#[tokio::test]
async fn a_long_header_goes_by_cid_then_by_address_and_source_cid_then_to_the_listener() {
    let mut world = world().await;
    let key = (REMOTE.parse().expect("an address"), Cid::new(&[5; 5]).expect("short"));
    world.demux.tables.handshakes.insert(key, world.connection.clone());
    let elsewhere = ("192.0.2.2:5000".parse().expect("an address"), Cid::new(&[6; 5]).expect("short"));
    world.demux.tables.handshakes.insert(elsewhere, world.connection.clone());
    let datagrams = [
        long(0xe0, &OURS, &[1; 4], 1),
        long(0xc0, &[3; 8], &[5; 5], 2),
        long(0xc0, &[3; 8], &[6; 5], 3),
        // Of a version with longer IDs than ours.
        [&[0x80, 9, 9, 9, 9, 21], &[3; 21][..], &[0, 4]].concat(),
    ];
    assert_eq!(world.sort(&datagrams).await, (vec![1, 2], vec![3, 4]));
}

#[tokio::test]
async fn handshake_packets_come_first_within_a_batch_each_kind_in_order() {
    let mut world = world().await;
    let datagrams = [
        short(&OURS, 1),
        long(0xd0, &[3; 8], &[5; 5], 2),
        long(0xc0, &[3; 8], &[5; 5], 3),
        short(&OURS, 4),
        long(0xe0, &OURS, &[1; 4], 5),
        long(0xc0, &[4; 8], &[5; 5], 6),
        long(0xe0, &OURS, &[1; 4], 7),
    ];
    assert_eq!(world.sort(&datagrams).await, (vec![5, 7, 1, 4], vec![3, 6, 2]));
    // Early data is not overtaken by the end of the handshake, which takes its keys away.
    let datagrams = [
        long(0xd0, &OURS, &[1; 4], 1),
        short(&OURS, 2),
        long(0xe0, &OURS, &[1; 4], 3),
        long(0xc0, &OURS, &[1; 4], 4),
    ];
    assert_eq!(world.sort(&datagrams).await, (vec![1, 3, 4, 2], vec![]));
}

#[tokio::test]
async fn journeys_stay_with_their_datagrams_when_handshake_packets_overtake_them() {
    let mut world = world().await;
    let tracer = Tracer::new(1, 1 << 16);
    world.demux.tables = Arc::new(Tables::new(tracer.clone()));
    world.demux.tables.connections.insert(Cid::new(&OURS).expect("short"), world.connection.clone());
    let socket = Arc::new(Socket::new(Claim::udp(LOCAL.parse().expect("an address"))));
    assert!(world.demux.tables.sockets.insert(socket));
    tracer.arm(Some(Filter { port: Some(5000), one_in: 1, ..Filter::default() }));
    let sample = RxSample::of(&mut wirepath_trace::Sampler::default(), &tracer, 5);
    let sampling = Sampling { sample, received_at: 1, begun: 1, device: 0, count: 5, journey: None };
    world.demux.sampling = Some(Box::new(sampling));
    let handshake = |len| [long(0xe0, &OURS, &[1; 4], 1), vec![0; len]].concat();
    let data = |len| [short(&OURS, 1), vec![0; len]].concat();
    let datagrams = [data(1), handshake(2), data(3), handshake(4), handshake(5)];
    let packets = datagrams.iter().map(|datagram| packet(LOCAL, datagram)).collect();
    world.demux.sort(packets, &world.via.clone());
    let group = &mut world.demux.groups[0];
    for (place, datagram) in group.datagrams.iter().enumerate() {
        group.traced.take(place).expect("all are followed").finish("seen");
        let (records, _) = tracer.read(0, usize::MAX);
        assert_eq!(records.last().map(|record| record.len as usize), Some(datagram.payload.len()));
    }
    let lens: Vec<_> = group.datagrams.iter().map(|datagram| datagram.payload.len()).collect();
    let expected =
        [handshake(2), handshake(4), handshake(5), data(1), data(3)].map(|datagram| datagram.len());
    assert_eq!(lens, expected);
}

#[tokio::test]
async fn what_has_no_owner_is_dropped_by_name() {
    let mut world = world().await;
    let client = Arc::new(Socket::new(Claim::udp("10.0.0.1:444".parse().expect("an address"))));
    assert!(world.demux.tables.sockets.insert(client));
    let packets = vec![
        packet("10.0.0.1:445", &short(&OURS, 1)),
        packet("10.0.0.1:444", &short(&[1; 8], 2)),
        packet("10.0.0.1:444", &short(&OURS, 3)),
        packet(LOCAL, &[0x40, 1]),
    ];
    world.demux.sort(packets, &world.via.clone());
    assert_eq!(world.demux.groups.len(), 1);
    let drops = [
        ("connection_unmatched_dropped", 1),
        ("header_truncated_dropped", 1),
        ("socket_unmatched_dropped", 1),
    ];
    assert_eq!(world.drops(), drops.into());
}

/// An IPv4 frame with a TCP segment without payload.
fn segment(local: &str, flags: u8) -> RxPacket {
    let mac = wirepath_wire::MacAddr([2; 6]);
    let headers = UdpHeaders::new(wirepath_wire::Link { src: mac, dst: mac, vlan: None });
    let ends = (REMOTE.parse().expect("an address"), local.parse().expect("an address"));
    let tcp = Tcp {
        src_port: 0,
        dst_port: 0,
        sequence: 1,
        acknowledgement: 1,
        flags,
        window: 1,
        checksum: 0,
        options: 0..0,
        payload: 0..0,
    };
    let mut room = [0; 128];
    let len = write_tcp(&mut room, &headers, ends, (&tcp, &[]), &[]).expect("there is room");
    let mut buf = PacketBuf::heap(len);
    buf.as_mut_slice().copy_from_slice(&room[room.len() - len..]);
    RxPacket { buf, meta: RxMeta::Ethernet }
}

#[tokio::test]
async fn a_reset_that_comes_when_the_socket_is_gone_is_no_stranger() {
    let mut world = world().await;
    let packets = vec![segment("10.0.0.1:445", RST | ACK), segment("10.0.0.1:445", ACK)];
    world.demux.sort(packets, &world.via.clone());
    let drops = [("qtip_reset_unmatched_dropped", 1), ("socket_unmatched_dropped", 1)];
    assert_eq!(world.drops(), drops.into());
}

#[tokio::test]
async fn sockets_of_one_port_are_told_apart_within_a_batch() {
    let mut world = world().await;
    let wildcard = Arc::new(Socket::new(Claim::udp("0.0.0.0:443".parse().expect("an address"))));
    assert!(world.demux.tables.sockets.insert(wildcard));
    // Nobody listens on the wildcard.
    let packets =
        ["10.0.0.2:443", LOCAL, "10.0.0.2:443"].map(|local| packet(local, &short(&[1; 8], 1))).into();
    world.demux.sort(packets, &world.via.clone());
    assert_eq!(world.drops(), [("connection_unmatched_dropped", 2)].into());
    assert_eq!(world.demux.groups.len(), 1);
}

#[tokio::test]
async fn packets_that_wait_long_make_the_partition_overloaded() {
    let World { demux, via, .. } = world().await;
    let load = demux.load.clone();
    let demux = Spawner::default().spawn("0".into(), demux).await.expect("the runtime is up");
    let wait_for = async |overloaded: bool, age: Nanos| {
        let start = BatchClock::read();
        while load.is_overloaded() != overloaded {
            let received_at = BatchClock::read().saturating_sub(age);
            let message = DemuxMessage {
                packets: Vec::new(),
                via: via.clone(),
                received_at,
                sample: RxSample::default(),
            };
            demux.send_data(message, 0).expect("it lives");
            tokio::task::yield_now().await;
            assert!(BatchClock::read() - start < 20 * MAX_QUEUE_DELAY);
        }
    };
    wait_for(true, 2 * MAX_QUEUE_DELAY).await;
    wait_for(false, 0).await;
}

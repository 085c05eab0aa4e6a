//! Datagrams and frames that no honest peer sends, poured at a listening stack while it works: nothing panics,
//! what is dropped is counted by name, the connections there go on and new ones come.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Once,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use integration_tests::{
    cert::{ALPN, Identity},
    needs,
    netns::{Namespace, Task},
    peers::{Endpoint, Ours, Quinn, Setting, Tuning},
    work::{Plan, Served, Stop, Summary, carry_out, serve},
    world::{Family, INTERFACE, Pair, World},
};
use rand::{Rng, RngCore, SeedableRng, rngs::SmallRng};
use wirepath::Stack;

const DEADLINE: Duration = Duration::from_secs(60);

/// Datagrams of each kind.
const MANY: usize = 1000;

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Counts panics of the stack's own threads from now on; the actor kit would catch and outlive them.
fn count_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name().is_some_and(|name| name.starts_with("wirepath-")) {
                PANICS.fetch_add(1, Ordering::Relaxed);
            }
            usual(info);
        }));
    });
}

/// Keeps an attack from drowning the server in packets: that would test the kernel's receive buffer.
struct Pace {
    stack: Stack,
    sent: u64,
}

impl Pace {
    /// Packets under way at most.
    const AHEAD: u64 = 64;

    /// After each packet: waits until the server has taken in most of them, or they must be lost.
    fn wait(&mut self) {
        self.sent += 1;
        if !self.sent.is_multiple_of(Self::AHEAD) {
            return;
        }
        let goal = self.received() + Self::AHEAD / 2;
        let start = Instant::now();
        while self.received() < goal && start.elapsed() < Duration::from_millis(50) {
            std::thread::yield_now();
        }
    }

    fn received(&self) -> u64 {
        self.stack.status().devices.iter().map(|device| device.stats.rx_packet_received).sum()
    }
}

/// Our server at work, and a client of another stack to prove it.
struct Target {
    stack: Stack,
    served: Served,
    server: Task<Summary>,
    setting: Setting,
    client: Option<Namespace>,
    from: SocketAddr,
}

impl Target {
    fn start(world: Option<&Pair>, family: Family) -> Self {
        count_panics();
        let tuning = Tuning { idle: Duration::from_secs(5), ..Tuning::default() };
        let setting = Setting {
            identity: Identity::new(),
            interface: world.map(|_| INTERFACE.to_owned()),
            alpn: ALPN,
            tuning,
        };
        let any = match family {
            Family::V4 => SocketAddr::from(([127, 0, 0, 1], 0)),
            Family::V6 => "[::1]:0".parse().expect("an address"),
        };
        let at = world.map_or(any, |world| world.server.socket(family, 4433));
        let (sender, started) = mpsc::channel();
        let server_setting = setting.clone();
        let work = async move || {
            let endpoint = Ours::server(at, &server_setting).await.expect("a server");
            let stack = endpoint.stack().clone();
            serve(endpoint, |served| sender.send((stack, served)).expect("the test waits"))
                .await
                .expect("it serves")
        };
        let server = match world {
            Some(world) => world.server.namespace.runtime(work),
            None => Task::runtime("server".into(), work),
        };
        let (stack, served) = started.recv_timeout(DEADLINE).expect("the server starts");
        let from = world.map_or(any, |world| world.client.socket(family, 0));
        Self {
            stack,
            served,
            server,
            setting,
            client: world.map(|world| world.client.namespace.clone()),
            from,
        }
    }

    /// A client of quinn's carries out a plan.
    fn work(&self, plan: Plan) -> Task<()> {
        let (from, to) = (self.from, self.served.address);
        let setting = Setting { interface: None, ..self.setting.clone() };
        let work = async move || {
            let client = Quinn::client(from, &setting).await.expect("a client");
            carry_out(client, to, &plan, DEADLINE).await.expect("the plan");
        };
        match &self.client {
            Some(namespace) => namespace.runtime(work),
            None => Task::runtime("client".into(), work),
        }
    }

    /// A socket from where the client is, to the server.
    fn socket(&self) -> UdpSocket {
        let (from, to) = (self.from, self.served.address);
        let bind = || {
            let socket = UdpSocket::bind(from).expect("a socket");
            socket.connect(to).expect("a way");
            socket
        };
        self.client.as_ref().map_or_else(bind, |namespace| namespace.run(bind))
    }

    fn drops(&self) -> u64 {
        self.stack.status().all_drops().values().sum()
    }

    /// Pours `attack` until the client has done its work, at least once, and looks whether all is well then.
    fn withstands(self, attack: impl Fn(&mut SmallRng, &mut Pace) + Send + 'static) {
        let before = self.drops();
        let done = std::sync::Arc::new(AtomicBool::new(false));
        let attacker = {
            let (done, mut pace) = (done.clone(), Pace { stack: self.stack.clone(), sent: 0 });
            Task::start("attacker".into(), move || {
                let mut random = SmallRng::seed_from_u64(7);
                loop {
                    attack(&mut random, &mut pace);
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                }
            })
        };
        self.work(Plan::mixed(20, 300_000)).join(DEADLINE);
        done.store(true, Ordering::Relaxed);
        attacker.join(DEADLINE);
        self.work(Plan::bytes(10_000).on_connections(3)).join(DEADLINE);
        assert!(self.drops() > before, "nothing was dropped: {:?}", self.stack.status());
        let failed: u64 = self.stack.registry().kinds().iter().map(|kind| kind.actor_failed).sum();
        assert_eq!((failed, PANICS.load(Ordering::Relaxed)), (0, 0), "actors failed, threads panicked");
        // What was begun by the attacker ends by itself.
        let start = Instant::now();
        while self.stack.status().cids > 0 {
            let left = self.stack.status().cids;
            assert!(start.elapsed() < DEADLINE, "{left} CIDs are still there");
            std::thread::yield_now();
        }
        self.served.stop.send(Stop::default()).expect("the server is there");
        let summary = self.server.join(DEADLINE);
        assert_eq!(summary.faults, Vec::<String>::new());
    }
}

/// Random bytes of every length, some with a first byte that looks like QUIC.
fn noise(socket: &UdpSocket, random: &mut SmallRng, pace: &mut Pace) {
    let mut bytes = [0; 1400];
    for round in 0..MANY {
        let len = if round % 3 == 0 { random.random_range(0..64) } else { random.random_range(0..1400) };
        random.fill_bytes(&mut bytes[..len]);
        if let Some(first) = bytes[..len].first_mut() {
            *first = [*first, 0x40 | *first & 0x3f, 0xc0 | *first & 0x3f][round % 3];
        }
        if round % 4 == 0 && len >= 5 {
            bytes[1..5].copy_from_slice(&[0, 0, 0, 1]);
        }
        // Refused sends (a full buffer) are as good as lost packets.
        let _ = socket.send(&bytes[..len]);
        pace.wait();
    }
}

/// The first datagram of a real client.
fn initial() -> Vec<u8> {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let to = silent.local_addr().expect("an address");
    let setting =
        Setting { identity: Identity::new(), interface: None, alpn: ALPN, tuning: Tuning::default() };
    let client = Task::runtime("decoy".into(), async move || {
        let mut client = Quinn::client(([127, 0, 0, 1], 0).into(), &setting).await.expect("a client");
        // Given up once the server has seen a packet; it never answers.
        let _ = tokio::time::timeout(Duration::from_millis(100), client.connect(to, "localhost")).await;
    });
    let mut bytes = vec![0; 2000];
    silent.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let len = silent.recv(&mut bytes).expect("a first datagram");
    client.join(DEADLINE);
    bytes.truncate(len);
    bytes
}

/// A real first datagram, cut short or with bytes changed: many still look like the start of a connection.
fn mutations(initial: &[u8], socket: &UdpSocket, random: &mut SmallRng, pace: &mut Pace) {
    for round in 0..MANY {
        let mut bytes = initial.to_vec();
        match round % 4 {
            0 => bytes.truncate(random.random_range(0..bytes.len())),
            1 => {
                let at = random.random_range(0..bytes.len());
                bytes[at] ^= 1 << random.random_range(0..8);
            }
            // The headers, where the lengths are.
            2 => {
                for _ in 0..3 {
                    bytes[random.random_range(0..40)] = random.random();
                }
            }
            // A whole one, from a connection ID of its own: a real handshake that is never finished.
            _ => bytes.extend_from_slice(&[0; 3]),
        }
        let _ = socket.send(&bytes);
        pace.wait();
    }
}

#[test]
fn noise_over_udp() {
    let target = Target::start(None, Family::V6);
    let socket = target.socket();
    target.withstands(move |random, pace| noise(&socket, random, pace));
}

#[test]
fn noise_over_xdp() {
    needs!(Xdp);
    let world = World::pair(1500, 1).unwrap();
    let target = Target::start(Some(&world), Family::V6);
    let socket = target.socket();
    target.withstands(move |random, pace| noise(&socket, random, pace));
}

#[test]
fn broken_first_packets_over_udp() {
    let target = Target::start(None, Family::V4);
    let (socket, initial) = (target.socket(), initial());
    target.withstands(move |random, pace| mutations(&initial, &socket, random, pace));
}

#[test]
fn broken_first_packets_over_xdp() {
    needs!(Xdp);
    let world = World::pair(1500, 1).unwrap();
    let target = Target::start(Some(&world), Family::V4);
    let (socket, initial) = (target.socket(), initial());
    target.withstands(move |random, pace| mutations(&initial, &socket, random, pace));
}

/// A frame with a UDP datagram to the server in it, all but its checksums right.
fn frame(world: &Pair, server_mac: [u8; 6], payload: &[u8]) -> Vec<u8> {
    let (from, to) = (world.client.v4, world.server.v4);
    let mut frame = server_mac.to_vec();
    frame.extend([2, 0, 0, 0, 0, 9, 0x08, 0x00, 0x45, 0]);
    frame.extend(((28 + payload.len()) as u16).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(from.octets());
    frame.extend(to.octets());
    let sum: u32 =
        frame[14..34].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame.extend([0x30, 0x39]);
    frame.extend(4433_u16.to_be_bytes());
    frame.extend(((8 + payload.len()) as u16).to_be_bytes());
    // Over IPv4, zero says that there is no checksum.
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}

fn mac(namespace: &Namespace) -> [u8; 6] {
    let text = namespace.ip(&[&format!("link show {INTERFACE}")]).unwrap();
    let hex = text.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next()).expect("an address");
    let mut bytes = hex.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("hex"));
    std::array::from_fn(|_| bytes.next().expect("six bytes"))
}

#[test]
fn broken_frames_over_xdp() {
    needs!(Xdp);
    let world = World::pair(1500, 1).unwrap();
    let target = Target::start(Some(&world), Family::V4);
    assert_eq!(target.served.address.ip(), IpAddr::from(world.server.v4));
    let sender = world.client.namespace.frames(INTERFACE).unwrap();
    let good = frame(&world, mac(&world.server.namespace), &[0x40; 200]);
    target.withstands(move |random, pace| {
        for round in 0..MANY {
            let mut bytes = good.clone();
            match round % 5 {
                // Cut anywhere: lengths that reach past the end.
                0 => bytes.truncate(random.random_range(14..bytes.len())),
                // Any byte of the headers: versions, header lengths, fragments, protocols, ports, lengths.
                1 | 2 => bytes[random.random_range(12..42)] = random.random(),
                // A wrong UDP checksum.
                3 => bytes[40..42].copy_from_slice(&[0xde, 0xad]),
                // A good frame of a connection that does not exist.
                _ => {}
            }
            sender.send(&bytes);
            pace.wait();
        }
    });
}

//! A relay between both ends, which takes ECN marks away as any does that copies datagrams. It can hold the client's answers
//! back, or forget where the client is, as a NAT does.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use integration_tests::netns::Task;

use crate::programs::{DEADLINE, loopback};

/// How long both sides are listened to in turn.
const TURN: Duration = Duration::from_millis(2);

/// Turns without a datagram after which a server is taken to wait: longer than its probe timeout on loopback.
const SILENCE: u32 = 250;

/// Bytes of a datagram with more than an acknowledgement in it.
const FULL: usize = 1000;

/// Bytes from the server between two moves of the client: the handshake is over by then.
const MOVE_EVERY: usize = 60_000;

/// What a relay does beside relaying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trick {
    /// Nothing.
    None,
    /// The client's datagrams are held back once the server has begun to send its certificates, until it is silent: so
    /// nothing proves the client's address to it.
    HoldBack,
    /// Now and then the server sees the client at another port of the next of these addresses, and what it sends to where
    /// the client was before is lost.
    Rebind(&'static [Ipv4Addr]),
}

/// Bytes each side has sent, and of the client's those that were passed on.
#[derive(Debug, Default)]
pub(crate) struct Relayed {
    pub(crate) from_server: usize,
    pub(crate) to_server: usize,
    /// Both when the server had fallen silent while answers were held back.
    pub(crate) at_silence: Option<(usize, usize)>,
    /// Where the server saw the client.
    pub(crate) seen_at: Vec<SocketAddr>,
}

/// Carries datagrams to a server and back until told to stop.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
    task: Task<Relayed>,
}

impl Relay {
    pub(crate) fn start(server: SocketAddr, trick: Trick) -> Self {
        let inside = UdpSocket::bind(loopback()).unwrap();
        inside.set_read_timeout(Some(TURN)).unwrap();
        let address = inside.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = Task::start("relay".into(), move || carry(&inside, server, trick, &stopped));
        Self { address, stop, task }
    }

    pub(crate) fn end(self) -> Relayed {
        self.stop.store(true, Ordering::Relaxed);
        self.task.join(DEADLINE)
    }
}

/// A socket by which the server sees the client.
fn outside(server: SocketAddr, ip: Ipv4Addr, relayed: &mut Relayed) -> UdpSocket {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(TURN)).unwrap();
    relayed.seen_at.push(socket.local_addr().unwrap());
    socket
}

fn carry(inside: &UdpSocket, server: SocketAddr, trick: Trick, stop: &AtomicBool) -> Relayed {
    let mut relayed = Relayed::default();
    let mut socket = outside(server, Ipv4Addr::LOCALHOST, &mut relayed);
    let (mut hold, mut moves) = match trick {
        Trick::None => (false, &[][..]),
        Trick::HoldBack => (true, &[][..]),
        Trick::Rebind(addresses) => (false, addresses),
    };
    let mut buffer = [0; 65536];
    let (mut client, mut held, mut silent, mut answered) = (None, Vec::new(), 0, false);
    while !stop.load(Ordering::Relaxed) {
        if let [ip, rest @ ..] = moves
            && relayed.from_server > MOVE_EVERY * relayed.seen_at.len()
        {
            socket = outside(server, *ip, &mut relayed);
            moves = rest;
        }
        if let Ok((len, from)) = inside.recv_from(&mut buffer) {
            client = Some(from);
            if hold && answered {
                held.push(buffer[..len].to_vec());
            } else {
                relayed.to_server += len;
                // A server that has ended is the test's to notice.
                let _ = socket.send(&buffer[..len]);
            }
        }
        match socket.recv(&mut buffer) {
            Ok(len) => {
                silent = 0;
                relayed.from_server += len;
                answered |= len >= FULL;
                let _ = inside.send_to(&buffer[..len], client.expect("it answers"));
            }
            Err(_) => silent += 1,
        }
        if hold && !held.is_empty() && silent >= SILENCE {
            relayed.at_silence = Some((relayed.from_server, relayed.to_server));
            hold = false;
            for datagram in held.drain(..) {
                let _ = socket.send(&datagram);
            }
        }
    }
    relayed
}

//! That the cases `ecn` and `amplificationlimit` are about what they say: a relay between both ends, which takes marks
//! away as any does that copies datagrams, and which can hold the client's answers back.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use integration_tests::netns::Task;

use crate::programs::{DEADLINE, Folder, LOOPBACK, Server, ended, loopback, sizes, start_client};

/// How long both sides are listened to in turn.
const TURN: Duration = Duration::from_millis(2);

/// Turns without a datagram after which a server is taken to wait: longer than its probe timeout on loopback.
const SILENCE: u32 = 250;

/// Bytes of a datagram with more than an acknowledgement in it.
const FULL: usize = 1000;

/// Bytes each side has sent, and of the client's those that were passed on.
#[derive(Debug, Default)]
struct Relayed {
    from_server: usize,
    to_server: usize,
    /// Both when the server had fallen silent while answers were held back.
    at_silence: Option<(usize, usize)>,
}

/// Carries datagrams to a server and back until told to stop. With `hold`, the client's are held back once the server has
/// begun to send its certificates, until it is silent: so nothing proves the client's address to it.
struct Relay {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    task: Task<Relayed>,
}

impl Relay {
    fn start(server: SocketAddr, hold: bool) -> Self {
        let (inside, outside) = (UdpSocket::bind(loopback()).unwrap(), UdpSocket::bind(loopback()).unwrap());
        outside.connect(server).unwrap();
        for socket in [&inside, &outside] {
            socket.set_read_timeout(Some(TURN)).unwrap();
        }
        let address = inside.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = Task::start("relay".into(), move || carry(&inside, &outside, hold, &stopped));
        Self { address, stop, task }
    }

    fn end(self) -> Relayed {
        self.stop.store(true, Ordering::Relaxed);
        self.task.join(DEADLINE)
    }
}

fn carry(inside: &UdpSocket, outside: &UdpSocket, mut hold: bool, stop: &AtomicBool) -> Relayed {
    let mut relayed = Relayed::default();
    let mut buffer = [0; 65536];
    let (mut client, mut held, mut silent, mut answered) = (None, Vec::new(), 0, false);
    while !stop.load(Ordering::Relaxed) {
        if let Ok((len, from)) = inside.recv_from(&mut buffer) {
            client = Some(from);
            if hold && answered {
                held.push(buffer[..len].to_vec());
            } else {
                relayed.to_server += len;
                // A server that has ended is the test's to notice.
                let _ = outside.send(&buffer[..len]);
            }
        }
        match outside.recv(&mut buffer) {
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
                let _ = outside.send(&datagram);
            }
        }
    }
    relayed
}

/// Plays a case through a relay; gives what the client and the server said at their ends.
fn relayed(test: &str, hold: bool) -> (Result<(), String>, Result<(), String>, Relayed) {
    let folder = Folder::of(test);
    let names = folder.files(&sizes(test));
    let server = Server::start(LOOPBACK, &folder, loopback(), test, "hq-interop");
    let relay = Relay::start(server.address, hold);
    let output = ended(start_client(LOOPBACK, &folder, relay.address, test, "hq-interop", &names));
    let client = match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    };
    folder.check(&names);
    (client, server.end(), relay.end())
}

#[test]
fn a_server_waits_for_its_clients_address_after_three_times_the_bytes() {
    let (client, server, relayed) = relayed("amplificationlimit", true);
    assert_eq!((client, server), (Ok(()), Ok(())));
    let (sent, received) = relayed.at_silence.expect("it waited");
    // RFC 9000 §8.1; and it would have sent more: a datagram had no room.
    assert!(sent <= 3 * received && sent + 1200 > 3 * received, "{relayed:?}");
    assert!(relayed.from_server > 3 * received + 1200, "{relayed:?}");
}

#[test]
fn a_server_with_few_certificates_fails_the_case_of_the_limit() {
    let folder = Folder::new();
    let names = folder.files(&[1024]);
    let server = Server::start(LOOPBACK, &folder, loopback(), "amplificationlimit", "hq-interop");
    let output =
        ended(start_client(LOOPBACK, &folder, server.address, "amplificationlimit", "hq-interop", &names));
    assert!(output.status.success());
    let told = server.end().unwrap_err();
    assert!(told.contains("anti-amplification limit") && told.trim_end().lines().count() == 1, "{told}");
}

#[test]
fn marks_that_are_taken_away_fail_the_case_of_ecn_at_both_ends() {
    let (client, server, _) = relayed("ecn", false);
    for told in [client.unwrap_err(), server.unwrap_err()] {
        assert!(told.contains("ECN marks") && told.trim_end().lines().count() == 1, "{told}");
    }
}

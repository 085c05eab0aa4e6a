//! The limit of full handshakes on this machine: the TLS 1.3 sessions of QUIC and no QUIC. Their messages cross in bare
//! UDP datagrams: nothing is sealed, acknowledged or sent again. With the perf command line, so `make bench` runs it
//! beside the stacks (`tls`). As many sessions as `--concurrency` says are on their way at a time, a new one begins
//! when one is done, and one counts when the server has said that it has the client's Finished.

mod session;
mod trust;

use std::{
    collections::HashMap,
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use perf_protocol::{Json, Latencies, Meter, Mode, Options, READY, Result, Role, Sample};

use session::Session;
use trust::{Client, Server};

/// The number of a session in front of each datagram.
const NUMBER_LEN: usize = 8;
/// Longer than any flight here.
const DATAGRAM_LEN: usize = 8192;
/// A session that is this old has lost a datagram, and is given up.
const GIVEN_UP: Duration = Duration::from_millis(200);

#[derive(Parser)]
#[command(name = "wirepath-tls", about = "TLS sessions without QUIC: the limit of handshakes.")]
struct Program {
    #[command(subcommand)]
    role: Role,
}

fn main() -> ExitCode {
    let outcome = match Program::parse().role {
        Role::Server(options) => serve(&options),
        Role::Client(options) => request(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wirepath-tls: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A socket that is polled without sleeping, as it would be by a stack with this much to do.
struct Socket(UdpSocket);

impl Socket {
    fn bind(local: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind(local)?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    /// The next datagram, if one is there: the session's number, its flight, and who sent it.
    fn receive<'a>(&self, buf: &'a mut [u8]) -> Result<Option<(u64, &'a [u8], SocketAddr)>> {
        let (len, from) = match self.0.recv_from(buf) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            other => other?,
        };
        let Some((number, flight)) = buf[..len].split_first_chunk::<NUMBER_LEN>() else { return Ok(None) };
        Ok(Some((u64::from_be_bytes(*number), flight, from)))
    }

    fn send(&self, number: u64, flight: &[u8], to: SocketAddr) -> Result<()> {
        self.0.send_to(&[&number.to_be_bytes(), flight].concat(), to)?;
        Ok(())
    }
}

/// Runs until it is killed.
fn serve(options: &Options) -> Result<()> {
    let (socket, server) = (Socket::bind(options.listen_addr()?)?, Server::new(options)?);
    println!("{READY}");
    let (mut sessions, mut buf) = (HashMap::new(), [0; DATAGRAM_LEN]);
    loop {
        let Some((number, flight, from)) = socket.receive(&mut buf)? else { continue };
        let session = match sessions.entry((from, number)) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => new.insert(Session::of(server.session()?)),
        };
        session.read(flight)?;
        // Nothing more to say: an empty flight tells the client that it is done.
        socket.send(number, &session.flight(), from)?;
        if session.is_complete() {
            sessions.remove(&(from, number));
        }
    }
}

fn request(options: &Options) -> Result<()> {
    if options.mode != Mode::Hps {
        return Err(format!("sessions are measured by hps, not {}", options.mode.name()).into());
    }
    let mut runner = Runner {
        socket: Socket::bind(options.local_addr())?,
        server: options.connect_addr()?,
        client: Client::new(options)?,
        sessions: HashMap::new(),
        begun: 0,
        lost: 0,
    };
    for _ in 0..options.concurrency {
        runner.begin()?;
    }
    runner.run_for(options.warmup)?;
    let meter = Meter::start(options.server_pid);
    let latencies = runner.run_for(options.secs)?;
    let sample: Sample = meter.stop();
    let json = Json::new().text("peer", "tls").text("mode", options.mode.name());
    let json = json.number("concurrency", options.concurrency as f64);
    let json = sample.report_operations(json, "hps", latencies.count());
    println!("{}", latencies.report(json).number("failed", runner.lost as f64));
    Ok(())
}

struct Runner {
    socket: Socket,
    server: SocketAddr,
    client: Client,
    sessions: HashMap<u64, (Session, Instant)>,
    begun: u64,
    lost: u64,
}

impl Runner {
    fn begin(&mut self) -> Result<()> {
        self.begun += 1;
        let (begun, mut session) = (Instant::now(), Session::of(self.client.session()?));
        self.socket.send(self.begun, &session.flight(), self.server)?;
        self.sessions.insert(self.begun, (session, begun));
        Ok(())
    }

    /// Tells how long those took that were done meanwhile.
    fn run_for(&mut self, secs: f64) -> Result<Latencies> {
        let (mut latencies, mut buf) = (Latencies::default(), [0; DATAGRAM_LEN]);
        let end = Instant::now() + Duration::from_secs_f64(secs);
        while Instant::now() < end {
            let Some((number, flight, _)) = self.socket.receive(&mut buf)? else {
                self.give_up()?;
                continue;
            };
            let Some((session, begun)) = self.sessions.get_mut(&number) else { continue };
            if flight.is_empty() {
                latencies.record(begun.elapsed());
                self.sessions.remove(&number);
                self.begin()?;
                continue;
            }
            session.read(flight)?;
            let answer = session.flight();
            self.socket.send(number, &answer, self.server)?;
        }
        Ok(latencies)
    }

    fn give_up(&mut self) -> Result<()> {
        let before = self.sessions.len();
        self.sessions.retain(|_, (_, begun)| begun.elapsed() < GIVEN_UP);
        for _ in self.sessions.len()..before {
            self.lost += 1;
            self.begin()?;
        }
        Ok(())
    }
}

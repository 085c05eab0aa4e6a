//! One client against one server, in one place.

use std::{
    fmt::Debug,
    net::SocketAddr,
    sync::{LazyLock, mpsc},
    time::Duration,
};

use crate::{
    cert::{ALPN, Identity},
    netns::{Namespace, Task},
    peers::{DONE, Endpoint, Fault, Ours, Quinn, S2n, Setting, Tuning},
    work::{Failure, Plan, Report, SHUT_DOWN_WITHIN, Served, Stop, Summary, carry_out, serve},
    world::{Family, Pair},
};

/// How long a server may take to listen.
const STARTED_WITHIN: Duration = Duration::from_secs(10);

/// How long the last packets of a connection may take where none is lost.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);

/// A stack, and its data path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stack {
    /// quinn over the system's UDP.
    Quinn,
    /// s2n-quic over the system's UDP.
    S2n,
    /// Ours over the system's UDP.
    OursUdp,
    /// Ours over AF_XDP, or else not at all.
    OursXdp,
}

/// Where the two meet.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// The loopback interface, in the test's own namespace: no rights are needed.
    Loopback(Family),
    /// Two hosts of a world.
    Across(&'a Pair, Family),
}

/// A client, a server, a place, and what they do there.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    /// Who connects.
    pub client: Stack,
    /// Who listens.
    pub server: Stack,
    /// Where.
    pub place: Place<'a>,
    /// What the client does.
    pub plan: Plan,
    /// Limits of the client.
    pub client_tuning: Tuning,
    /// Limits of the server.
    pub server_tuning: Tuning,
    /// The time all of it may take.
    pub deadline: Duration,
}

/// What came of a case.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// At the client.
    pub report: Report,
    /// At the server.
    pub summary: Summary,
}

impl<'a> Case<'a> {
    /// A case with the default limits and deadline.
    pub fn new(client: Stack, server: Stack, place: Place<'a>, plan: Plan) -> Self {
        let tuning = Tuning::default();
        let deadline = Duration::from_secs(30);
        Self { client, server, place, plan, client_tuning: tuning, server_tuning: tuning, deadline }
    }

    /// The same with other limits at both ends.
    pub fn tuned(self, tuning: Tuning) -> Self {
        Self { client_tuning: tuning, server_tuning: tuning, ..self }
    }

    /// The same with another deadline.
    pub fn within(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Does it, and checks that all of it was done: at both ends, down to the client's close where no packet
    /// is lost.
    ///
    /// # Panics
    /// If anything went wrong, with what both ends saw.
    pub fn run(&self) -> Outcome {
        let lossless = match self.place {
            Place::Loopback(_) => true,
            Place::Across(pair, _) => pair.middlebox.is_none(),
        };
        // s2n-quic drops what comes before it has taken in the client's last TLS message. A client that closes
        // at once, and then forgets the connection, has told it nothing.
        let told = lossless && !(self.server == Stack::S2n && self.plan.exchanges.is_empty());
        let (served, server) = self.start_server();
        let done = self.start_client(served.address).join(self.deadline + 2 * SHUT_DOWN_WITHIN);
        let grace = if told && done.is_ok() { CLOSED_WITHIN } else { Duration::ZERO };
        let stopping = served.stop.send(Stop { connections: self.plan.connections, grace });
        let summary = server.join(CLOSED_WITHIN + 2 * SHUT_DOWN_WITHIN);
        let (report, summary) = match (done, summary) {
            (Ok(report), Ok(summary)) => (report, summary),
            (done, summary) => panic!("{self:?}\nclient: {}\nserver: {}", lines(&done), lines(&summary)),
        };
        assert!(stopping.is_ok(), "the server ended by itself: {summary:?}");
        let plan = &self.plan;
        assert_eq!((report.up, report.down), (plan.up(), plan.down()), "{report:?}");
        assert_eq!(report.connections, plan.connections);
        assert_eq!(report.exchanges, plan.exchanges.len() * plan.connections);
        if told || !plan.exchanges.is_empty() {
            assert_eq!(summary.connections, plan.connections, "{summary:?}");
        }
        assert_eq!(summary.streams, report.exchanges, "{summary:?}");
        assert!(summary.faults.is_empty(), "{summary:?}");
        if lossless {
            assert_eq!(summary.failed_handshakes, []);
        }
        if told {
            assert_eq!(summary.ends, vec![Fault::Closed(DONE); plan.connections], "{self:?}");
        }
        Outcome { report, summary }
    }

    fn start_server(&self) -> (Served, Task<Result<Summary, Failure>>) {
        let (sender, served) = mpsc::channel();
        let (namespace, at) = match self.place {
            Place::Loopback(family) => (None, loopback(family)),
            Place::Across(pair, family) => (Some(&pair.server.namespace), pair.server.socket(family, 4433)),
        };
        let setting = self.setting(self.server, self.server_tuning);
        let started = move |served| sender.send(served).expect("the test waits");
        let task = match self.server {
            Stack::Quinn => server::<Quinn>(namespace, at, setting, started),
            Stack::S2n => server::<S2n>(namespace, at, setting, started),
            Stack::OursUdp | Stack::OursXdp => server::<Ours>(namespace, at, setting, started),
        };
        match served.recv_timeout(STARTED_WITHIN) {
            Ok(served) => (served, task),
            Err(_) => panic!("{:?} does not listen: {:?}", self.server, task.try_join()),
        }
    }

    fn start_client(&self, to: SocketAddr) -> Task<Result<Report, Failure>> {
        let (namespace, at) = match self.place {
            Place::Loopback(family) => (None, loopback(family)),
            Place::Across(pair, family) => (Some(&pair.client.namespace), pair.client.socket(family, 0)),
        };
        let setting = self.setting(self.client, self.client_tuning);
        let (plan, deadline) = (self.plan.clone(), self.deadline);
        match self.client {
            Stack::Quinn => client::<Quinn>(namespace, at, setting, to, plan, deadline),
            Stack::S2n => client::<S2n>(namespace, at, setting, to, plan, deadline),
            Stack::OursUdp | Stack::OursXdp => client::<Ours>(namespace, at, setting, to, plan, deadline),
        }
    }

    fn setting(&self, stack: Stack, tuning: Tuning) -> Setting {
        static IDENTITY: LazyLock<Identity> = LazyLock::new(Identity::new);
        let interface = match (stack, self.place) {
            (Stack::OursXdp, Place::Across(pair, _)) => Some(pair.client.interface.to_owned()),
            (Stack::OursXdp, Place::Loopback(_)) => panic!("AF_XDP needs a link between hosts"),
            _ => None,
        };
        Setting { identity: IDENTITY.clone(), interface, alpn: ALPN, tuning }
    }
}

fn server<E: Endpoint>(
    namespace: Option<&Namespace>,
    at: SocketAddr,
    setting: Setting,
    started: impl FnOnce(Served) + Send + 'static,
) -> Task<Result<Summary, Failure>> {
    task(namespace, "server", async move || {
        let endpoint = E::server(at, &setting).await.map_err(Failure)?;
        serve(endpoint, started).await
    })
}

fn client<E: Endpoint>(
    namespace: Option<&Namespace>,
    at: SocketAddr,
    setting: Setting,
    to: SocketAddr,
    plan: Plan,
    deadline: Duration,
) -> Task<Result<Report, Failure>> {
    task(namespace, "client", async move || {
        let endpoint = E::client(at, &setting).await.map_err(Failure)?;
        carry_out(endpoint, to, &plan, deadline).await
    })
}

fn task<R: Send + 'static>(
    namespace: Option<&Namespace>,
    name: &str,
    work: impl AsyncFnOnce() -> R + Send + 'static,
) -> Task<R> {
    match namespace {
        Some(namespace) => namespace.runtime(work),
        None => Task::runtime(name.into(), work),
    }
}

fn loopback(family: Family) -> SocketAddr {
    match family {
        Family::V4 => SocketAddr::from(([127, 0, 0, 1], 0)),
        Family::V6 => SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 0)),
    }
}

fn lines<T: Debug>(what: &T) -> String {
    format!("{what:?}").replace("\\n", "\n")
}

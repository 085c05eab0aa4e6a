//! The client's end: asks a helper for what this process has no right to do.

use std::{
    io,
    net::IpAddr,
    ops::Range,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with},
};
use wirepath_wire::rules::{Rule, Rules};

use super::{
    VERSION,
    channel::{Channel, Packet},
    message::{MAX_MESSAGE, Refusal, Reply, Request, XskWish},
};
use crate::{
    AfXdpOptions, DriverError, Nic, XdpAttachment, XdpControl, XdpOptions, XdpTransmitter,
    af_xdp::{Handed, Shape},
    xdp::EVENTS,
};

/// How long an answer may take. A helper that does its work takes well under a millisecond for most, 30 ms for rules,
/// and half a second for a queue that a former XSK still holds.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the helper may take to read our request's bytes: its queue is empty when we ask.
const SEND_PATIENCE: Duration = Duration::from_secs(1);

/// A helper, by its socket. Nothing is asked until something is needed.
#[derive(Debug)]
pub struct HelperClient {
    path: PathBuf,
    line: Mutex<Line>,
}

/// The connection, which is the lease.
#[derive(Debug)]
struct Line {
    state: LineState,
    /// Leases so far.
    serial: u64,
}

#[derive(Debug)]
enum LineState {
    Idle,
    Up(Channel),
    /// It is over, for this reason.
    Lost(String),
}

/// An interface leased from a helper. The lease ends when this is dropped.
#[derive(Debug)]
pub struct HelperLease {
    client: Arc<HelperClient>,
    serial: u64,
    attachment: XdpAttachment,
    queues: Range<u32>,
    rules: Mutex<Rules>,
}

impl HelperClient {
    /// The helper that listens at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Arc<Self> {
        Arc::new(Self { path: path.into(), line: Mutex::new(Line { state: LineState::Idle, serial: 0 }) })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is a helper, and it takes this process.
    ///
    /// # Errors
    /// [`DriverError::Helper`] says why not.
    pub fn probe(&self) -> Result<(), DriverError> {
        self.connect().map(drop)
    }

    /// Leases an interface, with our program attached to it. A former lease of this client is over then.
    ///
    /// # Errors
    /// [`DriverError::Helper`] when there is no helper or it does not allow it; [`DriverError::NoInterface`],
    /// [`DriverError::ProgramPresent`].
    pub fn attach(
        self: &Arc<Self>,
        interface: &str,
        options: XdpOptions,
    ) -> Result<HelperLease, DriverError> {
        self.attach_queues(interface, options, 0..u32::MAX)
    }

    /// Leases these queues of an interface; other processes may lease the others.
    ///
    /// # Errors
    /// As for [`attach`](Self::attach).
    pub fn attach_queues(
        self: &Arc<Self>,
        interface: &str,
        options: XdpOptions,
        queues: Range<u32>,
    ) -> Result<HelperLease, DriverError> {
        let index = Nic::by_name(interface)?.index;
        let mut line = self.line.lock();
        // First, so that the helper finds the interface free.
        line.state = LineState::Idle;
        let channel = self.connect()?;
        line.serial += 1;
        line.state = LineState::Up(channel);
        let request = Request::Attach { interface: interface.to_owned(), index, options, queues };
        match self.exchange(&mut line, &request, &[]) {
            Ok((Reply::Attached { attachment, queues }, _)) => Ok(HelperLease {
                client: self.clone(),
                serial: line.serial,
                attachment,
                queues,
                rules: Mutex::default(),
            }),
            outcome => {
                line.state = LineState::Idle;
                Err(self.unexpected(outcome))
            }
        }
    }

    /// Has an XSK opened on a queue of the leased interface.
    pub(crate) fn open_xsk(&self, options: &AfXdpOptions, shape: Shape) -> Result<Handed, DriverError> {
        let request = Request::OpenXsk(XskWish::of(options, shape));
        match self.exchange(&mut self.line.lock(), &request, &[]) {
            Ok((Reply::Opened { zero_copy, pages }, descriptors)) => {
                let mut descriptors = descriptors.into_iter();
                match (descriptors.next(), descriptors.next()) {
                    (Some(socket), Some(memory)) => Ok(Handed { socket, memory, zero_copy, pages }),
                    _ => Err(self.error("no descriptors came along (is there a limit on open files?)")),
                }
            }
            outcome => Err(self.unexpected(outcome)),
        }
    }

    /// Has the kernel find a neighbour on the leased interface, or find it anew.
    pub(crate) fn find_neighbour(&self, ip: IpAddr, anew: bool) -> Result<(), DriverError> {
        let request = Request::FindNeighbour { ip, anew };
        self.done(self.exchange(&mut self.line.lock(), &request, &[]))
    }

    fn connect(&self) -> Result<Channel, DriverError> {
        let dial = || -> rustix::io::Result<OwnedFd> {
            // One whose queue is full would have us wait for as long as it likes.
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
            connect(&socket, &SocketAddrUnix::new(&self.path)?)?;
            Ok(socket)
        };
        let socket = dial().map_err(|error| self.error(&self.explain(error)))?;
        let channel = Channel::new(socket);
        match self.hear(&channel, PATIENCE) {
            Ok((Reply::Welcome { version: VERSION }, _)) => Ok(channel),
            Ok((Reply::Welcome { version }, _)) => Err(self.error(&format!(
                "it speaks version {version} of the protocol and this program {VERSION}: run both of one build"
            ))),
            Ok(other) => Err(self.unexpected(Ok(other))),
            Err(error) => Err(self.error(&error.to_string())),
        }
    }

    fn explain(&self, error: Errno) -> String {
        let path = self.path.display();
        match error {
            Errno::NOENT | Errno::CONNREFUSED => {
                format!("nobody listens there; `wirepath helper --socket {path} --xdp IFACE` does, as root")
            }
            Errno::ACCESS | Errno::PERM => {
                let uid = rustix::process::geteuid().as_raw();
                format!("user {uid} may not use it; --uid or --gid of `wirepath helper` lets it")
            }
            Errno::AGAIN => "too many wait there already".to_owned(),
            Errno::PROTOTYPE => "something else listens there".to_owned(),
            error => io::Error::from(error).to_string(),
        }
    }

    /// Asks, and waits for the answer. A line on which that fails is given up: what came later would be taken for the
    /// answer to another question.
    fn exchange(
        &self,
        line: &mut Line,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(Reply, Vec<OwnedFd>), DriverError> {
        let channel = match &line.state {
            LineState::Up(channel) => channel,
            LineState::Idle => return Err(self.error("no interface is leased from it")),
            LineState::Lost(why) => return Err(DriverError::Gone(why.clone())),
        };
        let bytes = request.encode();
        if bytes.len() > MAX_MESSAGE {
            return Err(self.error("the rules are too long for a message"));
        }
        let outcome =
            channel.send(&bytes, descriptors, SEND_PATIENCE).and_then(|()| self.hear(channel, PATIENCE));
        match outcome {
            Ok((Reply::Lost(why), _)) => {
                line.state = LineState::Lost(why.clone());
                Err(DriverError::Gone(why))
            }
            Ok(answer) => Ok(answer),
            Err(error) => {
                let why = self.why_lost(&error);
                line.state = LineState::Lost(why.clone());
                Err(DriverError::Gone(why))
            }
        }
    }

    fn hear(&self, channel: &Channel, patience: Duration) -> io::Result<(Reply, Vec<OwnedFd>)> {
        let Packet { bytes, descriptors } = channel.receive(patience)?;
        let reply = Reply::decode(&bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok((reply, descriptors))
    }

    fn why_lost(&self, error: &io::Error) -> String {
        let path = self.path.display();
        match error.kind() {
            io::ErrorKind::TimedOut => format!("the helper at {path} does not answer"),
            io::ErrorKind::InvalidData => format!("the helper at {path} says what can't be understood"),
            _ => format!("the helper at {path} has ended"),
        }
    }

    fn done(&self, outcome: Result<(Reply, Vec<OwnedFd>), DriverError>) -> Result<(), DriverError> {
        match outcome {
            Ok((Reply::Done, _)) => Ok(()),
            outcome => Err(self.unexpected(outcome)),
        }
    }

    /// What an answer means that is not the one hoped for.
    fn unexpected(&self, outcome: Result<(Reply, Vec<OwnedFd>), DriverError>) -> DriverError {
        match outcome {
            Ok((Reply::Refused(Refusal::NoInterface(name)), _)) => DriverError::NoInterface { name },
            Ok((Reply::Refused(Refusal::ProgramPresent(interface)), _)) => {
                // Only the helper may see whose it is.
                DriverError::ProgramPresent { interface, holder: None }
            }
            Ok((Reply::Refused(Refusal::Other(why)), _)) => self.error(&why),
            Ok((other, _)) => self.error(&format!("it answers with {other:?}")),
            Err(error) => error,
        }
    }

    fn error(&self, why: &str) -> DriverError {
        DriverError::Helper { path: self.path.clone(), why: why.to_owned() }
    }

    /// Asks on behalf of a lease, if it is still the one in force.
    fn ask(
        &self,
        serial: u64,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(Reply, Vec<OwnedFd>), DriverError> {
        let mut line = self.line.lock();
        if line.serial != serial {
            return Err(DriverError::Gone("the lease is over".into()));
        }
        self.exchange(&mut line, request, descriptors)
    }

    /// Why a lease is over, if it is: what the helper has told unasked, or its silence for good.
    fn lapsed(&self, serial: u64) -> Option<String> {
        // Somebody is asking just now, and will find out.
        let mut line = self.line.try_lock()?;
        if line.serial != serial {
            return Some("another lease has taken its place".to_owned());
        }
        let why = match &line.state {
            LineState::Up(channel) => match channel.receive_now() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) => self.why_lost(&error),
                Ok(packet) => match Reply::decode(&packet.bytes) {
                    Ok(Reply::Lost(why)) => why,
                    // No other is ever sent unasked.
                    _ => self.why_lost(&io::ErrorKind::InvalidData.into()),
                },
            },
            LineState::Idle => "the lease was given back".to_owned(),
            LineState::Lost(why) => return Some(why.clone()),
        };
        line.state = LineState::Lost(why.clone());
        Some(why)
    }
}

impl HelperLease {
    fn counters(&self) -> Result<(Vec<u64>, Vec<u64>), DriverError> {
        match self.client.ask(self.serial, &Request::ReadCounters, &[]) {
            Ok((Reply::Counters { hits, events }, _)) => Ok((hits, events)),
            outcome => Err(self.client.unexpected(outcome)),
        }
    }
}

impl XdpControl for HelperLease {
    fn attachment(&self) -> Option<&XdpAttachment> {
        Some(&self.attachment)
    }

    fn lapsed(&self) -> Option<String> {
        self.client.lapsed(self.serial)
    }

    fn queues(&self) -> Range<u32> {
        self.queues.clone()
    }

    fn register_socket(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), DriverError> {
        let request = Request::Register { queue };
        self.client.done(self.client.ask(self.serial, &request, &[socket.as_fd()]))
    }

    fn transmitter(&self, queue: u32) -> Result<Option<XdpTransmitter>, DriverError> {
        match self.client.ask(self.serial, &Request::Transmitter { queue }, &[]) {
            Ok((Reply::Transmitter, descriptors)) => {
                let Ok([program, map]) = <[OwnedFd; 2]>::try_from(descriptors) else {
                    return Err(self.client.error("no descriptors came along"));
                };
                let failed =
                    |source| DriverError::Io { what: "sending through the helper's program", source };
                XdpTransmitter::over(program, map.as_fd(), queue).map(Some).map_err(failed)
            }
            outcome => self.client.done(outcome).map(|()| None),
        }
    }

    fn set_rules(&self, rules: &Rules) -> Result<(), DriverError> {
        // Held until the helper has answered, so that what is kept is what is in force.
        let mut kept = self.rules.lock();
        self.client.done(self.client.ask(self.serial, &Request::SetRules(rules.clone()), &[]))?;
        *kept = rules.clone();
        Ok(())
    }

    fn rules(&self) -> Rules {
        self.rules.lock().clone()
    }

    fn rule_hits(&self) -> Result<Vec<(Rule, u64)>, DriverError> {
        let rules = self.rules.lock();
        let (hits, _) = self.counters()?;
        Ok(rules.as_slice().iter().cloned().zip(hits).collect())
    }

    fn events(&self) -> Result<Vec<(&'static str, u64)>, DriverError> {
        let (_, events) = self.counters()?;
        Ok(EVENTS.into_iter().zip(events).collect())
    }
}

impl Drop for HelperLease {
    fn drop(&mut self) {
        let mut line = self.client.line.lock();
        if line.serial == self.serial {
            line.state = LineState::Idle;
        }
    }
}

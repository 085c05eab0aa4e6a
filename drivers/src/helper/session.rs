//! The helper's end of one connection: checks each wish against the policy, and grants it.

use std::{
    io,
    net::IpAddr,
    ops::Range,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use wirepath_wire::rules::Rules;

use super::{
    VERSION,
    channel::{Channel, Packet},
    lease::{Lease, LeaseError},
    message::{Refusal, Reply, Request, XskWish},
    peer::Peer,
    policy::held_ports,
    server::Office,
};
use crate::{DriverError, Nic, XdpControl as _, XdpOptions, af_xdp::Handed, route};

/// How often a silent client's lease is looked at: whether the program is still on the interface.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// How long a client may take to read an answer. It has asked for one at a time, so there is room for it.
const SEND_PATIENCE: Duration = Duration::from_secs(1);

/// The least time between two neighbours found for a client: each costs a multicast or broadcast on the link.
const NEIGHBOUR_INTERVAL: Duration = Duration::from_millis(5);

/// One client.
pub(super) struct Session {
    channel: Channel,
    peer: Peer,
    office: Arc<Office>,
    lease: Option<Lease>,
    last_neighbour: Option<Instant>,
}

/// What is sent back.
struct Answer {
    reply: Reply,
    descriptors: Vec<OwnedFd>,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self { reply, descriptors: Vec::new() }
    }
}

impl Session {
    pub(super) fn new(channel: Channel, peer: Peer, office: Arc<Office>) -> Self {
        Self { channel, peer, office, lease: None, last_neighbour: None }
    }

    /// Serves the client until it goes, breaks the protocol, or loses its lease.
    pub(super) fn run(mut self) {
        let end = match self.serve() {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => "it has left".to_owned(),
            Err(error) => format!("cut off: {error}"),
            Ok(why) => format!("its lease is over: {why}"),
        };
        // Before it is told, so that what is told is so.
        self.lease = None;
        self.log(&end);
    }

    fn log(&self, what: &str) {
        (self.office.log)(&format!("{}: {what}", self.peer));
    }

    fn serve(&mut self) -> io::Result<String> {
        self.send(&Reply::Welcome { version: VERSION }.into())?;
        loop {
            match self.channel.receive(LOOK_INTERVAL) {
                Ok(packet) => {
                    let answer = self.answer(packet)?;
                    self.send(&answer)?;
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
                Err(error) => return Err(error),
            }
            let lapsed = self.lease.as_ref().and_then(|lease| lease.program().ok()?.lapsed());
            if let Some(why) = lapsed {
                // So that it can ask anew at once.
                self.lease = None;
                self.send(&Reply::Lost(why.clone()).into())?;
                return Ok(why);
            }
        }
    }

    fn send(&self, answer: &Answer) -> io::Result<()> {
        let descriptors: Vec<BorrowedFd<'_>> = answer.descriptors.iter().map(AsFd::as_fd).collect();
        self.channel.send(&answer.reply.encode(), &descriptors, SEND_PATIENCE)
    }

    fn answer(&mut self, packet: Packet) -> io::Result<Answer> {
        let malformed = |_| io::Error::new(io::ErrorKind::InvalidData, "a request that can't be understood");
        let request = Request::decode(&packet.bytes).map_err(malformed)?;
        let outcome = match request {
            Request::Attach { interface, index, options, queues } => {
                self.attach(&interface, index, options, queues)
            }
            Request::OpenXsk(wish) => self.open_xsk(&wish),
            Request::Register { queue } => self.register(queue, packet.descriptors),
            Request::Transmitter { queue } => self.transmitter(queue),
            Request::SetRules(rules) => self.set_rules(&rules),
            Request::ReadCounters => self.read_counters(),
            Request::FindNeighbour { ip, anew } => self.find_neighbour(ip, anew),
        };
        Ok(outcome.unwrap_or_else(|refusal| {
            self.log(&format!("refused: {refusal:?}"));
            Reply::Refused(refusal).into()
        }))
    }

    fn attach(
        &mut self,
        interface: &str,
        index: u32,
        options: XdpOptions,
        queues: Range<u32>,
    ) -> Result<Answer, Refusal> {
        if self.lease.is_some() {
            return Err(other("a connection leases one interface, once"));
        }
        let place = self
            .office
            .places
            .iter()
            .find(|place| place.interface == interface)
            .ok_or_else(|| other(format!("{interface} is not among --xdp of `wirepath helper`")))?;
        let nic = Nic::by_name(interface)?;
        if nic.index != index {
            return Err(other(format!(
                "{interface} is interface {} here and {index} there: is the client in another network namespace?",
                nic.index
            )));
        }
        let queues = queues.start..queues.end.min(self.office.policy.queues.unwrap_or(u32::MAX));
        if queues.is_empty() {
            return Err(other("these queues are not among --queues of `wirepath helper`"));
        }
        let lease = place.lease(&self.peer, options, queues.clone()).map_err(|error| match error {
            LeaseError::Taken(holder, theirs) => other(taken(interface, &holder, &theirs, nic.queues.rx)),
            error => error.into(),
        })?;
        let attachment = lease.program()?.attachment().cloned().ok_or_else(|| other("the lease is over"))?;
        let of_it = told(&queues, nic.queues.rx);
        self.log(&format!("has {of_it}{interface}, in {}", attachment.mode));
        self.lease = Some(lease);
        Ok(Reply::Attached { attachment, queues }.into())
    }

    fn lease(&mut self) -> Result<&mut Lease, Refusal> {
        self.lease.as_mut().ok_or_else(|| other("no interface is leased"))
    }

    /// Where the leased interface is: by its index, since it may have another name by now.
    fn index(&mut self) -> Result<u32, Refusal> {
        let attachment = self.lease()?.program()?.attachment();
        attachment.map(|attachment| attachment.ifindex).ok_or_else(|| other("the lease is over"))
    }

    fn check_queue(&self, queue: u32) -> Result<(), Refusal> {
        if !self.office.policy.allows_queue(queue) {
            return Err(other(format!("queue {queue} is not among --queues of `wirepath helper`")));
        }
        match self.lease.as_ref().is_none_or(|lease| lease.queues.contains(&queue)) {
            true => Ok(()),
            false => Err(other(format!("queue {queue} is not among the leased ones"))),
        }
    }

    fn open_xsk(&mut self, wish: &XskWish) -> Result<Answer, Refusal> {
        self.check_queue(wish.queue)?;
        let index = self.index()?;
        let name = Nic::by_index(index)?.name;
        let Handed { socket, memory, zero_copy, pages } =
            Handed::make(&wish.options(&name), index, wish.shape)?;
        Ok(Answer { reply: Reply::Opened { zero_copy, pages }, descriptors: vec![socket, memory] })
    }

    fn register(&mut self, queue: u32, descriptors: Vec<OwnedFd>) -> Result<Answer, Refusal> {
        self.check_queue(queue)?;
        let [socket] = &descriptors[..] else { return Err(other("one XSK must go along")) };
        let lease = self.lease()?;
        // The kernel takes none but XSKs, and gives one only what comes to the queue it is bound to.
        lease.register(queue, socket.as_fd())?;
        Ok(Reply::Done.into())
    }

    /// Whoever has the program may run it, and its runs may end in this host's own network stack: so only if told to.
    fn transmitter(&mut self, queue: u32) -> Result<Answer, Refusal> {
        self.check_queue(queue)?;
        if !self.office.policy.trains {
            return Ok(Reply::Done.into());
        }
        let parts = self.lease()?.program()?.transmitter_parts(queue)?;
        Ok(parts.map_or_else(
            || Reply::Done.into(),
            |(program, map)| Answer { reply: Reply::Transmitter, descriptors: vec![program, map] },
        ))
    }

    fn set_rules(&mut self, rules: &Rules) -> Result<Answer, Refusal> {
        let nic = Nic::by_index(self.index()?)?;
        let addresses: Vec<IpAddr> = nic.addresses.iter().map(|(address, _)| *address).collect();
        let held = held_ports(self.peer.uid).map_err(|error| other(format!("/proc/net/udp: {error}")))?;
        self.office
            .policy
            .allow_rules(rules, &addresses, |port| held.contains(port))
            .map_err(Refusal::Other)?;
        self.lease()?.set_rules(rules)?;
        Ok(Reply::Done.into())
    }

    fn read_counters(&mut self) -> Result<Answer, Refusal> {
        let lease = self.lease()?;
        let events = lease.program()?.events()?.into_iter().map(|(_, count)| count).collect();
        Ok(Reply::Counters { hits: lease.hits()?, events }.into())
    }

    fn find_neighbour(&mut self, ip: IpAddr, anew: bool) -> Result<Answer, Refusal> {
        let index = self.index()?;
        let now = Instant::now();
        if self.last_neighbour.is_some_and(|last| now.duration_since(last) < NEIGHBOUR_INTERVAL) {
            return Err(other("too many neighbours at once"));
        }
        self.last_neighbour = Some(now);
        route::find_neighbour(index, ip, anew)?;
        Ok(Reply::Done.into())
    }
}

/// Which queues, where they are not all: `queue 1 of `.
fn told(queues: &Range<u32>, there_are: u32) -> String {
    match (queues.start, queues.end.min(there_are)) {
        (0, end) if end == there_are => String::new(),
        (start, end) if start + 1 >= end => format!("queue {start} of "),
        (start, end) => format!("queues {start} to {} of ", end - 1),
    }
}

fn taken(interface: &str, holder: &Peer, theirs: &Range<u32>, there_are: u32) -> String {
    let of_it = told(theirs, there_are);
    let verb = if of_it.starts_with("queues") { "are" } else { "is" };
    let hint = if of_it.is_empty() { "" } else { "; others are to be had (`StackBuilder::queues`)" };
    format!("{of_it}{interface} {verb} leased to {holder}{hint}")
}

fn other(why: impl Into<String>) -> Refusal {
    Refusal::Other(why.into())
}

impl From<LeaseError> for Refusal {
    fn from(error: LeaseError) -> Self {
        match error {
            LeaseError::Taken(holder, _) => other(format!("it is leased to {holder}")),
            LeaseError::Full => other("as many processes as may be share it already"),
            LeaseError::Rules(why) => other(why),
            LeaseError::Driver(error) => error.into(),
        }
    }
}

impl From<DriverError> for Refusal {
    fn from(error: DriverError) -> Self {
        match error {
            DriverError::NoInterface { name } => Self::NoInterface(name),
            DriverError::ProgramPresent { interface, .. } => Self::ProgramPresent(interface),
            error => Self::Other(error.to_string()),
        }
    }
}

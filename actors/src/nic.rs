//! The NIC actor: owns one interface's XDP program and its rules.
//!
//! The program goes with this actor (it is attached by a bpf_link), so that nothing is left behind. What the actor
//! does when the interface goes, comes back or changes: see its module `life`.

mod life;
mod state;

use std::{
    collections::{BTreeSet, HashSet},
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use tokio::sync::oneshot;
use wirepath_drivers::{DriverError, XdpControl, XdpTransmitter};
use wirepath_quic::{CibirId, Cid};
use wirepath_wire::rules::{CidField, CidPattern, Rules, RulesBuilder, RulesError};

use crate::{
    kit::{Actor, Context, Mailbox, StopReason},
    nic_queue::NicQueueMessage,
    tables::Claim,
};

pub use life::{Care, QueuePlan};
pub use state::NicState;

/// What a NIC actor understands.
#[derive(Debug)]
pub enum NicMessage {
    /// Redirect packets of a queue to this XSK from now on.
    Register(u32, OwnedFd, oneshot::Sender<Result<(), DriverError>>),
    /// A way past the TX ring for a queue's XSK, if the program has one.
    Transmitter(u32, oneshot::Sender<Option<XdpTransmitter>>),
    /// Redirect a socket's packets to the XSKs.
    Redirect(Claim, oneshot::Sender<Result<(), DriverError>>),
    /// Leave them to the kernel again, unless another socket of the port wants them, too.
    Release(Claim),
    /// Put these rules before our own.
    SetRules(Rules, oneshot::Sender<Result<(), DriverError>>),
    /// Care for these queues, in their order.
    Serve(Vec<Mailbox<NicQueueMessage>>),
    /// See what has become of the interface.
    Look,
}

/// One interface's XDP program, as an actor.
pub struct Nic {
    /// `None` while it can't be attached. The others who know it hold it weakly.
    program: Option<Arc<dyn XdpControl>>,
    /// It never was attached yet: nothing relies on it, and what can't do without is refused.
    is_awaited: bool,
    care: Care,
    addresses: Vec<IpAddr>,
    /// The administrator's rules: first, so that they win.
    rules: Rules,
    /// What our sockets are bound to, each as often as it was asked for.
    claims: Vec<Claim>,
}

impl std::fmt::Debug for Nic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nic").field("interface", &self.care.interface.name).finish_non_exhaustive()
    }
}

impl Nic {
    /// The actor for an attached program. Redirecting is limited to the interface's addresses, so that what the
    /// host forwards for others goes on its way. Whoever else keeps the program keeps it attached.
    pub fn new(program: Arc<dyn XdpControl>, care: Care) -> Self {
        let addresses = state::addresses(&care.interface);
        care.state.set_program(&program);
        Self {
            program: Some(program),
            is_awaited: false,
            care,
            addresses,
            rules: Rules::default(),
            claims: Vec::new(),
        }
    }

    /// The actor for an interface on which no program can be attached yet, for this reason: it is tried again every now
    /// and then. Until it is there, everything goes by the sockets of the operating system.
    pub fn awaiting(mut care: Care, why: &DriverError) -> Self {
        let addresses = state::addresses(&care.interface);
        care.await_program(why);
        Self { program: None, is_awaited: true, care, addresses, rules: Rules::default(), claims: Vec::new() }
    }

    /// Refuses what takes the program while there never was one.
    fn expect_program(&self, what: &'static str) -> Result<(), DriverError> {
        let why = || self.care.state.trouble().unwrap_or_else(|| "no XDP program is attached yet".into());
        match self.is_awaited {
            true => Err(DriverError::Unsupported { what, why: why() }),
            false => Ok(()),
        }
    }

    /// Puts the administrator's rules in force, then those of the ports.
    fn install(&mut self) -> Result<(), DriverError> {
        let local = self.rules.local_addresses().unwrap_or(&self.addresses);
        let builder = Rules::builder().vlan(self.rules.vlan()).local_addresses(local.iter().copied());
        let mut builder = self.rules.as_slice().iter().cloned().fold(builder, RulesBuilder::rule);
        let unsupported = |error: RulesError| DriverError::Unsupported {
            what: "this list of XDP rules",
            why: error.to_string(),
        };
        builder = redirects(builder, &self.claims).map_err(unsupported)?;
        let rules = builder.build().map_err(unsupported)?;
        match &self.program {
            Some(program) => program.set_rules(&rules),
            // Put in force when it is attached again.
            None => Ok(()),
        }
    }

    fn program(&self) -> Result<&dyn XdpControl, DriverError> {
        self.program.as_deref().ok_or_else(|| DriverError::Gone("no XDP program is attached now".into()))
    }

    /// Makes it on another thread: the kernel takes its time.
    fn give_transmitter(&self, queue: u32, reply: oneshot::Sender<Option<XdpTransmitter>>) {
        let Some(program) = self.program.as_ref().map(Arc::downgrade) else { return };
        tokio::task::spawn_blocking(move || {
            // Detached meanwhile: the queue will be opened anew.
            let Some(program) = program.upgrade() else { return };
            let made = program.transmitter(queue).unwrap_or_else(|error| {
                tracing::warn!(%error, queue, "trains of packets go through the TX ring");
                None
            });
            drop(reply.send(made));
        });
    }

    /// Limits redirecting to these addresses from now on.
    fn limit_to(&mut self, addresses: Vec<IpAddr>) -> Result<(), DriverError> {
        self.addresses = addresses;
        self.install()
    }

    fn redirect(&mut self, claim: Claim) -> Result<(), DriverError> {
        if claim.is_shared() {
            self.expect_program("a shared port")?;
        }
        if claim.carriers.tcp {
            self.expect_program("QTIP")?;
        }
        self.claims.push(claim);
        self.install().inspect_err(|_| {
            self.claims.pop();
        })
    }

    fn release(&mut self, claim: &Claim) {
        let Some(at) = self.claims.iter().position(|own| own == claim) else { return };
        self.claims.swap_remove(at);
        if let Err(error) = self.install() {
            tracing::warn!(%error, local = %claim.local, "a redirect rule could not be taken back");
        }
    }

    fn set_rules(&mut self, rules: Rules) -> Result<(), DriverError> {
        self.expect_program("an XDP rule")?;
        let former = std::mem::replace(&mut self.rules, rules);
        self.install().inspect_err(|_| self.rules = former)
    }
}

/// Adds the rules by which packets of these claims get to the XSKs.
///
/// # Errors
/// [`RulesError`] for an identifier that rules can't match.
pub fn redirects(mut builder: RulesBuilder, claims: &[Claim]) -> Result<RulesBuilder, RulesError> {
    let whole = || claims.iter().filter(|claim| !claim.is_shared());
    let port = |claim: &Claim| claim.local.port();
    let udp: BTreeSet<u16> = whole().filter(|claim| claim.carriers.udp).map(port).collect();
    let tcp: BTreeSet<u16> = whole().filter(|claim| claim.carriers.tcp).map(port).collect();
    if !udp.is_empty() {
        builder = builder.redirect().udp_ports(udp);
    }
    if !tcp.is_empty() {
        // All of it: what the kernel sees of a flow it doesn't know, it answers with RST.
        builder = builder.redirect().tcp_ports(tcp);
    }
    let mut shared: Vec<CidPattern> = Vec::new();
    for claim in claims {
        if let Some(id) = &claim.cibir {
            shared.extend(patterns(port(claim), id)?);
        }
        if let Some(server) = &claim.server {
            shared.extend(server_patterns(port(claim), server)?);
        }
    }
    let mut known = HashSet::new();
    shared.retain(|pattern| known.insert(*pattern));
    Ok(shared.into_iter().fold(builder, |builder, pattern| builder.redirect().quic_flow(pattern)))
}

/// What packets of a CIBIR identifier look like: the sender's own ID has it in long headers, the receiver's in short
/// ones.
fn patterns(port: u16, id: &CibirId) -> Result<[CidPattern; 2], RulesError> {
    let pattern = |field| CidPattern::new(port, field, id.offset(), id.bytes());
    Ok([pattern(CidField::LongSource)?, pattern(CidField::ShortDestination)?])
}

/// What packets to a server's connection IDs look like: in short headers, and in long ones once the client has learnt one.
fn server_patterns(port: u16, prefix: &Cid) -> Result<[CidPattern; 2], RulesError> {
    let pattern = |field| CidPattern::new(port, field, 0, prefix.as_slice());
    Ok([pattern(CidField::LongDestination)?, pattern(CidField::ShortDestination)?])
}

impl Actor for Nic {
    type Message = NicMessage;
    const KIND: &'static str = "nic";
    const CREDIT: u32 = u32::MAX;
    const MESSAGES: &'static [&'static str] =
        &["register", "transmitter", "redirect", "release", "set_rules", "serve", "look"];

    fn message_kind(message: &NicMessage) -> usize {
        match message {
            NicMessage::Register(..) => 0,
            NicMessage::Transmitter(..) => 1,
            NicMessage::Redirect(..) => 2,
            NicMessage::Release(_) => 3,
            NicMessage::SetRules(..) => 4,
            NicMessage::Serve(_) => 5,
            NicMessage::Look => 6,
        }
    }

    fn started(&mut self, cx: &Context<NicMessage>) {
        self.care.watch(cx.myself().clone());
    }

    async fn handle(&mut self, cx: &Context<NicMessage>, message: NicMessage) -> Result<(), StopReason> {
        // Whoever does not wait for an answer does not need one.
        match message {
            NicMessage::Register(queue, fd, reply) => {
                let registered = self.program().and_then(|it| it.register_socket(queue, fd.as_fd()));
                drop(reply.send(registered));
            }
            NicMessage::Transmitter(queue, reply) => self.give_transmitter(queue, reply),
            NicMessage::Redirect(claim, reply) => drop(reply.send(self.redirect(claim))),
            NicMessage::Release(claim) => self.release(&claim),
            NicMessage::SetRules(rules, reply) => drop(reply.send(self.set_rules(rules))),
            NicMessage::Serve(queues) => self.serve(queues),
            NicMessage::Look => self.look(cx).await,
        }
        Ok(())
    }
}

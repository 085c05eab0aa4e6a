//! The NIC actor: owns one interface's XDP program and its rules.
//!
//! The program goes with this actor (it is attached by a bpf_link), so that nothing is left behind. What the actor
//! does when the interface goes, comes back or changes: see its module `life`.

mod life;
mod state;

use std::{
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use tokio::sync::oneshot;
use wirepath_drivers::{DriverError, XdpProgram};
use wirepath_wire::rules::{Rules, RulesBuilder};

use crate::{
    kit::{Actor, Context, Mailbox, StopReason},
    nic_queue::NicQueueMessage,
};

pub use life::{Care, QueuePlan};
pub use state::NicState;

/// What a NIC actor understands.
#[derive(Debug)]
pub enum NicMessage {
    /// Redirect packets of a queue to this XSK from now on.
    Register(u32, OwnedFd, oneshot::Sender<Result<(), DriverError>>),
    /// Redirect UDP to this port to the XSKs.
    Redirect(u16, oneshot::Sender<Result<(), DriverError>>),
    /// Leave UDP to this port to the kernel again.
    Release(u16),
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
    program: Option<Arc<XdpProgram>>,
    care: Care,
    addresses: Vec<IpAddr>,
    /// The administrator's rules: first, so that they win.
    rules: Rules,
    /// The ports of our sockets.
    ports: Vec<u16>,
}

impl std::fmt::Debug for Nic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nic").field("interface", &self.care.interface.name).finish_non_exhaustive()
    }
}

impl Nic {
    /// The actor for an attached program. Redirecting is limited to the interface's addresses, so that what the
    /// host forwards for others goes on its way. Whoever else keeps the program keeps it attached.
    pub fn new(program: Arc<XdpProgram>, care: Care) -> Self {
        let addresses = state::addresses(&care.interface);
        care.state.set_program(&program);
        Self { program: Some(program), care, addresses, rules: Rules::default(), ports: Vec::new() }
    }

    /// Puts the administrator's rules in force, then those of the ports.
    fn install(&mut self) -> Result<(), DriverError> {
        let local = self.rules.local_addresses().unwrap_or(&self.addresses);
        let builder = Rules::builder().vlan(self.rules.vlan()).local_addresses(local.iter().copied());
        let mut builder = self.rules.as_slice().iter().cloned().fold(builder, RulesBuilder::rule);
        if !self.ports.is_empty() {
            builder = builder.redirect().udp_ports(self.ports.iter().copied());
        }
        let rules = builder.build().map_err(|error| DriverError::Unsupported {
            what: "this list of XDP rules",
            why: error.to_string(),
        })?;
        match &self.program {
            Some(program) => program.set_rules(&rules),
            // Put in force when it is attached again.
            None => Ok(()),
        }
    }

    fn program(&self) -> Result<&XdpProgram, DriverError> {
        self.program.as_deref().ok_or_else(|| DriverError::Gone("no XDP program is attached now".into()))
    }

    /// Limits redirecting to these addresses from now on.
    fn limit_to(&mut self, addresses: Vec<IpAddr>) -> Result<(), DriverError> {
        self.addresses = addresses;
        self.install()
    }

    fn redirect(&mut self, port: u16) -> Result<(), DriverError> {
        if !self.ports.contains(&port) {
            self.ports.push(port);
        }
        self.install().inspect_err(|_| self.ports.retain(|own| *own != port))
    }

    fn release(&mut self, port: u16) {
        self.ports.retain(|own| *own != port);
        if let Err(error) = self.install() {
            tracing::warn!(%error, port, "a redirect rule could not be taken back");
        }
    }

    fn set_rules(&mut self, rules: Rules) -> Result<(), DriverError> {
        let former = std::mem::replace(&mut self.rules, rules);
        self.install().inspect_err(|_| self.rules = former)
    }
}

impl Actor for Nic {
    type Message = NicMessage;
    const KIND: &'static str = "nic";
    const CREDIT: u32 = u32::MAX;
    const MESSAGES: &'static [&'static str] =
        &["register", "redirect", "release", "set_rules", "serve", "look"];

    fn message_kind(message: &NicMessage) -> usize {
        match message {
            NicMessage::Register(..) => 0,
            NicMessage::Redirect(..) => 1,
            NicMessage::Release(_) => 2,
            NicMessage::SetRules(..) => 3,
            NicMessage::Serve(_) => 4,
            NicMessage::Look => 5,
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
            NicMessage::Redirect(port, reply) => drop(reply.send(self.redirect(port))),
            NicMessage::Release(port) => self.release(port),
            NicMessage::SetRules(rules, reply) => drop(reply.send(self.set_rules(rules))),
            NicMessage::Serve(queues) => self.serve(queues),
            NicMessage::Look => self.look(cx).await,
        }
        Ok(())
    }
}

//! The NIC actor: owns one interface's XDP program and its rules.
//!
//! The program goes with this actor (it is attached by a bpf_link), so that nothing is left behind.

use std::{
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use tokio::sync::oneshot;
use wirepath_drivers::{DriverError, XdpProgram};
use wirepath_wire::rules::{Rules, RulesBuilder};

use crate::kit::{Actor, Context, StopReason};

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
}

/// One interface's XDP program, as an actor.
#[derive(Debug)]
pub struct Nic {
    program: Arc<XdpProgram>,
    addresses: Vec<IpAddr>,
    /// The administrator's rules: first, so that they win.
    rules: Rules,
    /// The ports of our sockets.
    ports: Vec<u16>,
}

impl Nic {
    /// The actor for an attached program. Redirecting is limited to `addresses`, the host's own, so that what
    /// it forwards for others goes on its way. Whoever else keeps the program keeps it attached.
    pub fn new(program: Arc<XdpProgram>, addresses: Vec<IpAddr>) -> Self {
        Self { program, addresses, rules: Rules::default(), ports: Vec::new() }
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
        self.program.set_rules(&rules)
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
    const MESSAGES: &'static [&'static str] = &["register", "redirect", "release", "set_rules"];

    fn message_kind(message: &NicMessage) -> usize {
        match message {
            NicMessage::Register(..) => 0,
            NicMessage::Redirect(..) => 1,
            NicMessage::Release(_) => 2,
            NicMessage::SetRules(..) => 3,
        }
    }

    async fn handle(&mut self, _cx: &Context<NicMessage>, message: NicMessage) -> Result<(), StopReason> {
        // Whoever does not wait for an answer does not need one.
        match message {
            NicMessage::Register(queue, fd, reply) => {
                drop(reply.send(self.program.register_socket(queue, fd.as_fd())));
            }
            NicMessage::Redirect(port, reply) => drop(reply.send(self.redirect(port))),
            NicMessage::Release(port) => self.release(port),
            NicMessage::SetRules(rules, reply) => drop(reply.send(self.set_rules(rules))),
        }
        Ok(())
    }
}

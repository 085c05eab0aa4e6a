//! The NIC actor: owns one interface's XDP program and its rules.
//!
//! The program goes with this actor (it is attached by a bpf_link), so that nothing is left behind.

use std::{
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
};

use tokio::sync::oneshot;
use wirepath_drivers::{DriverError, XdpProgram};
use wirepath_wire::rules::{Rule, Rules};

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
    SetRules(Vec<Rule>, oneshot::Sender<Result<(), DriverError>>),
    /// Tell each rule with its hits.
    Hits(oneshot::Sender<Result<Vec<(Rule, u64)>, DriverError>>),
}

/// One interface's XDP program, as an actor.
#[derive(Debug)]
pub struct Nic {
    program: XdpProgram,
    addresses: Vec<IpAddr>,
    /// The administrator's rules: first, so that they win.
    rules: Vec<Rule>,
    /// The ports of our sockets.
    ports: Vec<u16>,
    /// Both, as last put in force.
    installed: Rules,
}

impl Nic {
    /// The actor for an attached program. Redirecting is limited to `addresses`, the host's own, so that what
    /// it forwards for others goes on its way.
    pub fn new(program: XdpProgram, addresses: Vec<IpAddr>) -> Self {
        Self { program, addresses, rules: Vec::new(), ports: Vec::new(), installed: Rules::default() }
    }

    fn install(&mut self) -> Result<(), DriverError> {
        let mut builder = Rules::builder().local_addresses(self.addresses.iter().copied());
        for rule in &self.rules {
            builder = builder.rule(rule.clone());
        }
        if !self.ports.is_empty() {
            builder = builder.redirect().udp_ports(self.ports.iter().copied());
        }
        let rules = builder.build().map_err(|error| DriverError::Unsupported {
            what: "this list of XDP rules",
            why: error.to_string(),
        })?;
        self.program.set_rules(&rules)?;
        self.installed = rules;
        Ok(())
    }

    /// The rules in force, each with how often it decided.
    fn hits(&self) -> Result<Vec<(Rule, u64)>, DriverError> {
        Ok(self.installed.as_slice().iter().cloned().zip(self.program.hits()?).collect())
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

    fn set_rules(&mut self, rules: Vec<Rule>) -> Result<(), DriverError> {
        let former = std::mem::replace(&mut self.rules, rules);
        self.install().inspect_err(|_| self.rules = former)
    }
}

impl Actor for Nic {
    type Message = NicMessage;
    const KIND: &'static str = "nic";
    const CREDIT: u32 = u32::MAX;

    async fn handle(&mut self, _cx: &Context<NicMessage>, message: NicMessage) -> Result<(), StopReason> {
        // Whoever does not wait for an answer does not need one.
        match message {
            NicMessage::Register(queue, fd, reply) => {
                drop(reply.send(self.program.register_socket(queue, fd.as_fd())));
            }
            NicMessage::Redirect(port, reply) => drop(reply.send(self.redirect(port))),
            NicMessage::Release(port) => self.release(port),
            NicMessage::SetRules(rules, reply) => drop(reply.send(self.set_rules(rules))),
            NicMessage::Hits(reply) => drop(reply.send(self.hits())),
        }
        Ok(())
    }
}

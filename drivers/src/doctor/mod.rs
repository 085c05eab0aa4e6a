//! What stands between this machine and AF_XDP: kernel, rights, limits, interfaces. Each finding says that all is
//! well, or what to type.
//!
//! Nothing is changed by looking: sockets and programs that are made to see whether they can be are gone at once,
//! and no program is attached.

mod interface;
mod link;
mod machine;

use crate::{DriverError, Nic};

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The interface it is about; `None` for the machine and the process.
    pub interface: Option<String>,
    /// What was looked at, in a word or two.
    pub subject: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to type where something is to be done; else empty.
    pub remedy: String,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// AF_XDP works; it could be better, or a packet may be missed.
    Improvable,
    /// AF_XDP does not work until this is put right.
    Broken,
}

impl Finding {
    fn good(subject: &'static str, found: impl Into<String>) -> Self {
        Self { interface: None, subject, verdict: Verdict::Good, found: found.into(), remedy: String::new() }
    }

    fn improvable(subject: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = remedy.into();
        Self { verdict: Verdict::Improvable, remedy, ..Self::good(subject, found) }
    }

    fn broken(subject: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = remedy.into();
        Self { verdict: Verdict::Broken, remedy, ..Self::good(subject, found) }
    }

    fn on(mut self, nic: &Nic) -> Self {
        self.interface = Some(nic.name.clone());
        self
    }
}

/// Looks at the machine, and at one interface, or at all that are Ethernet.
///
/// # Errors
/// [`DriverError::NoInterface`], or [`DriverError::Io`] when netlink does not answer.
pub async fn examine(interface: Option<&str>) -> Result<Vec<Finding>, DriverError> {
    let nics = match interface {
        Some(name) => vec![Nic::by_name(name)?],
        None => Nic::all()?.into_iter().filter(|nic| nic.mac.is_some() && !nic.link.loopback).collect(),
    };
    let mut findings = machine::examine(&nics);
    for nic in &nics {
        let link = link::Link::ask(nic).await?;
        findings.extend(interface::examine(nic, &link).into_iter().map(|finding| finding.on(nic)));
    }
    Ok(findings)
}

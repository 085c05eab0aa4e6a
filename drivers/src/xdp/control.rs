//! Who has an interface's XDP program in hand: this process, or a privileged helper in its stead.

use std::{fmt, ops::Range, os::fd::BorrowedFd, sync::Arc};

use wirepath_wire::rules::{Rule, Rules};

use super::{XdpAttachment, XdpOptions, XdpProgram, XdpTransmitter};
use crate::{DriverError, HelperClient};

/// An attached XDP program, as those see it who steer packets by it. It leaves the interface when the last hold on
/// this is dropped.
pub trait XdpControl: fmt::Debug + Send + Sync {
    /// Where and how it is attached.
    fn attachment(&self) -> Option<&XdpAttachment>;

    /// Why it no longer is; `None` while it is. Never waits.
    fn lapsed(&self) -> Option<String>;

    /// Which queues may have an XSK.
    fn queues(&self) -> Range<u32> {
        0..u32::MAX
    }

    /// As [`XdpProgram::register_socket`].
    ///
    /// # Errors
    /// As there, or what the helper says.
    fn register_socket(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), DriverError>;

    /// As [`XdpProgram::transmitter`]; `None` through a helper that doesn't allow it.
    ///
    /// # Errors
    /// As there.
    fn transmitter(&self, _queue: u32) -> Result<Option<XdpTransmitter>, DriverError> {
        Ok(None)
    }

    /// As [`XdpProgram::set_rules`].
    ///
    /// # Errors
    /// As there, or what the helper says: it may allow less.
    fn set_rules(&self, rules: &Rules) -> Result<(), DriverError>;

    /// The rule list in force.
    fn rules(&self) -> Rules;

    /// As [`XdpProgram::rule_hits`].
    ///
    /// # Errors
    /// [`DriverError::Io`], or that the helper has ended.
    fn rule_hits(&self) -> Result<Vec<(Rule, u64)>, DriverError>;

    /// As [`XdpProgram::events`].
    ///
    /// # Errors
    /// As for [`rule_hits`](Self::rule_hits).
    fn events(&self) -> Result<Vec<(&'static str, u64)>, DriverError>;
}

impl XdpControl for XdpProgram {
    fn attachment(&self) -> Option<&XdpAttachment> {
        self.attachment()
    }

    fn lapsed(&self) -> Option<String> {
        let interface = self.attachment().map_or("its interface", |attachment| &attachment.interface);
        (!self.is_attached()).then(|| format!("the XDP program was taken off {interface} by force"))
    }

    fn register_socket(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), DriverError> {
        self.register_socket(queue, socket)
    }

    fn transmitter(&self, queue: u32) -> Result<Option<XdpTransmitter>, DriverError> {
        self.transmitter(queue)
    }

    fn set_rules(&self, rules: &Rules) -> Result<(), DriverError> {
        self.set_rules(rules)
    }

    fn rules(&self) -> Rules {
        self.rules()
    }

    fn rule_hits(&self) -> Result<Vec<(Rule, u64)>, DriverError> {
        self.rule_hits()
    }

    fn events(&self) -> Result<Vec<(&'static str, u64)>, DriverError> {
        self.events()
    }
}

/// By whose rights programs are attached and XSKs opened.
#[derive(Clone, Debug, Default)]
pub enum XdpAccess {
    /// This process's own.
    #[default]
    Own,
    /// Those of `wirepath helper`.
    Helper(Arc<HelperClient>),
}

impl XdpAccess {
    /// Attaches the program to an interface, to serve these of its queues.
    ///
    /// # Errors
    /// As for [`XdpProgram::attach`]; [`DriverError::Helper`] with what the helper says.
    pub fn attach(
        &self,
        interface: &str,
        options: XdpOptions,
        queues: Range<u32>,
    ) -> Result<Arc<dyn XdpControl>, DriverError> {
        Ok(match self {
            Self::Own => Arc::new(XdpProgram::attach(interface, options)?),
            Self::Helper(helper) => Arc::new(helper.attach_queues(interface, options, queues)?),
        })
    }
}

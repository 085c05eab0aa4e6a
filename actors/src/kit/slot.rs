//! A place for the address of an actor that may be restarted.

use parking_lot::RwLock;

use super::Mailbox;

/// Holds the mailbox of whoever plays a part at the moment. Supervisors write it, senders read it.
#[derive(Debug)]
pub struct Slot<M>(RwLock<Option<Mailbox<M>>>);

impl<M> Default for Slot<M> {
    fn default() -> Self {
        Self(RwLock::new(None))
    }
}

impl<M> Slot<M> {
    /// The mailbox; `None` between two lives.
    pub fn mailbox(&self) -> Option<Mailbox<M>> {
        self.0.read().clone()
    }

    /// Puts a successor in.
    pub fn fill(&self, mailbox: Mailbox<M>) {
        *self.0.write() = Some(mailbox);
    }

    /// Nobody plays the part for now.
    pub fn clear(&self) {
        *self.0.write() = None;
    }
}

//! Mailboxes: ractor's, with a meter and a limit.

use std::{fmt, sync::Arc};

use ractor::ActorRef;
use wirepath_trace::{ActorEntry, BatchClock, Meter, Nanos, Ticket};

/// A message as it travels: what it is, when it was sent, and the books it is in.
pub(super) struct Envelope<M> {
    pub(super) message: M,
    pub(super) sent_at: Nanos,
    pub(super) receipt: Receipt,
}

/// Stands for a message counted as sent. Unless it is handled, the message counts as dropped when this goes
/// (its actor ended first): sent = handled + dropped + queued holds whatever happens.
pub(super) struct Receipt {
    entry: Arc<ActorEntry>,
    ticket: Ticket,
    items: u32,
    handled: bool,
}

impl Receipt {
    fn new(entry: &Arc<ActorEntry>, items: u32, at: Nanos) -> Self {
        let ticket = entry.meter.on_sent(items, at);
        Self { entry: entry.clone(), ticket, items, handled: false }
    }

    /// `found`: the items the actor found in the message, if it counts them.
    pub(super) fn on_handled(mut self, kind: usize, found: Option<u32>, waited: Nanos, ran: Nanos) {
        self.handled = true;
        self.entry.meter.on_handled(kind, self.ticket, found.unwrap_or(self.items), waited, ran);
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if !self.handled {
            self.entry.meter.on_dropped(self.items);
            self.entry.settle_if_ended();
        }
    }
}

/// The address of an actor. Cheap to clone; sending never blocks.
pub struct Mailbox<M> {
    actor: ActorRef<Envelope<M>>,
    entry: Arc<ActorEntry>,
    credit: u32,
}

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Self { actor: self.actor.clone(), entry: self.entry.clone(), credit: self.credit }
    }
}

impl<M> fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.entry.meter.kind().name(), self.entry.id, self.entry.name)
    }
}

/// Why a message was not sent. It comes back.
pub enum SendError<M> {
    /// The mailbox is at its limit.
    Full(M),
    /// The actor has ended.
    Ended(M),
}

impl<M> fmt::Debug for SendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the mailbox is full",
            Self::Ended(_) => "the actor has ended",
        })
    }
}

impl<M> SendError<M> {
    /// The message.
    pub fn into_message(self) -> M {
        match self {
            Self::Full(message) | Self::Ended(message) => message,
        }
    }
}

impl<M: Send + 'static> Mailbox<M> {
    pub(super) fn new(actor: ActorRef<Envelope<M>>, entry: Arc<ActorEntry>, credit: u32) -> Self {
        Self { actor, entry, credit }
    }

    /// Sends a control message: not limited, for there are few and losing one costs more than memory.
    ///
    /// # Errors
    /// [`SendError::Ended`].
    pub fn send(&self, message: M) -> Result<(), SendError<M>> {
        self.post(message, 0)
    }

    /// As [`send`](Self::send), a message that carries `items` data items all the same: an actor's first ones, say.
    ///
    /// # Errors
    /// [`SendError::Ended`].
    pub fn send_unlimited(&self, message: M, items: u32) -> Result<(), SendError<M>> {
        self.post(message, items)
    }

    /// Sends a message of `items` data items, unless that many more would exceed the mailbox's credit.
    ///
    /// # Errors
    /// [`SendError::Full`] (counted as dropped) or [`SendError::Ended`].
    pub fn send_data(&self, message: M, items: u32) -> Result<(), SendError<M>> {
        if !self.has_credit(items) {
            self.entry.meter.on_refused(items);
            self.entry.settle_if_ended();
            return Err(SendError::Full(message));
        }
        self.post(message, items)
    }

    /// Whether `items` more would be taken now.
    pub fn has_credit(&self, items: u32) -> bool {
        self.entry.meter.items_queued() + u64::from(items) <= self.credit.into()
    }

    fn post(&self, message: M, items: u32) -> Result<(), SendError<M>> {
        let sent_at = BatchClock::last();
        let receipt = Receipt::new(&self.entry, items, sent_at);
        let envelope = Envelope { message, sent_at, receipt };
        match self.actor.send_message(envelope) {
            Ok(()) => Ok(()),
            Err(ractor::MessagingErr::SendErr(envelope)) => Err(SendError::Ended(envelope.message)),
            // ractor's other errors keep the message; no local, typed mailbox can meet them.
            Err(other) => unreachable!("a typed local mailbox answered {other}"),
        }
    }

    /// Ends the actor once it has handled the message in hand.
    pub fn stop(&self) {
        self.actor.stop(None);
    }

    /// Ends the actor at its next await, without its consent: for tests of supervision.
    pub fn kill(&self) {
        self.actor.kill();
    }

    /// Loses a message that its sender takes for sent: for tests of those who look for that.
    #[cfg(test)]
    pub(super) fn lose(&self, items: u32) {
        std::mem::forget(Receipt::new(&self.entry, items, BatchClock::last()));
    }

    /// Whether a [`ChildExit`](super::ChildExit) speaks of this actor.
    pub fn is(&self, child: ractor::ActorId) -> bool {
        self.actor.get_id() == child
    }

    /// Identifies the actor in the registry.
    pub fn id(&self) -> u64 {
        self.entry.id
    }

    /// The name its spawner gave the actor.
    pub fn name(&self) -> &str {
        &self.entry.name
    }

    /// The mailbox's meter.
    pub fn meter(&self) -> &Meter {
        &self.entry.meter
    }

    pub(super) fn actor(&self) -> &ActorRef<Envelope<M>> {
        &self.actor
    }
}

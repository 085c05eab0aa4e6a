//! Mailboxes: ractor's or a crew's, with a meter and a limit.

use std::{fmt, sync::Arc};

use ractor::ActorRef;
use wirepath_trace::{ActorEntry, BatchClock, Meter, Nanos, Ticket};

use super::crew::Berth;

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

/// The address of an actor. Cheap to clone and one word long; sending never blocks.
pub struct Mailbox<M>(Arc<Address<M>>);

struct Address<M> {
    entry: Arc<ActorEntry>,
    credit: u32,
    way: Way<M>,
}

/// How messages get to an actor.
enum Way<M> {
    /// By a mailbox of its own.
    Ractor(ActorRef<Envelope<M>>),
    /// By its crew's.
    Crew(Berth<M>),
}

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M> fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = &self.0.entry;
        write!(f, "{} {} ({})", entry.meter.kind().name(), entry.id, entry.name)
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
        Self(Arc::new(Address { entry, credit, way: Way::Ractor(actor) }))
    }

    pub(super) fn of_member(berth: Berth<M>, entry: Arc<ActorEntry>, credit: u32) -> Self {
        Self(Arc::new(Address { entry, credit, way: Way::Crew(berth) }))
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
            self.0.entry.meter.on_refused(items);
            self.0.entry.settle_if_ended();
            return Err(SendError::Full(message));
        }
        self.post(message, items)
    }

    /// Whether `items` more would be taken now.
    pub fn has_credit(&self, items: u32) -> bool {
        self.0.entry.meter.items_queued() + u64::from(items) <= self.0.credit.into()
    }

    fn post(&self, message: M, items: u32) -> Result<(), SendError<M>> {
        let sent_at = BatchClock::last();
        let receipt = Receipt::new(&self.0.entry, items, sent_at);
        let envelope = Envelope { message, sent_at, receipt };
        let sent = match &self.0.way {
            Way::Ractor(actor) => actor.send_message(envelope).map_err(|error| match error {
                ractor::MessagingErr::SendErr(envelope) => envelope,
                // ractor's other errors keep the message; no local, typed mailbox can meet them.
                other => unreachable!("a typed local mailbox answered {other}"),
            }),
            Way::Crew(berth) => berth.send(self, envelope),
        };
        sent.map_err(|envelope| SendError::Ended(envelope.message))
    }

    /// Ends the actor once it has handled the message in hand.
    pub fn stop(&self) {
        match &self.0.way {
            Way::Ractor(actor) => actor.stop(None),
            Way::Crew(berth) => berth.stop(self),
        }
    }

    /// Ends the actor at its next await, without its consent: for tests of supervision.
    pub fn kill(&self) {
        self.0.entry.on_killed();
        match &self.0.way {
            Way::Ractor(actor) => actor.kill(),
            Way::Crew(berth) => berth.kill(self),
        }
    }

    /// Loses a message that its sender takes for sent: for tests of those who look for that.
    #[cfg(test)]
    pub(super) fn lose(&self, items: u32) {
        std::mem::forget(Receipt::new(&self.0.entry, items, BatchClock::last()));
    }

    /// Whether a [`ChildExit`](super::ChildExit) speaks of this actor.
    pub fn is(&self, child: ractor::ActorId) -> bool {
        self.actor().is_some_and(|actor| actor.get_id() == child)
    }

    /// Identifies the actor in the registry.
    pub fn id(&self) -> u64 {
        self.0.entry.id
    }

    /// The name its spawner gave the actor.
    pub fn name(&self) -> &str {
        &self.0.entry.name
    }

    /// The mailbox's meter.
    pub fn meter(&self) -> &Meter {
        &self.0.entry.meter
    }

    /// ractor's name for it; `None` for a member of a crew.
    pub(super) fn actor(&self) -> Option<&ActorRef<Envelope<M>>> {
        match &self.0.way {
            Way::Ractor(actor) => Some(actor),
            Way::Crew(_) => None,
        }
    }

    /// Its place in its crew; `None` for an actor of ractor's.
    pub(super) fn berth(&self) -> Option<&Berth<M>> {
        match &self.0.way {
            Way::Ractor(_) => None,
            Way::Crew(berth) => Some(berth),
        }
    }
}

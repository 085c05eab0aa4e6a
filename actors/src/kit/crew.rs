//! Crews: actors of which there are very many, run by one task.
//!
//! ractor gives each actor two mailboxes, two signals and two tasks: 6.8 KB before its state, and some 5,000
//! instructions a message. The members of a crew share one mailbox and one task; a member costs its state, its address
//! and its place in the registry. The rest is as with any actor here: messages one at a time and in order, metered,
//! limited and timed; an entry in the registry; whoever panics ends alone, and the supervisor is told; all end with it.
//! What members can't do is wait: a handler is a plain function.

mod post;

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll},
};

use parking_lot::Mutex;
use wirepath_trace::{BatchClock, Nanos, Registry};

pub(super) use post::Berth;
use post::{Letter, Mail, Post, Standing};

use super::{Mailbox, SpawnError, StopReason, mailbox::Envelope};

/// Messages handled before the thread's other tasks have their turn: about what one received batch spreads over.
const TURN_MESSAGES: usize = 64;

/// Nor longer than this behind the first: a message that moves a handshake on takes as long as fifty packets of data, and the device is to
/// send the answer to the first while that to the last is computed.
const TURN_TIME: Nanos = 500_000;

/// An actor that is one of very many: state that handles one message at a time, without waiting.
///
/// Resources are freed in `Drop`: a killed or panicked member gets no other chance.
pub trait Member: Sized + Send + 'static {
    /// What it understands.
    type Message: Send + 'static;

    /// Its kind, as the registry and the dashboard name it.
    const KIND: &'static str;

    /// How many data items may wait for it at most.
    const CREDIT: u32;

    /// The names of the kinds of messages it understands, for its meters.
    const MESSAGES: &'static [&'static str];

    /// Which of [`MESSAGES`](Self::MESSAGES) a message is.
    fn message_kind(message: &Self::Message) -> usize;

    /// How many data items a message holds, as its receiver counts them; `None`: as its sender said.
    fn items(_message: &Self::Message) -> Option<u32> {
        None
    }

    /// Called once, before the first message. It must not start other members of its crew.
    fn started(&mut self, _cx: &Shift<Self::Message>) {}

    /// Handles a message.
    ///
    /// # Errors
    /// A [`StopReason`] ends the member.
    fn handle(&mut self, cx: &Shift<Self::Message>, message: Self::Message) -> Result<(), StopReason>;
}

/// What a member is given besides its message.
#[derive(Debug)]
pub struct Shift<M> {
    mailbox: Mailbox<M>,
    sent_at: Nanos,
}

impl<M> Shift<M> {
    /// The member's own address.
    pub fn myself(&self) -> &Mailbox<M> {
        &self.mailbox
    }

    /// When the message in hand was sent.
    pub fn sent_at(&self) -> Nanos {
        self.sent_at
    }
}

/// A member failed: for the crew's supervisor. The plain end of one of very many is no news.
#[derive(Debug)]
pub struct MemberFailure {
    /// The member, as the registry knows it.
    pub actor: u64,
    /// What is known of it.
    pub why: String,
}

/// A crew: starts members, and runs them. Clones are the same crew.
pub struct Crew<A: Member>(Arc<Shared<A>>);

struct Shared<A: Member> {
    registry: Arc<Registry>,
    supervisor: u64,
    on_failure: Box<dyn Fn(MemberFailure) + Send + Sync>,
    post: Arc<Post<A::Message>>,
    members: Mutex<Members<A>>,
}

/// The members, by place. A member whose message is in hand is not in its place.
struct Members<A: Member> {
    places: Vec<Option<Box<Body<A>>>>,
    free: Vec<u32>,
    closed: bool,
}

/// A member, and what it is given. It leaves the registry however it ends.
struct Body<A: Member> {
    member: A,
    shift: Shift<A::Message>,
    registry: Arc<Registry>,
    failure: Option<Box<str>>,
}

impl<A: Member> Clone for Crew<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: Member> std::fmt::Debug for Crew<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a crew of {}s", A::KIND)
    }
}

impl<A: Member> Crew<A> {
    /// A crew without members. `supervisor` is the actor they belong to, `on_failure` tells it of those that fail.
    pub fn new(
        registry: Arc<Registry>,
        supervisor: u64,
        on_failure: impl Fn(MemberFailure) + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Shared {
            registry,
            supervisor,
            on_failure: Box::new(on_failure),
            post: Arc::default(),
            members: Mutex::new(Members { places: Vec::new(), free: Vec::new(), closed: false }),
        }))
    }

    /// Starts a member. It runs where [`run`](Self::run) does.
    ///
    /// # Errors
    /// When the crew has ended, or the member panics at once.
    pub fn spawn(&self, name: String, member: A) -> Result<Mailbox<A::Message>, SpawnError> {
        let entry = self.0.registry.enter(A::KIND, A::MESSAGES, name, Some(self.0.supervisor));
        // Locked until the member is in its place: then mail that others send at once finds it there.
        let mut members = self.0.members.lock();
        let place = members.take_place();
        let berth = Berth::new(self.0.post.clone(), place);
        let mailbox = Mailbox::of_member(berth, entry, A::CREDIT);
        let shift = Shift { mailbox: mailbox.clone(), sent_at: 0 };
        let mut body = Box::new(Body { member, shift, registry: self.0.registry.clone(), failure: None });
        let error = |why: &str| Err(SpawnError { kind: A::KIND, why: why.into() });
        if members.closed {
            body.retire(None);
            return error("its crew has ended");
        }
        let Body { member, shift, .. } = &mut *body;
        if catch_unwind(AssertUnwindSafe(|| member.started(shift))).is_err() {
            members.free.push(place);
            body.retire(Some("it panicked while it started"));
            return error("it panicked while it started");
        }
        members.places[place as usize] = Some(body);
        Ok(mailbox)
    }

    /// Runs the members. With the future all of them end.
    pub fn run(&self) -> impl Future<Output = ()> + Send + use<A> {
        let running = Running { crew: self.0.clone(), batch: Mail::new() };
        let mut running = AssertUnwindSafe(running);
        std::future::poll_fn(move |cx| running.turn(cx))
    }
}

impl<A: Member> Members<A> {
    fn take_place(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            (self.places.len() - 1) as u32
        })
    }
}

/// A crew at work. Its end is that of all members.
struct Running<A: Member> {
    crew: Arc<Shared<A>>,
    /// Letters fetched and not delivered yet.
    batch: Mail<A::Message>,
}

impl<A: Member> Running<A> {
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.batch.is_empty() {
            self.crew.post.fetch(&mut self.batch);
        }
        let mut first_done = None;
        for _ in 0..TURN_MESSAGES {
            let Some(letter) = self.batch.pop_front() else { break };
            self.crew.deliver(letter);
            // Each message has read the clock.
            let now = BatchClock::last();
            if now - *first_done.get_or_insert(now) > TURN_TIME {
                break;
            }
        }
        if !self.batch.is_empty() || self.crew.post.has_mail_or_sleeps(cx) {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl<A: Member> Shared<A> {
    fn deliver(&self, letter: Letter<A::Message>) {
        let Letter { to, envelope } = letter;
        let Some(berth) = to.berth() else { return };
        let (place, standing) = (berth.place(), berth.standing());
        if standing == Standing::Ended {
            // Its receipt counts the message as dropped.
            return;
        }
        let Some(mut body) = self.members.lock().places[place as usize].take() else { return };
        let outcome = match (standing, envelope) {
            (Standing::Serving, Some(envelope)) => body.handle(envelope),
            (Standing::Serving, None) => Ok(()),
            (Standing::Killed, _) => Err(StopReason::Failed("it was killed".into())),
            (Standing::Stopping | Standing::Ended, _) => Err(StopReason::Done),
        };
        match outcome {
            Ok(()) => self.members.lock().places[place as usize] = Some(body),
            Err(reason) => {
                berth.end();
                let why = match reason {
                    StopReason::Done => None,
                    StopReason::Failed(why) => Some(why),
                };
                body.retire(why.as_deref());
                self.members.lock().free.push(place);
                if let Some(why) = why {
                    (self.on_failure)(MemberFailure { actor: to.id(), why });
                }
            }
        }
    }
}

impl<A: Member> Body<A> {
    fn handle(&mut self, envelope: Envelope<A::Message>) -> Result<(), StopReason> {
        let Envelope { message, sent_at, receipt } = envelope;
        let begun = BatchClock::read();
        let (kind, found) = (A::message_kind(&message), A::items(&message));
        self.shift.sent_at = sent_at;
        self.shift.mailbox.meter().on_taken(sent_at);
        let (member, shift) = (&mut self.member, &self.shift);
        let outcome = catch_unwind(AssertUnwindSafe(|| member.handle(shift, message)));
        let Ok(outcome) = outcome else {
            let message = A::MESSAGES.get(kind).unwrap_or(&"message");
            return Err(StopReason::Failed(format!("it panicked while it handled `{message}`")));
        };
        receipt.on_handled(kind, found, begun.saturating_sub(sent_at), BatchClock::read() - begun);
        outcome
    }

    /// Drops the member, which takes nobody with it even if that panics.
    fn retire(mut self: Box<Self>, failure: Option<&str>) {
        self.failure = failure.map(Into::into);
        if catch_unwind(AssertUnwindSafe(move || drop(self))).is_err() {
            tracing::error!(kind = A::KIND, "an actor panicked while it ended");
        }
    }
}

impl<A: Member> Drop for Body<A> {
    fn drop(&mut self) {
        self.registry.leave(self.shift.mailbox.id(), self.failure.take().map(Into::into));
    }
}

impl<A: Member> Drop for Running<A> {
    fn drop(&mut self) {
        let left = self.crew.post.close();
        let members = {
            let mut members = self.crew.members.lock();
            members.closed = true;
            std::mem::take(&mut members.places)
        };
        for body in members.into_iter().flatten() {
            if let Some(berth) = body.shift.mailbox.berth() {
                berth.end();
            }
            body.retire(None);
        }
        drop(left);
    }
}

#[cfg(test)]
mod tests;

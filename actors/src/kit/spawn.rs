//! Actors: how they are written, started, supervised and ended.

use std::{future::Future, marker::PhantomData, sync::Arc};

use ractor::{ActorProcessingErr, ActorRef, SupervisionEvent};
use wirepath_trace::{ActorEntry, BatchClock, Registry};

use super::mailbox::{Envelope, Mailbox};

/// An actor: state that handles one message at a time.
///
/// Resources are freed in `Drop`: a killed or panicked actor gets no other chance.
pub trait Actor: Sized + Send + 'static {
    /// What it understands.
    type Message: Send + 'static;

    /// Its kind, as the registry and the dashboard name it.
    const KIND: &'static str;

    /// How many data items its mailbox holds at most.
    const CREDIT: u32;

    /// The names of the kinds of messages it understands, for its meters.
    const MESSAGES: &'static [&'static str] = &["message"];

    /// Which of [`MESSAGES`](Self::MESSAGES) a message is.
    fn message_kind(_message: &Self::Message) -> usize {
        0
    }

    /// How many data items a message holds, as its receiver counts them; `None`: as its sender said.
    fn items(_message: &Self::Message) -> Option<u32> {
        None
    }

    /// Called once, before the first message.
    fn started(&mut self, _cx: &Context<Self::Message>) {}

    /// Handles a message.
    ///
    /// # Errors
    /// A [`StopReason`] ends the actor.
    fn handle(
        &mut self,
        cx: &Context<Self::Message>,
        message: Self::Message,
    ) -> impl Future<Output = Result<(), StopReason>> + Send;

    /// Learns that a child has ended. By default nothing follows; ractor's own default would end the parent.
    ///
    /// # Errors
    /// A [`StopReason`] ends the actor.
    fn child_exited(
        &mut self,
        _cx: &Context<Self::Message>,
        exit: ChildExit,
    ) -> impl Future<Output = Result<(), StopReason>> + Send {
        async move {
            tracing::debug!(?exit, supervisor = Self::KIND, "child ended");
            Ok(())
        }
    }
}

/// Why an actor wants to end.
#[derive(Debug)]
pub enum StopReason {
    /// Its work is done.
    Done,
    /// It can't go on; its supervisor decides what follows.
    Failed(String),
}

/// A child's end, as its supervisor learns of it.
#[derive(Debug)]
pub struct ChildExit {
    /// The child, as [`Mailbox::is`] knows it.
    pub child: ractor::ActorId,
    /// How it ended.
    pub cause: ExitCause,
}

/// How an actor ended.
#[derive(Debug)]
pub enum ExitCause {
    /// It stopped by itself or was told to.
    Stopped,
    /// It failed, panicked or was killed: what is known of it.
    Failed(String),
}

/// An actor could not be started.
#[derive(Debug, thiserror::Error)]
#[error("a {kind} actor could not be started: {why}")]
pub struct SpawnError {
    pub(super) kind: &'static str,
    pub(super) why: String,
}

/// Starts actors that have no supervisor. Must be used on the runtime the actor is to run on.
#[derive(Clone, Debug, Default)]
pub struct Spawner {
    registry: Arc<Registry>,
}

impl Spawner {
    /// The registry its actors are listed in.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Starts an actor on the current runtime.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub async fn spawn<A: Actor>(&self, name: String, actor: A) -> Result<Mailbox<A::Message>, SpawnError> {
        let (seed, handover) = Seed::new(self.registry.clone(), name, None, actor);
        ractor::Actor::spawn(None, Shell(PhantomData), seed).await.map_err(spawn_error::<A>)?;
        Ok(handover.await.expect("the actor started and sent its mailbox"))
    }
}

fn spawn_error<A: Actor>(error: ractor::SpawnErr) -> SpawnError {
    SpawnError { kind: A::KIND, why: error.to_string() }
}

/// What an actor is given besides its message: its own address, and the means to start children.
#[derive(Debug)]
pub struct Context<M> {
    mailbox: Mailbox<M>,
    registry: Arc<Registry>,
}

impl<M: Send + 'static> Context<M> {
    /// The registry its actors are listed in.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The actor's own address.
    pub fn myself(&self) -> &Mailbox<M> {
        &self.mailbox
    }

    /// Starts a child on the current runtime; its end reaches [`Actor::child_exited`], and it ends with its parent.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub fn spawn<A: Actor>(
        &self,
        name: String,
        actor: A,
    ) -> impl Future<Output = Result<Mailbox<A::Message>, SpawnError>> + Send + use<A, M> {
        // Before the future begins, which so holds the actor's box only.
        let (seed, handover) = Seed::new(self.registry.clone(), name, Some(self.mailbox.id()), actor);
        let supervisor = self.mailbox.actor().expect("only actors of ractor's have a context").get_cell();
        async move {
            ractor::Actor::spawn_linked(None, Shell(PhantomData), seed, supervisor)
                .await
                .map_err(spawn_error::<A>)?;
            Ok(handover.await.expect("the actor started and sent its mailbox"))
        }
    }
}

/// What an actor grows from.
struct Seed<A: Actor> {
    registry: Arc<Registry>,
    entry: Arc<ActorEntry>,
    /// Boxed: it travels through half a dozen futures, and each would be as large as all that it may hold.
    actor: Box<A>,
    handover: tokio::sync::oneshot::Sender<Mailbox<A::Message>>,
}

impl<A: Actor> Seed<A> {
    fn new(
        registry: Arc<Registry>,
        name: String,
        parent: Option<u64>,
        actor: A,
    ) -> (Self, tokio::sync::oneshot::Receiver<Mailbox<A::Message>>) {
        let entry = registry.enter(A::KIND, A::MESSAGES, name, parent);
        let (handover, mailbox) = tokio::sync::oneshot::channel();
        (Self { registry, entry, actor: Box::new(actor), handover }, mailbox)
    }
}

/// ractor's view of an actor: the behaviour is in the state.
struct Shell<A>(PhantomData<fn() -> A>);

/// ractor's state: the actor, its context, and its place in the registry, which it leaves however it ends.
struct Body<A: Actor> {
    actor: Box<A>,
    context: Context<A::Message>,
    /// The kind of message in hand.
    handling: Option<usize>,
    failure: Option<String>,
}

impl<A: Actor> Drop for Body<A> {
    fn drop(&mut self) {
        // Still handling: the handler panicked or was killed.
        let broken = self.handling.map(|kind| {
            let message = A::MESSAGES.get(kind).unwrap_or(&"message");
            format!("it panicked or was killed while it handled `{message}`")
        });
        self.context.registry.leave(self.context.mailbox.id(), self.failure.take().or(broken));
    }
}

impl<A: Actor> ractor::Actor for Shell<A> {
    type Msg = Envelope<A::Message>;
    type State = Body<A>;
    type Arguments = Seed<A>;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        seed: Seed<A>,
    ) -> Result<Body<A>, ActorProcessingErr> {
        let mailbox = Mailbox::new(myself, seed.entry, A::CREDIT);
        let context = Context { mailbox: mailbox.clone(), registry: seed.registry };
        let mut body = Body { actor: seed.actor, context, handling: None, failure: None };
        body.actor.started(&body.context);
        // The receiver has gone only if whoever spawned has: then nobody wants the mailbox.
        let _ = seed.handover.send(mailbox);
        Ok(body)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        envelope: Self::Msg,
        body: &mut Body<A>,
    ) -> Result<(), ActorProcessingErr> {
        let begun = BatchClock::read();
        let (kind, found) = (A::message_kind(&envelope.message), A::items(&envelope.message));
        body.handling = Some(kind);
        body.context.mailbox.meter().on_taken(envelope.sent_at);
        let outcome = body.actor.handle(&body.context, envelope.message).await;
        body.handling = None;
        let waited = begun.saturating_sub(envelope.sent_at);
        envelope.receipt.on_handled(kind, found, waited, BatchClock::read() - begun);
        obey(&myself, body, outcome)
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        body: &mut Body<A>,
    ) -> Result<(), ActorProcessingErr> {
        let exit = match event {
            SupervisionEvent::ActorTerminated(child, _, _) => {
                ChildExit { child: child.get_id(), cause: ExitCause::Stopped }
            }
            SupervisionEvent::ActorFailed(child, why) => {
                ChildExit { child: child.get_id(), cause: ExitCause::Failed(why.to_string()) }
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => return Ok(()),
        };
        let outcome = body.actor.child_exited(&body.context, exit).await;
        obey(&myself, body, outcome)
    }
}

fn obey<A: Actor>(
    myself: &ActorRef<Envelope<A::Message>>,
    body: &mut Body<A>,
    outcome: Result<(), StopReason>,
) -> Result<(), ActorProcessingErr> {
    match outcome {
        Ok(()) => Ok(()),
        Err(StopReason::Done) => {
            myself.stop(None);
            Ok(())
        }
        Err(StopReason::Failed(why)) => {
            body.failure = Some(why.clone());
            Err(why.into())
        }
    }
}

#[cfg(test)]
mod tests;

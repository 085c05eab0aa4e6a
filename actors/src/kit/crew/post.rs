//! The mailbox that the members of a crew share.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{
            AtomicU8,
            Ordering::{AcqRel, Acquire, Release},
        },
    },
    task::{Context, Waker},
};

use parking_lot::Mutex;

use super::super::mailbox::{Envelope, Mailbox};

/// Letters whose memory is kept while there are none: more wait only after a stall, and seldom again.
const KEPT_LETTERS: usize = 256;

/// A message and whom it is for; without one, word that the member's standing has changed.
pub(super) struct Letter<M> {
    pub(super) to: Mailbox<M>,
    pub(super) envelope: Option<Envelope<M>>,
}

/// Letters, oldest first.
pub(super) type Mail<M> = VecDeque<Letter<M>>;

/// Letters to all members, and the waker of the task that delivers them while it sleeps.
pub(super) struct Post<M> {
    state: Mutex<State<M>>,
}

struct State<M> {
    mail: Mail<M>,
    sleeper: Option<Waker>,
    closed: bool,
}

impl<M> Default for Post<M> {
    fn default() -> Self {
        Self { state: Mutex::new(State { mail: VecDeque::new(), sleeper: None, closed: false }) }
    }
}

impl<M> Post<M> {
    /// Takes a letter in, ahead of others if `first`; it comes back once the crew has ended.
    fn push(&self, letter: Letter<M>, first: bool) -> Result<(), Letter<M>> {
        let sleeper = {
            let mut state = self.state.lock();
            if state.closed {
                return Err(letter);
            }
            match first {
                true => state.mail.push_front(letter),
                false => state.mail.push_back(letter),
            }
            state.sleeper.take()
        };
        if let Some(sleeper) = sleeper {
            sleeper.wake();
        }
        Ok(())
    }

    /// Swaps what has come for the empty list `into`.
    pub(super) fn fetch(&self, into: &mut Mail<M>) {
        if into.capacity() > KEPT_LETTERS {
            *into = VecDeque::new();
        }
        std::mem::swap(&mut self.state.lock().mail, into);
    }

    /// Whether letters wait. If none do, the next one wakes the task of `cx`.
    pub(super) fn has_mail_or_sleeps(&self, cx: &Context<'_>) -> bool {
        let mut state = self.state.lock();
        if state.mail.is_empty() {
            state.sleeper = Some(cx.waker().clone());
        }
        !state.mail.is_empty()
    }

    /// Takes no more. Gives back what was left.
    pub(super) fn close(&self) -> Mail<M> {
        let mut state = self.state.lock();
        state.closed = true;
        state.sleeper = None;
        std::mem::take(&mut state.mail)
    }
}

/// Where a member stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Standing {
    /// It handles messages.
    Serving,
    /// It was told to stop, and handles no more.
    Stopping,
    /// So it was, without its consent.
    Killed,
    /// It is no more.
    Ended,
}

/// A member's place in its crew, and where it stands.
pub(in super::super) struct Berth<M> {
    post: Arc<Post<M>>,
    place: u32,
    standing: AtomicU8,
}

impl<M> Berth<M> {
    pub(super) fn new(post: Arc<Post<M>>, place: u32) -> Self {
        Self { post, place, standing: AtomicU8::new(Standing::Serving as u8) }
    }

    pub(super) fn place(&self) -> u32 {
        self.place
    }

    pub(super) fn standing(&self) -> Standing {
        match self.standing.load(Acquire) {
            0 => Standing::Serving,
            1 => Standing::Stopping,
            2 => Standing::Killed,
            _ => Standing::Ended,
        }
    }

    /// Sends `myself` a message; it comes back if the member has ended.
    pub(in super::super) fn send(
        &self,
        myself: &Mailbox<M>,
        envelope: Envelope<M>,
    ) -> Result<(), Envelope<M>> {
        if self.standing() == Standing::Ended {
            return Err(envelope);
        }
        let letter = Letter { to: myself.clone(), envelope: Some(envelope) };
        self.post.push(letter, false).map_err(|letter| letter.envelope.expect("just put in"))
    }

    /// Tells it to stop.
    pub(in super::super) fn stop(&self, myself: &Mailbox<M>) {
        self.advance(myself, Standing::Stopping);
    }

    /// Ends it without its consent.
    pub(in super::super) fn kill(&self, myself: &Mailbox<M>) {
        self.advance(myself, Standing::Killed);
    }

    fn advance(&self, myself: &Mailbox<M>, to: Standing) {
        if self.standing.fetch_max(to as u8, AcqRel) < to as u8 {
            // A crew that has ended has no members.
            let _ = self.post.push(Letter { to: myself.clone(), envelope: None }, true);
        }
    }

    pub(super) fn end(&self) {
        self.standing.store(Standing::Ended as u8, Release);
    }
}

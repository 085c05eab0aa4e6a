//! Meters: how much mail an actor got, how long it waited, how long handling took.

use std::sync::{
    Arc,
    atomic::{
        AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
};

use crate::{Histogram, HistogramSnapshot, Nanos};

/// What all actors of a kind share: their name and their histograms, one pair for each kind of message. A
/// connection's own meter stays small because the histograms, which are not, live here.
#[derive(Debug)]
pub struct KindMeter {
    name: &'static str,
    messages: Box<[MessageMeter]>,
    spawned: AtomicU64,
    stopped: AtomicU64,
    failed: AtomicU64,
    departed: Departed,
}

/// What actors of a kind that have ended left in the books.
#[derive(Debug, Default)]
struct Departed {
    item_sent: AtomicU64,
    item_handled: AtomicU64,
    item_dropped: AtomicU64,
    item_passed: [AtomicU64; WAYS],
    /// Hand-overs begun and done: who reads between the two reads them wrong, and notices.
    begun: AtomicU64,
    done: AtomicU64,
}

/// A hand-over under way.
struct Settling<'a>(&'a Departed);

impl Departed {
    fn settling(&self) -> Settling<'_> {
        self.begun.fetch_add(1, AcqRel);
        Settling(self)
    }
}

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        self.0.done.fetch_add(1, Release);
    }
}

/// One kind of message.
#[derive(Debug)]
struct MessageMeter {
    name: &'static str,
    wait: Histogram,
    run: Histogram,
}

impl KindMeter {
    /// A meter for a kind of actor that has none yet, and the kinds of messages it understands (at least one).
    pub fn new(name: &'static str, messages: &[&'static str]) -> Self {
        assert!(!messages.is_empty(), "{name} understands something");
        let meter = |name: &&'static str| MessageMeter {
            name,
            wait: Histogram::default(),
            run: Histogram::default(),
        };
        Self {
            name,
            messages: messages.iter().map(meter).collect(),
            spawned: AtomicU64::new(0),
            stopped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            departed: Departed::default(),
        }
    }

    /// The kind's name, as in "connection".
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn on_spawned(&self) {
        self.spawned.fetch_add(1, Relaxed);
    }

    pub(crate) fn on_stopped(&self, failed: bool) {
        self.stopped.fetch_add(1, Relaxed);
        self.failed.fetch_add(u64::from(failed), Relaxed);
    }

    /// Hand-overs to the books begun and done so far.
    pub(crate) fn settled(&self) -> (u64, u64) {
        let done = self.departed.done.load(Acquire);
        (self.departed.begun.load(Acquire), done)
    }

    /// What its ended actors left to the books.
    pub(crate) fn departed(&self) -> ItemTotals {
        let it = &self.departed;
        ItemTotals {
            sent: it.item_sent.load(Relaxed),
            handled: it.item_handled.load(Relaxed),
            dropped: it.item_dropped.load(Relaxed),
            queued: 0,
            passed: std::array::from_fn(|way| it.item_passed[way].load(Relaxed)),
        }
    }

    fn on_handled(&self, message: usize, waited: Nanos, ran: Nanos) {
        // A number out of range is a slip of whoever numbered the messages: counted all the same.
        let meter = &self.messages[message.min(self.messages.len() - 1)];
        meter.wait.record(waited);
        meter.run.record(ran);
    }

    /// Copies the figures.
    pub fn snapshot(&self) -> KindSnapshot {
        let messages: Vec<_> = self
            .messages
            .iter()
            .map(|meter| MessageSnapshot {
                name: meter.name,
                wait: meter.wait.snapshot(),
                run: meter.run.snapshot(),
            })
            .collect();
        let (mut wait, mut run) = (HistogramSnapshot::default(), HistogramSnapshot::default());
        for message in &messages {
            wait.merge(&message.wait);
            run.merge(&message.run);
        }
        KindSnapshot {
            name: self.name,
            messages,
            wait,
            run,
            actor_spawned: self.spawned.load(Relaxed),
            actor_stopped: self.stopped.load(Relaxed),
            actor_failed: self.failed.load(Relaxed),
        }
    }
}

/// A copy of a [`KindMeter`].
#[derive(Clone, Debug)]
pub struct KindSnapshot {
    /// The kind's name.
    pub name: &'static str,
    /// Each kind of message.
    pub messages: Vec<MessageSnapshot>,
    /// How long messages waited in mailboxes, of whatever kind.
    pub wait: HistogramSnapshot,
    /// How long handling a message took.
    pub run: HistogramSnapshot,
    /// Actors of this kind ever made.
    pub actor_spawned: u64,
    /// Actors of this kind that have ended, failed ones included.
    pub actor_stopped: u64,
    /// Actors of this kind that ended by an error or a panic.
    pub actor_failed: u64,
}

/// One kind of message, over all actors of a kind.
#[derive(Clone, Debug)]
pub struct MessageSnapshot {
    /// Its name.
    pub name: &'static str,
    /// How long such messages waited in mailboxes.
    pub wait: HistogramSnapshot,
    /// How long handling one took.
    pub run: HistogramSnapshot,
}

/// The meter of one mailbox, which keeps two books: what its senders say they sent, and what its actor found.
///
/// Every message carries its number, and the number of items sent up to it. A mailbox is first in, first out: when the
/// actor has handled the message of number n it must have handled n. So what got lost on the way shows, though nobody
/// can look into the mailbox: sent = handled + dropped + queued + missing, and missing is 0.
#[derive(Debug)]
pub struct Meter {
    kind: Arc<KindMeter>,
    /// Senders' book. What was refused at the door has no number.
    posted: AtomicU64,
    item_posted: AtomicU64,
    refused: AtomicU64,
    item_refused: AtomicU64,
    /// The actor's book, written by it alone: the last number handled, and how many that were.
    up_to: AtomicU64,
    item_up_to: AtomicU64,
    handled: AtomicU64,
    item_handled: AtomicU64,
    /// What the actor handed on to others.
    passed: [AtomicU64; WAYS],
    /// Left when the actor ended.
    dropped: AtomicU64,
    item_dropped: AtomicU64,
    depth_peak: AtomicU64,
    busy_ns: AtomicU64,
    wait_ns: AtomicU64,
    /// When the oldest message that is not done was sent.
    oldest_at: AtomicU64,
}

/// A message's place in its mailbox's books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Messages sent, this one included.
    message: u64,
    /// Items sent, its own included.
    item: u64,
}

/// Which way items are handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// Towards the application.
    Up,
    /// Towards the wire.
    Down,
    /// Nowhere, and rightly so: what they asked for is done.
    Done,
}

const WAYS: usize = 3;

impl Meter {
    /// A meter at zero.
    pub fn new(kind: Arc<KindMeter>) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            kind,
            posted: zero(),
            item_posted: zero(),
            refused: zero(),
            item_refused: zero(),
            up_to: zero(),
            item_up_to: zero(),
            handled: zero(),
            item_handled: zero(),
            passed: std::array::from_fn(|_| zero()),
            dropped: zero(),
            item_dropped: zero(),
            depth_peak: zero(),
            busy_ns: zero(),
            wait_ns: zero(),
            oldest_at: zero(),
        }
    }

    /// The kind this mailbox's actor is of.
    pub fn kind(&self) -> &Arc<KindMeter> {
        &self.kind
    }

    /// Counts a message of `items` on its way into the mailbox, sent `at`. Call before it is sent, and
    /// [`on_dropped`](Meter::on_dropped) if sending fails.
    pub fn on_sent(&self, items: u32, at: Nanos) -> Ticket {
        let message = self.posted.fetch_add(1, Relaxed) + 1;
        let items = u64::from(items);
        let item = if items == 0 {
            self.item_posted.load(Relaxed)
        } else {
            self.item_posted.fetch_add(items, Relaxed) + items
        };
        let depth = message.saturating_sub(self.gone());
        if depth <= 1 {
            self.oldest_at.store(at, Relaxed);
        }
        if depth > self.depth_peak.load(Relaxed) {
            self.depth_peak.fetch_max(depth, Relaxed);
        }
        Ticket { message, item }
    }

    /// Counts a message that was counted as sent and never reaches its actor.
    pub fn on_dropped(&self, items: u32) {
        self.dropped.fetch_add(1, Relaxed);
        self.item_dropped.fetch_add(items.into(), Relaxed);
    }

    /// Counts `items` refused at the door: sent and dropped at once.
    pub fn on_refused(&self, items: u32) {
        self.refused.fetch_add(1, Relaxed);
        self.item_refused.fetch_add(items.into(), Relaxed);
    }

    /// Notes that the message sent `at` is in hand: all others in the mailbox are younger.
    #[inline]
    pub fn on_taken(&self, at: Nanos) {
        self.oldest_at.store(at, Relaxed);
    }

    /// Counts a message handled, the `message`th of its actor's kinds, in which the actor found `items`: `waited` in the
    /// mailbox, `ran` in the handler. For the actor alone to call.
    pub fn on_handled(&self, message: usize, ticket: Ticket, items: u32, waited: Nanos, ran: Nanos) {
        let add = |book: &AtomicU64, n: u64| book.store(book.load(Relaxed) + n, Relaxed);
        add(&self.handled, 1);
        add(&self.item_handled, items.into());
        // Two senders may put their messages in in another order than they took their numbers. Who reads these sees
        // what was handled up to them.
        let raise = |book: &AtomicU64, to: u64| {
            if to > book.load(Relaxed) {
                book.store(to, Release);
            }
        };
        raise(&self.up_to, ticket.message);
        raise(&self.item_up_to, ticket.item);
        add(&self.wait_ns, waited);
        add(&self.busy_ns, ran);
        self.kind.on_handled(message, waited, ran);
    }

    /// Counts items that the actor is about to hand on. For the actor alone to call.
    #[inline]
    pub fn on_passed(&self, way: Passed, items: u32) {
        let book = &self.passed[way as usize];
        book.store(book.load(Relaxed) + u64::from(items), Relaxed);
    }

    /// Messages that left the mailbox, one way or the other.
    fn gone(&self) -> u64 {
        // The second once the actor has ended.
        self.up_to.load(Relaxed).max(self.handled.load(Relaxed) + self.dropped.load(Relaxed))
    }

    /// Items sent and neither handled nor dropped yet.
    pub fn items_queued(&self) -> u64 {
        let gone = self.item_up_to.load(Relaxed) + self.item_dropped.load(Relaxed);
        self.item_posted.load(Relaxed).saturating_sub(gone)
    }

    /// Messages sent and neither handled nor dropped yet.
    pub fn depth(&self) -> u64 {
        self.posted.load(Relaxed).saturating_sub(self.gone())
    }

    /// Hands the items counted so far over to the books of the kind. The actor has ended; whatever is counted for it
    /// afterwards must be settled again.
    pub fn settle(&self) {
        let departed = &self.kind.departed;
        let _settling = departed.settling();
        let take = |book: &AtomicU64| book.swap(0, Relaxed);
        let refused = take(&self.item_refused);
        departed.item_sent.fetch_add(take(&self.item_posted) + refused, Relaxed);
        departed.item_handled.fetch_add(take(&self.item_handled), Relaxed);
        departed.item_dropped.fetch_add(take(&self.item_dropped) + refused, Relaxed);
        for (book, own) in departed.item_passed.iter().zip(&self.passed) {
            book.fetch_add(take(own), Relaxed);
        }
    }

    /// Copies the figures. What is missing then is missing, but for messages whose senders were overtaken by others
    /// within the last moment: it counts if it is missing in each of several readings.
    pub fn snapshot(&self) -> MeterSnapshot {
        let left = (self.dropped.load(Relaxed), self.item_dropped.load(Relaxed));
        let refused = (self.refused.load(Relaxed), self.item_refused.load(Relaxed));
        let messages = Books::read(&self.posted, &self.up_to, &self.handled, left.0);
        let items = Books::read(&self.item_posted, &self.item_up_to, &self.item_handled, left.1);
        MeterSnapshot {
            message_sent: messages.posted + refused.0,
            message_handled: messages.handled,
            message_dropped: left.0 + refused.0,
            message_missing: messages.missing,
            item_sent: items.posted + refused.1,
            item_handled: items.handled,
            item_dropped: left.1 + refused.1,
            item_missing: items.missing,
            depth: messages.queued,
            item_depth: items.queued,
            item_passed: std::array::from_fn(|way| self.passed[way].load(Relaxed)),
            oldest_at: self.oldest_at.load(Relaxed),
            depth_peak: self.depth_peak.load(Relaxed),
            busy_ns: self.busy_ns.load(Relaxed),
            wait_ns: self.wait_ns.load(Relaxed),
        }
    }
}

/// Actors end, their books are kept.
impl Drop for Meter {
    fn drop(&mut self) {
        self.settle();
    }
}

/// Items in the books of one actor, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ItemTotals {
    /// Sent to them.
    pub sent: u64,
    /// Of these, found and handled.
    pub handled: u64,
    /// Refused or left behind.
    pub dropped: u64,
    /// In their mailboxes.
    pub queued: u64,
    /// Handed on by them, by [`Passed`].
    pub passed: [u64; WAYS],
}

impl From<&MeterSnapshot> for ItemTotals {
    fn from(figures: &MeterSnapshot) -> Self {
        Self {
            sent: figures.item_sent,
            handled: figures.item_handled,
            dropped: figures.item_dropped,
            queued: figures.item_depth,
            passed: figures.item_passed,
        }
    }
}

impl std::ops::AddAssign for ItemTotals {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.handled += other.handled;
        self.dropped += other.dropped;
        self.queued += other.queued;
        self.passed.iter_mut().zip(other.passed).for_each(|(own, other)| *own += other);
    }
}

/// Both books of a mailbox at one moment: posted = handled + left + queued + missing.
struct Books {
    posted: u64,
    handled: u64,
    queued: u64,
    missing: i64,
}

impl Books {
    /// Reads them while they are written: first how far the actor came, then what it found up to there.
    fn read(posted: &AtomicU64, up_to: &AtomicU64, handled: &AtomicU64, left: u64) -> Self {
        let before = handled.load(Relaxed);
        let up_to = up_to.load(Acquire);
        let handled = handled.load(Relaxed);
        let posted = posted.load(Relaxed);
        if left > 0 {
            // The actor has ended: the last number it handled is not the last there was.
            return Self { posted, handled, queued: posted.saturating_sub(handled + left), missing: 0 };
        }
        if before > up_to {
            let missing = -((before - up_to) as i64);
            return Self { posted, handled: before, queued: posted.saturating_sub(up_to), missing };
        }
        // What was handled since `up_to` was read is no excuse for what is missing below it.
        let missing = up_to.saturating_sub(handled) as i64;
        Self { posted, handled, queued: posted.saturating_sub(up_to.max(handled)), missing }
    }
}

/// A copy of a [`Meter`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeterSnapshot {
    /// Messages sent to the mailbox, by its senders' book.
    pub message_sent: u64,
    /// Messages the actor has handled, by its own.
    pub message_handled: u64,
    /// Messages refused for want of credit, or left when the actor ended.
    pub message_dropped: u64,
    /// Messages that should have come before those handled, and did not; negative: that came twice.
    pub message_missing: i64,
    /// Items (datagrams, for data) in the messages sent, by the senders' book.
    pub item_sent: u64,
    /// Items the actor found in the messages it handled.
    pub item_handled: u64,
    /// Items in the messages dropped.
    pub item_dropped: u64,
    /// Items that were sent before those handled, and not found.
    pub item_missing: i64,
    /// Messages in the mailbox now, the one in hand included: the senders' last number less the actor's.
    pub depth: u64,
    /// Items in them, likewise.
    pub item_depth: u64,
    /// Items the actor handed on, by [`Passed`].
    pub item_passed: [u64; WAYS],
    /// When the oldest of them was sent; between two messages of a busy actor, when the one before was. Means
    /// nothing while `depth` is 0.
    pub oldest_at: Nanos,
    /// The most messages that were ever in the mailbox at once.
    pub depth_peak: u64,
    /// Time spent handling, in nanoseconds.
    pub busy_ns: u64,
    /// Time messages spent waiting, in nanoseconds, summed.
    pub wait_ns: u64,
}

#[cfg(test)]
mod tests;

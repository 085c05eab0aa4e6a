//! Meters: how much mail an actor got, how long it waited, how long handling took.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
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

/// The meter of one mailbox. Conservation: sent = handled + dropped + queued, where queued is
/// [`MeterSnapshot::depth`].
#[derive(Debug)]
pub struct Meter {
    kind: Arc<KindMeter>,
    sent: AtomicU64,
    handled: AtomicU64,
    dropped: AtomicU64,
    item_sent: AtomicU64,
    item_handled: AtomicU64,
    item_dropped: AtomicU64,
    depth_peak: AtomicU64,
    busy_ns: AtomicU64,
    wait_ns: AtomicU64,
    /// When the oldest message that is not done was sent.
    oldest_at: AtomicU64,
}

impl Meter {
    /// A meter at zero.
    pub fn new(kind: Arc<KindMeter>) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            kind,
            sent: zero(),
            handled: zero(),
            dropped: zero(),
            item_sent: zero(),
            item_handled: zero(),
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
    pub fn on_sent(&self, items: u32, at: Nanos) {
        let sent = self.sent.fetch_add(1, Relaxed) + 1;
        self.item_sent.fetch_add(items.into(), Relaxed);
        let gone = self.handled.load(Relaxed) + self.dropped.load(Relaxed);
        let depth = sent.saturating_sub(gone);
        if depth <= 1 {
            self.oldest_at.store(at, Relaxed);
        }
        if depth > self.depth_peak.load(Relaxed) {
            self.depth_peak.fetch_max(depth, Relaxed);
        }
    }

    /// Counts a message that was counted as sent and never reaches its actor.
    pub fn on_dropped(&self, items: u32) {
        self.dropped.fetch_add(1, Relaxed);
        self.item_dropped.fetch_add(items.into(), Relaxed);
    }

    /// Counts `items` refused at the door: sent and dropped at once.
    pub fn on_refused(&self, items: u32) {
        self.sent.fetch_add(1, Relaxed);
        self.item_sent.fetch_add(items.into(), Relaxed);
        self.on_dropped(items);
    }

    /// Notes that the message sent `at` is in hand: all others in the mailbox are younger.
    #[inline]
    pub fn on_taken(&self, at: Nanos) {
        self.oldest_at.store(at, Relaxed);
    }

    /// Counts a message handled, the `message`th of its actor's kinds: `waited` in the mailbox, `ran` in the handler.
    pub fn on_handled(&self, message: usize, items: u32, waited: Nanos, ran: Nanos) {
        self.handled.fetch_add(1, Relaxed);
        self.item_handled.fetch_add(items.into(), Relaxed);
        self.wait_ns.fetch_add(waited, Relaxed);
        self.busy_ns.fetch_add(ran, Relaxed);
        self.kind.on_handled(message, waited, ran);
    }

    /// Items sent and neither handled nor dropped yet.
    pub fn items_queued(&self) -> u64 {
        let gone = self.item_handled.load(Relaxed) + self.item_dropped.load(Relaxed);
        self.item_sent.load(Relaxed).saturating_sub(gone)
    }

    /// Messages sent and neither handled nor dropped yet.
    pub fn depth(&self) -> u64 {
        let gone = self.handled.load(Relaxed) + self.dropped.load(Relaxed);
        self.sent.load(Relaxed).saturating_sub(gone)
    }

    /// Copies the figures.
    pub fn snapshot(&self) -> MeterSnapshot {
        MeterSnapshot {
            message_sent: self.sent.load(Relaxed),
            message_handled: self.handled.load(Relaxed),
            message_dropped: self.dropped.load(Relaxed),
            item_sent: self.item_sent.load(Relaxed),
            item_handled: self.item_handled.load(Relaxed),
            item_dropped: self.item_dropped.load(Relaxed),
            depth: self.depth(),
            oldest_at: self.oldest_at.load(Relaxed),
            depth_peak: self.depth_peak.load(Relaxed),
            busy_ns: self.busy_ns.load(Relaxed),
            wait_ns: self.wait_ns.load(Relaxed),
        }
    }
}

/// A copy of a [`Meter`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeterSnapshot {
    /// Messages sent to the mailbox.
    pub message_sent: u64,
    /// Messages the actor has handled.
    pub message_handled: u64,
    /// Messages refused for want of credit, or left when the actor ended.
    pub message_dropped: u64,
    /// Items (datagrams, for data) in the messages sent.
    pub item_sent: u64,
    /// Items in the messages handled.
    pub item_handled: u64,
    /// Items in the messages dropped.
    pub item_dropped: u64,
    /// Messages in the mailbox now, the one in hand included.
    pub depth: u64,
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
mod tests {
    use super::*;

    fn meter() -> Meter {
        Meter::new(Arc::new(KindMeter::new("test", &["one", "other"])))
    }

    #[test]
    fn sent_is_handled_plus_dropped_plus_queued() {
        let meter = meter();
        for items in [1, 64, 3] {
            meter.on_sent(items, 7);
        }
        meter.on_handled(0, 1, 10, 20);
        meter.on_dropped(64);
        meter.on_refused(5);
        let figures = meter.snapshot();
        assert_eq!(figures.message_sent, figures.message_handled + figures.message_dropped + figures.depth);
        assert_eq!((figures.depth, figures.depth_peak), (1, 3));
        assert_eq!(meter.items_queued(), 3);
        assert_eq!((figures.wait_ns, figures.busy_ns), (10, 20));
    }

    #[test]
    fn histograms_are_the_kinds() {
        let kind = Arc::new(KindMeter::new("test", &["one", "other"]));
        for _ in 0..2 {
            let meter = Meter::new(kind.clone());
            meter.on_sent(1, 0);
            meter.on_handled(1, 1, 5, 7);
        }
        let kind = kind.snapshot();
        assert_eq!((kind.wait.count(), kind.run.count()), (2, 2));
        assert_eq!((kind.messages[0].run.count(), kind.messages[1].run.count()), (0, 2));
    }

    #[test]
    fn the_oldest_message_is_the_first_or_the_one_in_hand() {
        let meter = meter();
        meter.on_sent(1, 100);
        meter.on_sent(1, 200);
        assert_eq!(meter.snapshot().oldest_at, 100);
        meter.on_taken(100);
        meter.on_handled(0, 1, 1, 1);
        meter.on_taken(200);
        assert_eq!((meter.snapshot().oldest_at, meter.snapshot().depth), (200, 1));
    }
}

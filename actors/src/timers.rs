//! The timers of one partition's connections.
//!
//! A connection arms one timer, and only when it wants to be called earlier than it will be anyway; called
//! early, it arms again. Deadlines that only move away (the usual case on a busy connection) cost nothing.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use parking_lot::Mutex;
use tokio::sync::Notify;
use wirepath_trace::{BatchClock, Nanos};

use crate::{connection::ConnectionMessage, kit::Mailbox};

/// No deadline.
const NEVER: Nanos = Nanos::MAX;

/// Deadlines by time. The device actor fires them while it polls; [`Timers::run`] does while it sleeps.
#[derive(Debug)]
pub struct Timers {
    armed: Mutex<BTreeMap<(Nanos, u64), Mailbox<ConnectionMessage>>>,
    earliest: AtomicU64,
    sooner: Notify,
}

impl Default for Timers {
    fn default() -> Self {
        Self { armed: Mutex::default(), earliest: AtomicU64::new(NEVER), sooner: Notify::new() }
    }
}

impl Timers {
    /// Sends `mailbox` a [`ConnectionMessage::Timeout`] once `deadline` has passed. The pair of deadline and
    /// actor is the timer's identity, for [`disarm`](Self::disarm).
    pub fn arm(&self, deadline: Nanos, mailbox: &Mailbox<ConnectionMessage>) {
        let mut armed = self.armed.lock();
        armed.insert((deadline, mailbox.id()), mailbox.clone());
        if deadline < self.earliest.load(Relaxed) {
            self.earliest.store(deadline, Relaxed);
            drop(armed);
            self.sooner.notify_one();
        }
    }

    /// Takes a timer back.
    pub fn disarm(&self, deadline: Nanos, actor: u64) {
        let mut armed = self.armed.lock();
        armed.remove(&(deadline, actor));
        self.remember_earliest(&armed);
    }

    /// Sends the timeouts that are due.
    pub fn fire(&self, now: Nanos) {
        while self.earliest.load(Relaxed) <= now {
            let due = {
                let mut armed = self.armed.lock();
                let due =
                    armed.first_entry().filter(|entry| entry.key().0 <= now).map(|entry| entry.remove());
                self.remember_earliest(&armed);
                due
            };
            if let Some(mailbox) = due {
                // A connection that has ended needs no timeout.
                let _ = mailbox.send(ConnectionMessage::Timeout);
            }
        }
    }

    /// Fires timers until dropped. Coarse, as the runtime's own timers are (1 ms): enough for a partition
    /// that sleeps; one that polls calls [`fire`](Self::fire) itself.
    pub async fn run(&self) {
        loop {
            match self.earliest.load(Relaxed) {
                NEVER => self.sooner.notified().await,
                earliest => {
                    let wake = tokio::time::Instant::from_std(BatchClock::instant(earliest));
                    tokio::select! {
                        () = tokio::time::sleep_until(wake) => self.fire(BatchClock::read()),
                        () = self.sooner.notified() => {}
                    }
                }
            }
        }
    }

    /// Timers armed now.
    pub fn len(&self) -> usize {
        self.armed.lock().len()
    }

    /// Whether no timer is armed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn remember_earliest(&self, armed: &BTreeMap<(Nanos, u64), Mailbox<ConnectionMessage>>) {
        let earliest = armed.first_key_value().map_or(NEVER, |((deadline, _), _)| *deadline);
        self.earliest.store(earliest, Relaxed);
    }
}

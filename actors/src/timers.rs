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

    /// The earliest deadline, if any timer is armed.
    pub fn earliest(&self) -> Option<Nanos> {
        Some(self.earliest.load(Relaxed)).filter(|&earliest| earliest != NEVER)
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

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::sync::mpsc;

    use super::*;
    use crate::kit::{Actor, Context, Spawner, StopReason};

    /// Reports each timeout it gets.
    struct Sleeper(mpsc::UnboundedSender<u64>);

    impl Actor for Sleeper {
        type Message = ConnectionMessage;
        const KIND: &'static str = "sleeper";
        const CREDIT: u32 = 1;

        async fn handle(
            &mut self,
            cx: &Context<ConnectionMessage>,
            message: ConnectionMessage,
        ) -> Result<(), StopReason> {
            assert!(matches!(message, ConnectionMessage::Timeout));
            self.0.send(cx.myself().id()).expect("the test listens");
            Ok(())
        }
    }

    async fn sleepers(n: usize) -> (Vec<Mailbox<ConnectionMessage>>, mpsc::UnboundedReceiver<u64>) {
        let (tell, woken) = mpsc::unbounded_channel();
        let spawner = Spawner::default();
        let mut mailboxes = Vec::new();
        for _ in 0..n {
            mailboxes
                .push(spawner.spawn(String::new(), Sleeper(tell.clone())).await.expect("the runtime is up"));
        }
        (mailboxes, woken)
    }

    #[tokio::test]
    async fn only_what_is_due_fires_and_only_once() {
        let (sleepers, mut woken) = sleepers(3).await;
        let timers = Timers::default();
        timers.arm(300, &sleepers[2]);
        timers.arm(100, &sleepers[0]);
        timers.arm(200, &sleepers[1]);
        timers.fire(99);
        assert_eq!(timers.len(), 3);
        timers.fire(200);
        assert_eq!(
            [woken.recv().await, woken.recv().await],
            [Some(sleepers[0].id()), Some(sleepers[1].id())]
        );
        timers.disarm(300, sleepers[2].id());
        timers.fire(1000);
        assert!(timers.is_empty() && woken.try_recv().is_err());
    }

    #[tokio::test]
    async fn the_task_wakes_for_a_sooner_timer_than_it_sleeps_for() {
        let (sleepers, mut woken) = sleepers(2).await;
        let timers = Arc::new(Timers::default());
        let task = tokio::spawn({
            let timers = timers.clone();
            async move { timers.run().await }
        });
        let now = BatchClock::read();
        timers.arm(now + Duration::from_secs(3600).as_nanos() as Nanos, &sleepers[0]);
        tokio::task::yield_now().await;
        timers.arm(now + Duration::from_millis(2).as_nanos() as Nanos, &sleepers[1]);
        assert_eq!(woken.recv().await, Some(sleepers[1].id()));
        task.abort();
    }
}

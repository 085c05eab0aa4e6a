//! What becomes of an interface while it is in use, and what is done about it.
//!
//! Netlink tells that something happened; what it was is found by comparing the interface with what it was. So
//! no event is vital, and a burst of them is looked at once. Two things netlink tells nobody (a program taken off
//! by force, a change of the queue count) are looked for every second.
//!
//! | what happens | what is done |
//! |---|---|
//! | link down, up | told; the XSKs stay bound, and go on when it is up |
//! | renamed | told; everything goes by the index |
//! | hardware address changed | told; the route table has the new one |
//! | addresses changed | redirect is limited to the new ones |
//! | MTU changed | the XSKs are opened anew, with UMEM frames to fit; a lower one is told to connections first |
//! | more queues | an XSK is opened on each |
//! | deleted | XSKs and program are let go; connections go on over OS UDP |
//! | made again, by the same name | attached and opened as at first |
//! | program taken off by force | as if deleted; attached again once nobody else's is there |
//! | helper ended, or took the lease back | likewise; leased again once there is one |
//! | no program at first: no helper there, or somebody else's program is | attached once it can be, likewise |

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{broadcast, oneshot};
use wirepath_drivers::{
    AfXdpOptions, DriverError, LinkEvent, NextHops, Nic as Interface, RouteTable, XdpAttachment, XdpOptions,
};

use super::{Nic, NicMessage, NicState};
use crate::{
    kit::{Context, Mailbox},
    nic_queue::{NicQueueMessage, QueueParts, QueueState},
    partition::PartitionMessage,
};

/// How often a look is taken without netlink telling anything: some ten system calls.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Wait before a program that was taken off is attached again; doubled each time. Long enough for whoever took
/// it off to put another in its place.
const FIRST_ATTACH_WAIT: Duration = Duration::from_secs(1);

/// The longest of these waits.
const LONGEST_ATTACH_WAIT: Duration = Duration::from_secs(30);

/// What the actor needs to care for its interface.
pub struct Care {
    /// The interface, as it was when last looked at.
    pub interface: Interface,
    /// How its program is to be attached.
    pub options: XdpOptions,
    /// The routes out of it.
    pub routes: RouteTable,
    /// How its queues' XSKs are to be opened.
    pub plan: QueuePlan,
    /// The partitions that serve queues, in turn.
    pub partitions: Vec<Mailbox<PartitionMessage>>,
    /// Where it tells how the interface is.
    pub state: Arc<NicState>,
    queues: Vec<Mailbox<NicQueueMessage>>,
    /// Without a program: since when, and what next.
    lapse: Option<Lapse>,
}

/// The time without a program.
#[derive(Debug)]
enum Lapse {
    /// The interface is gone.
    Gone,
    /// To be attached at this time, or later if that fails.
    Detached { due: Instant, wait: Duration },
}

/// How the XSKs of an interface are opened.
#[derive(Clone)]
pub struct QueuePlan {
    /// As for queue 0.
    pub options: AfXdpOptions,
    /// Makes an XSK's view of the routes.
    pub next_hops: Arc<dyn Fn() -> Box<dyn NextHops> + Send + Sync>,
    /// The queues to serve, as far as the interface has them; others are somebody else's.
    pub queues: Range<u32>,
}

impl QueuePlan {
    /// Of the queues to serve, those that the interface has and that are allowed. An interface has at least one.
    pub fn queues_of(&self, interface: &Interface, allowed: &Range<u32>) -> Range<u32> {
        let end = self.queues.end.min(allowed.end).min(interface.queues.rx.max(1));
        self.queues.start.max(allowed.start).min(end)..end
    }

    /// What the actor of a queue is made of.
    pub fn parts(
        &self,
        queue: u32,
        attachment: &XdpAttachment,
        nic: &Mailbox<NicMessage>,
        opened: Option<oneshot::Sender<Result<(), DriverError>>>,
    ) -> QueueParts {
        QueueParts {
            options: AfXdpOptions { queue, interface: attachment.interface.clone(), ..self.options.clone() },
            attachment: attachment.clone(),
            nic: nic.clone(),
            next_hops: self.next_hops.clone(),
            state: Arc::new(QueueState::default()),
            opened,
        }
    }
}

impl Care {
    /// Of an interface whose program is attached, and which has no queues yet.
    pub fn new(
        interface: Interface,
        options: XdpOptions,
        routes: RouteTable,
        plan: QueuePlan,
        partitions: Vec<Mailbox<PartitionMessage>>,
    ) -> Self {
        let state = Arc::new(NicState::new(&interface));
        Self { interface, options, routes, plan, partitions, state, queues: Vec::new(), lapse: None }
    }

    /// Looks whenever netlink tells of a change, and every now and then.
    pub(super) fn watch(&self, nic: Mailbox<NicMessage>) {
        let mut events = self.routes.link_events();
        tokio::spawn(async move {
            let mut every = tokio::time::interval(LOOK_INTERVAL);
            loop {
                tokio::select! {
                    event = events.recv() => if matches!(event, Err(broadcast::error::RecvError::Closed)) { return },
                    _ = every.tick() => {}
                }
                discard(&mut events);
                // The interface is looked after no longer.
                if nic.send(NicMessage::Look).is_err() {
                    return;
                }
            }
        });
    }

    /// There is no program at first, for this reason.
    pub(super) fn await_program(&mut self, why: &DriverError) {
        self.state.set_trouble(Some(why.to_string()));
        let due = Instant::now() + FIRST_ATTACH_WAIT;
        self.lapse = Some(Lapse::Detached { due, wait: FIRST_ATTACH_WAIT });
    }

    fn tell_queues(&self, message: impl Fn() -> NicQueueMessage) {
        for queue in &self.queues {
            // A queue that has ended with its partition needs nothing.
            let _ = queue.send(message());
        }
    }

    fn close_queues(&self, why: &str) {
        self.state.set_trouble(Some(why.to_owned()));
        self.tell_queues(|| NicQueueMessage::Close(why.to_owned()));
    }
}

/// What else came in the same burst.
fn discard(events: &mut broadcast::Receiver<LinkEvent>) {
    use broadcast::error::TryRecvError::{Closed, Empty};
    while !matches!(events.try_recv(), Err(Empty | Closed)) {}
}

impl Nic {
    pub(super) fn serve(&mut self, queues: Vec<Mailbox<NicQueueMessage>>) {
        self.care.queues = queues;
    }

    /// Compares the interface with what it was.
    pub(super) async fn look(&mut self, cx: &Context<NicMessage>) {
        if !matches!(self.care.lapse, Some(Lapse::Gone)) {
            match Interface::by_index(self.care.interface.index) {
                Ok(now) => return self.compare(now, cx).await,
                Err(DriverError::NoInterface { .. }) => self.on_gone(),
                Err(error) => return tracing::warn!(%error, "the interface can't be looked at"),
            }
        }
        if let Ok(again) = Interface::by_name(&self.care.interface.name) {
            self.on_made_again(again, cx).await;
        }
    }

    async fn compare(&mut self, now: Interface, cx: &Context<NicMessage>) {
        let was = std::mem::replace(&mut self.care.interface, now.clone());
        let interface = now.name.as_str();
        if now.name != was.name {
            tracing::info!(interface, was = was.name, "the interface was renamed");
            self.care.tell_queues(|| NicQueueMessage::Rename(now.name.clone()));
        }
        if now.link != was.link {
            tracing::info!(interface, up = now.link.is_up(), "the link has changed");
        }
        if now.mac != was.mac {
            tracing::info!(interface, mac = ?now.mac, "the hardware address has changed");
        }
        if now != was {
            self.care.state.set_interface(&now);
        }
        if now.addresses != was.addresses {
            self.on_addresses();
        }
        match &self.program {
            Some(program) => match program.lapsed() {
                Some(why) => self.on_lapsed(&why),
                None => self.on_shape(&was, &now, cx).await,
            },
            None => self.attach(cx).await,
        }
    }

    fn on_addresses(&mut self) {
        if let Err(error) = self.limit_to(super::state::addresses(&self.care.interface)) {
            tracing::warn!(%error, "redirect could not be limited to the interface's new addresses");
        }
    }

    async fn on_shape(&mut self, was: &Interface, now: &Interface, cx: &Context<NicMessage>) {
        if self.wanted_queues().len() != self.care.queues.len() && !self.care.queues.is_empty() {
            tracing::info!(interface = now.name, queues = now.queues.rx, "the number of queues has changed");
            self.fit_queues(cx).await;
        }
        let up_again = now.link.admin_up && !was.link.admin_up;
        if now.mtu < was.mtu {
            let queues = self.care.state.queues();
            queues.iter().filter_map(|queue| queue.egress()).for_each(|it| it.limit_to_mtu(now.mtu));
        }
        if now.mtu != was.mtu {
            tracing::info!(
                interface = now.name,
                mtu = now.mtu,
                "the MTU has changed; the XSKs are opened anew"
            );
            self.reopen_queues(|_| true);
        } else if up_again {
            // Those that were given up while it was down.
            self.reopen_queues(|queue| queue.egress().is_none());
        }
    }

    fn reopen_queues(&self, which: impl Fn(&QueueState) -> bool) {
        let Some(attachment) = self.program.as_ref().and_then(|program| program.attachment()) else { return };
        // It may have been renamed since.
        let attachment = XdpAttachment { interface: self.care.interface.name.clone(), ..attachment.clone() };
        for (queue, state) in self.care.queues.iter().zip(self.care.state.queues()) {
            if which(&state) {
                let _ = queue.send(NicQueueMessage::Reopen(attachment.clone()));
            }
        }
    }

    /// Those that are wanted, the interface has, and the program may serve.
    fn wanted_queues(&self) -> Range<u32> {
        let allowed = self.program.as_ref().map_or(0..u32::MAX, |program| program.queues());
        self.care.plan.queues_of(&self.care.interface, &allowed)
    }

    /// Opens queues that came, lets go of those that went.
    async fn fit_queues(&mut self, cx: &Context<NicMessage>) {
        let wanted = self.wanted_queues();
        let attachment = self.program.as_ref().and_then(|program| program.attachment()).cloned();
        for gone in self.care.queues.drain(self.care.queues.len().min(wanted.len())..) {
            let _ = gone.send(NicQueueMessage::Close("the interface has no such queue any more".into()));
        }
        self.care.state.keep_queues(wanted.len());
        let Some(attachment) = attachment else { return };
        for (place, queue) in wanted.enumerate().skip(self.care.queues.len()) {
            let parts = self.care.plan.parts(queue, &attachment, cx.myself(), None);
            let state = parts.state.clone();
            let partition = &self.care.partitions[place % self.care.partitions.len()];
            let (reply, started) = oneshot::channel();
            let _ = partition.send(PartitionMessage::Serve(Box::new(parts), reply));
            // Only a partition that is ending starts none.
            let Ok(actor) = started.await else { return };
            self.care.queues.push(actor);
            self.care.state.add_queue(state);
        }
    }

    fn on_gone(&mut self) {
        let why = format!("{} was deleted", self.care.interface.name);
        tracing::warn!("{why}; OS UDP carries on");
        self.program = None;
        self.care.lapse = Some(Lapse::Gone);
        self.care.close_queues(&why);
    }

    async fn on_made_again(&mut self, now: Interface, cx: &Context<NicMessage>) {
        tracing::info!(interface = now.name, index = now.index, "the interface was made again");
        self.care.routes.serve(now.index).await;
        self.care.state.set_interface(&now);
        self.care.interface = now;
        self.care.lapse = Some(Lapse::Detached { due: Instant::now(), wait: FIRST_ATTACH_WAIT });
        self.on_addresses();
        self.attach(cx).await;
    }

    fn on_lapsed(&mut self, why: &str) {
        tracing::warn!("{why}; OS UDP carries on");
        self.program = None;
        let due = Instant::now() + FIRST_ATTACH_WAIT;
        self.care.lapse = Some(Lapse::Detached { due, wait: FIRST_ATTACH_WAIT });
        self.care.close_queues(why);
    }

    /// Attaches the program again, if it is time and the interface is up: XSKs can't be bound before.
    async fn attach(&mut self, cx: &Context<NicMessage>) {
        let Some(Lapse::Detached { due, wait }) = self.care.lapse else { return };
        let now = Instant::now();
        if now < due || !self.care.interface.link.admin_up {
            return;
        }
        let interface = self.care.interface.name.clone();
        // It may wait for a helper, and packets wait for this thread.
        let (access, name, options) =
            (self.care.plan.options.access.clone(), interface.clone(), self.care.options);
        let queues = self.care.plan.queues.clone();
        let attaching = tokio::task::spawn_blocking(move || access.attach(&name, options, queues));
        let attached = attaching.await.unwrap_or_else(|error| Err(DriverError::Gone(error.to_string())));
        let attached = attached.and_then(|program| {
            self.care.state.set_program(&program);
            self.program = Some(program);
            self.install()
        });
        match attached {
            Ok(()) => {
                tracing::info!(
                    interface,
                    first = self.is_awaited,
                    "the XDP program is attached now; AF_XDP is used"
                );
                (self.is_awaited, self.care.lapse) = (false, None);
                self.care.state.set_trouble(None);
                self.reopen_queues(|_| true);
                self.fit_queues(cx).await;
            }
            Err(error) => {
                self.program = None;
                tracing::warn!(interface, %error, ?wait, "the XDP program can't be attached yet");
                self.care.state.set_trouble(Some(error.to_string()));
                let next = (wait * 2).min(LONGEST_ATTACH_WAIT);
                self.care.lapse = Some(Lapse::Detached { due: now + wait, wait: next });
            }
        }
    }
}

//! The device actor: owns one network device (an XSK with its four rings, or an OS UDP socket), polls it, and
//! sends what bindings hand it.
//!
//! While packets flow it polls without sleeping: each turn it handles what is there, lets the other actors of
//! its partition run, and comes back. After [`DeviceOptions::spin`] without a packet it sleeps until the
//! kernel reports one.

mod outbound;
mod report;
mod sleep;

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
    time::Duration,
};

use wirepath_drivers::{Driver, DriverError, TxDatagram, TxProgress};
use wirepath_trace::{BatchClock, Nanos, Passed, Sampler, Tracer};

use outbound::Outbound;
pub use report::DeviceReport;
use sleep::Sleeper;

use crate::{
    demux::{DemuxMessage, RxSample},
    egress::Egress,
    kit::{Actor, Context, Slot, StopReason},
    tables::Tables,
    timers::Timers,
    traced::Traced,
};

/// Packets taken from the device in one turn: one message to the demux. Larger batches save little more (a
/// message costs about 7 ns an item at 64) and make the first packet wait for the last.
pub const RX_BATCH: usize = 64;

/// Datagrams that may wait in the device's mailbox and queue together. Twice the largest transmit ring, so
/// that the ring, not the mailbox, is what fills.
const TX_CREDIT: u32 = 8192;

/// How long a device polls for one message to itself, unless others come: a message costs more than a poll in vain, and
/// an order to stop waits for the end of the message in hand.
const POLLED_AT_ONCE: Nanos = 1_000_000;

/// How often a busy device publishes its status and counters.
const REPORT_INTERVAL: Nanos = 10_000_000;

/// What a device actor understands.
#[derive(Debug)]
pub enum DeviceMessage {
    /// Look for packets, and come back as long as they flow.
    Poll,
    /// Send these; some of them may be sampled.
    Transmit(Vec<TxDatagram>, Traced),
}

/// What a device actor needs besides its device.
#[derive(Debug)]
pub struct DeviceOptions {
    /// Where received packets go.
    pub demux: Arc<Slot<DemuxMessage>>,
    /// The partition's timers, fired while polling.
    pub timers: Arc<Timers>,
    /// The stack's tables: where QTIP has its flows.
    pub tables: Arc<Tables>,
    /// How long to poll on after the last packet before sleeping.
    pub spin: Duration,
    /// Samples datagrams.
    pub tracer: Arc<Tracer>,
}

/// A network device, as an actor.
pub struct Device<D> {
    driver: D,
    options: DeviceOptions,
    egress: Arc<OnceLock<Arc<Egress>>>,
    report: Arc<DeviceReport>,
    sleeper: Option<Sleeper>,
    queue: VecDeque<TxDatagram>,
    /// Whether the device has taken datagrams that it could not send yet.
    blocked: bool,
    active_at: Nanos,
    reported_at: Nanos,
    sampler: Sampler,
    outbound: Outbound,
    actor: u64,
}

impl<D> std::fmt::Debug for Device<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").field("queued", &self.queue.len()).finish_non_exhaustive()
    }
}

impl<D: Driver> Device<D> {
    /// The actor for `driver`. Its [`Egress`] appears in the returned cell when it starts.
    pub fn new(driver: D, options: DeviceOptions) -> (Self, Arc<OnceLock<Arc<Egress>>>, Arc<DeviceReport>) {
        let egress = Arc::new(OnceLock::new());
        let report = Arc::new(DeviceReport::new(driver.status()));
        let device = Self {
            driver,
            options,
            egress: egress.clone(),
            report: report.clone(),
            sleeper: None,
            queue: VecDeque::new(),
            blocked: false,
            active_at: 0,
            reported_at: 0,
            sampler: Sampler::default(),
            outbound: Outbound::default(),
            actor: 0,
        };
        (device, egress, report)
    }

    /// Turns until there is mail, or nothing to poll for any more.
    async fn poll(&mut self, cx: &Context<DeviceMessage>) -> Result<(), DriverError> {
        let begun = BatchClock::last();
        let mut now = begun;
        while self.turn(cx, now)? {
            tokio::task::yield_now().await;
            now = BatchClock::read();
            // This message counts as one that waits.
            if cx.myself().meter().depth() > 1 || now - begun > POLLED_AT_ONCE {
                // Only fails when this very actor is ending.
                let _ = cx.myself().send(DeviceMessage::Poll);
                return Ok(());
            }
        }
        self.publish(now);
        if let Some(sleeper) = &self.sleeper {
            sleeper.sleep(self.driver.poll_within());
        }
        Ok(())
    }

    /// One turn: receive a batch, fire timers, send what is queued. `false`: go to sleep.
    fn turn(&mut self, cx: &Context<DeviceMessage>, now: Nanos) -> Result<bool, DriverError> {
        if self.receive(now)? > 0 || !self.queue.is_empty() || self.blocked {
            self.active_at = now;
        }
        self.options.timers.fire(now);
        self.flush(cx)?;
        let spinning = now.saturating_sub(self.active_at) <= self.options.spin.as_nanos() as Nanos;
        if !spinning && self.sleeper.is_some() {
            return Ok(false);
        }
        if now - self.reported_at > REPORT_INTERVAL {
            self.publish(now);
        }
        Ok(true)
    }

    fn receive(&mut self, now: Nanos) -> Result<usize, DriverError> {
        let Some(demux) = self.options.demux.mailbox().filter(|demux| demux.has_credit(RX_BATCH as u32))
        else {
            // Left where they are: the ring (or socket buffer) is the place to wait, and to overflow by count.
            return Ok(0);
        };
        let mut packets = Vec::new();
        let received = self.driver.receive(&mut packets, RX_BATCH)?;
        if self.outbound.is_in_kernel() {
            self.outbound.on_completed(self.driver.tx_counts(), BatchClock::read());
        }
        if received > 0 {
            let via = self.egress.get().expect("set when the actor started").clone();
            // Refused only if the demux is between lives: its drop counter tells.
            let sample = RxSample::of(&mut self.sampler, &self.options.tracer, received as u32);
            via.device().meter().on_passed(Passed::Up, received as u32);
            let message = DemuxMessage { packets, via, received_at: now, sample };
            let _ = demux.send_data(message, received as u32);
        }
        Ok(received)
    }

    /// Sends what is queued, here or in the device, and tells those who wait for room once no more is on its way here.
    fn flush(&mut self, cx: &Context<DeviceMessage>) -> Result<(), DriverError> {
        if !self.queue.is_empty() || self.blocked || self.driver.poll_within().is_some() {
            self.blocked = if self.outbound.is_queued() {
                self.transmit_traced()?
            } else {
                self.driver.transmit(&mut self.queue)? == TxProgress::Blocked
            };
        }
        // The message in hand is counted. While others wait, those who sent them must not send more.
        if self.blocked || cx.myself().meter().depth() > 1 {
            return Ok(());
        }
        self.egress.get().expect("set when the actor started").on_room();
        Ok(())
    }

    /// As [`Driver::transmit`], with an eye on the clock and on who leaves.
    #[cold]
    fn transmit_traced(&mut self) -> Result<bool, DriverError> {
        let (begun, queued) = (BatchClock::read(), self.queue.len());
        let progress = self.driver.transmit(&mut self.queue)?;
        let left = queued - self.queue.len();
        self.outbound.on_flushed(self.actor, left, begun, BatchClock::read(), self.driver.tx_counts());
        Ok(progress == TxProgress::Blocked)
    }

    fn publish(&mut self, now: Nanos) {
        self.reported_at = now;
        self.report.publish(self.driver.status(), self.driver.stats());
    }
}

impl<D: Driver> Actor for Device<D> {
    type Message = DeviceMessage;
    const KIND: &'static str = "device";
    const CREDIT: u32 = TX_CREDIT;
    const MESSAGES: &'static [&'static str] = &["poll", "transmit"];

    fn message_kind(message: &DeviceMessage) -> usize {
        match message {
            DeviceMessage::Poll => 0,
            DeviceMessage::Transmit(..) => 1,
        }
    }

    fn items(message: &DeviceMessage) -> Option<u32> {
        Some(match message {
            DeviceMessage::Poll => 0,
            DeviceMessage::Transmit(datagrams, _) => datagrams.len() as u32,
        })
    }

    fn started(&mut self, cx: &Context<DeviceMessage>) {
        self.actor = cx.myself().id();
        let egress = Egress::new(
            cx.myself().clone(),
            self.driver.tx_pool(),
            self.driver.max_segments(),
            [self.driver.max_udp_payload_v4(), self.driver.max_udp_payload()],
        );
        let egress = match self.driver.sends_tcp() {
            true => egress.with_qtip(self.options.tables.clone()),
            false => egress,
        };
        self.egress.set(Arc::new(egress)).expect("a device starts once");
        self.sleeper = Sleeper::start(self.driver.readiness(), cx.myself());
        // Only fails when this very actor is ending.
        let _ = cx.myself().send(DeviceMessage::Poll);
    }

    async fn handle(
        &mut self,
        cx: &Context<DeviceMessage>,
        message: DeviceMessage,
    ) -> Result<(), StopReason> {
        let outcome = match message {
            DeviceMessage::Poll => self.poll(cx).await,
            DeviceMessage::Transmit(datagrams, traced) => {
                if !traced.is_empty() {
                    self.outbound.enter(traced, self.queue.len(), BatchClock::last());
                }
                datagrams.iter().for_each(|datagram| datagram.buf.hold(self.actor as u32));
                self.queue.extend(datagrams);
                self.active_at = BatchClock::last();
                if let Some(sleeper) = &self.sleeper {
                    sleeper.wake();
                }
                // More mail behind this message: let it join the same kick.
                let last = cx.myself().meter().depth() <= 1;
                if last || self.queue.len() >= RX_BATCH { self.flush(cx) } else { Ok(()) }
            }
        };
        outcome.map_err(|error| StopReason::Failed(error.to_string()))
    }
}

/// However it ended: connections that wait for room here go on another way.
impl<D> Drop for Device<D> {
    fn drop(&mut self) {
        if let Some(egress) = self.egress.get() {
            egress.end();
        }
    }
}

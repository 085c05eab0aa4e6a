//! The NIC queue actor: owns one RSS queue's place in the XSKMAP and the life of its XSK.
//!
//! An XSK that fails is opened again with back-off; one that keeps failing is given up, and traffic goes on
//! over the OS UDP sockets, which are there all the time.

use std::{fmt, os::fd::AsFd, sync::Arc, time::Duration};

use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;
use wirepath_drivers::{AfXdp, AfXdpOptions, DriverError, NextHops, XdpAttachment, XdpMode};

use crate::{
    device::{Device, DeviceMessage, DeviceOptions, DeviceReport},
    egress::Egress,
    kit::{Actor, ChildExit, Context, ExitCause, Mailbox, StopReason},
    nic::NicMessage,
    partition::PartitionParts,
};

/// Failures in a row after which a queue is given up: with the back-off below, about 13 seconds.
const MAX_ATTEMPTS: u32 = 8;

/// Wait before the first new attempt; doubled each time.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);

/// What a NIC queue actor understands.
#[derive(Debug)]
pub enum NicQueueMessage {
    /// Open the XSK (again).
    Open,
    /// Let go of the XSK and open another: the NIC's program is attached as told.
    Reopen(XdpAttachment),
    /// Let go of the XSK, for this reason, until told otherwise.
    Close(String),
    /// The interface has another name.
    Rename(String),
}

/// What a NIC queue actor is made of.
pub struct QueueParts {
    /// How to open the XSK.
    pub options: AfXdpOptions,
    /// How the NIC's program is attached: the XSK's mode, and why it is not a better one.
    pub attachment: XdpAttachment,
    /// The NIC's actor.
    pub nic: Mailbox<NicMessage>,
    /// Makes the XSK's view of the routes.
    pub next_hops: Arc<dyn Fn() -> Box<dyn NextHops> + Send + Sync>,
    /// Where the queue tells how it is.
    pub state: Arc<QueueState>,
    /// Told how the first attempt went.
    pub opened: Option<oneshot::Sender<Result<(), DriverError>>>,
}

impl fmt::Debug for QueueParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueParts").field("options", &self.options).finish_non_exhaustive()
    }
}

impl QueueParts {
    /// What to call the queue.
    pub fn name(&self) -> String {
        format!("{}/{}", self.options.interface, self.options.queue)
    }
}

/// One queue, as others see it.
#[derive(Debug, Default)]
pub struct QueueState {
    egress: RwLock<Option<Arc<Egress>>>,
    report: Mutex<Option<Arc<DeviceReport>>>,
    trouble: Mutex<Option<String>>,
}

impl QueueState {
    /// The way out through the queue's XSK, while there is one.
    pub fn egress(&self) -> Option<Arc<Egress>> {
        self.egress.read().clone()
    }

    /// The XSK's status and counters, as of the last one there was.
    pub fn report(&self) -> Option<Arc<DeviceReport>> {
        self.report.lock().clone()
    }

    /// Why there is no XSK now.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }
}

/// One RSS queue, as an actor.
pub struct NicQueue {
    parts: QueueParts,
    partition: PartitionParts,
    xsk: Option<Mailbox<DeviceMessage>>,
    /// The way out through the last XSK there was.
    former: Option<Arc<Egress>>,
    attempts: u32,
    /// Told to have no XSK.
    closed: bool,
}

impl fmt::Debug for NicQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NicQueue({})", self.parts.name())
    }
}

impl NicQueue {
    /// The actor for a queue, on its partition.
    pub fn new(parts: QueueParts, partition: PartitionParts) -> Self {
        Self { parts, partition, xsk: None, former: None, attempts: 0, closed: false }
    }

    async fn open(&mut self, cx: &Context<NicQueueMessage>) -> Result<(), StopReason> {
        if self.closed || self.xsk.is_some() {
            // An attempt that was put off, and meanwhile overtaken.
            return Ok(());
        }
        let outcome = self.start_xsk(cx).await;
        *self.parts.state.trouble.lock() = outcome.as_ref().err().map(ToString::to_string);
        let failure = outcome.as_ref().err().map(ToString::to_string);
        if let Some(opened) = self.parts.opened.take() {
            // The first attempt is its asker's to judge; there is no second if it failed.
            let failed = outcome.is_err();
            let _ = opened.send(outcome);
            return if failed { Err(StopReason::Done) } else { Ok(()) };
        }
        match failure {
            None => self.attempts = 0,
            Some(why) => self.retry(cx, &why),
        }
        Ok(())
    }

    async fn start_xsk(&mut self, cx: &Context<NicQueueMessage>) -> Result<(), DriverError> {
        let (options, next_hops) = (self.parts.options.clone(), (self.parts.next_hops)());
        // It waits for a former XSK to let go of the queue, which this thread may have to close first.
        let opening = tokio::task::spawn_blocking(move || AfXdp::open(&options, next_hops));
        let mut driver = opening.await.map_err(|error| DriverError::Gone(error.to_string()))??;
        let attachment = &self.parts.attachment;
        driver.attached(attachment.mode == XdpMode::Driver, &attachment.reason);
        if driver.takes_transmitter() {
            let (reply, made) = oneshot::channel();
            let _ = self.parts.nic.send(NicMessage::Transmitter(self.parts.options.queue, reply));
            // Without one, all goes through the TX ring.
            if let Ok(Some(transmitter)) = made.await {
                driver.transmit_through(transmitter);
            }
        }
        let fd = driver
            .as_fd()
            .try_clone_to_owned()
            .map_err(|source| DriverError::Io { what: "duplicating the XSK's descriptor", source })?;
        let options = DeviceOptions {
            demux: self.partition.demux.clone(),
            timers: self.partition.timers.clone(),
            tables: self.partition.tables.clone(),
            spin: self.partition.spin,
            tracer: self.partition.tables.tracer.clone(),
        };
        let (device, egress, report) = Device::new(driver, options);
        let xsk = cx
            .spawn(self.parts.name(), device)
            .await
            .map_err(|error| DriverError::Gone(error.to_string()))?;
        let (reply, registered) = oneshot::channel();
        let _ = self.parts.nic.send(NicMessage::Register(self.parts.options.queue, fd, reply));
        let outcome =
            registered.await.unwrap_or_else(|_| Err(DriverError::Gone("its NIC actor has ended".into())));
        if let Err(error) = outcome {
            xsk.stop();
            return Err(error);
        }
        let egress = egress.get().cloned();
        if let (Some(former), Some(egress)) = (&self.former, &egress) {
            former.succeed(egress);
        }
        self.former.clone_from(&egress);
        *self.parts.state.egress.write() = egress;
        *self.parts.state.report.lock() = Some(report);
        self.xsk = Some(xsk);
        Ok(())
    }

    async fn reopen(
        &mut self,
        cx: &Context<NicQueueMessage>,
        attachment: XdpAttachment,
    ) -> Result<(), StopReason> {
        self.close("it is being opened anew".to_owned());
        self.parts.options.interface.clone_from(&attachment.interface);
        self.parts.attachment = attachment;
        (self.closed, self.attempts) = (false, 0);
        self.open(cx).await
    }

    fn close(&mut self, why: String) {
        self.closed = true;
        *self.parts.state.egress.write() = None;
        *self.parts.state.trouble.lock() = Some(why);
        if let Some(xsk) = self.xsk.take() {
            xsk.stop();
        }
    }

    /// Tries again later, or gives up.
    fn retry(&mut self, cx: &Context<NicQueueMessage>, why: &str) {
        self.attempts += 1;
        if self.attempts > MAX_ATTEMPTS {
            tracing::error!(queue = self.parts.name(), why, "AF_XDP is given up here; OS UDP carries on");
            return;
        }
        let wait = FIRST_BACKOFF * 2u32.pow(self.attempts - 1);
        tracing::warn!(queue = self.parts.name(), why, ?wait, "the XSK failed and is opened again");
        let myself = cx.myself().clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            // Ended meanwhile: then nobody wants the XSK.
            let _ = myself.send(NicQueueMessage::Open);
        });
    }
}

impl Actor for NicQueue {
    type Message = NicQueueMessage;
    const KIND: &'static str = "nic_queue";
    const CREDIT: u32 = u32::MAX;
    const MESSAGES: &'static [&'static str] = &["open", "reopen", "close", "rename"];

    fn message_kind(message: &NicQueueMessage) -> usize {
        match message {
            NicQueueMessage::Open => 0,
            NicQueueMessage::Reopen(_) => 1,
            NicQueueMessage::Close(_) => 2,
            NicQueueMessage::Rename(_) => 3,
        }
    }

    fn started(&mut self, cx: &Context<NicQueueMessage>) {
        // Only fails when this very actor is ending.
        let _ = cx.myself().send(NicQueueMessage::Open);
    }

    async fn handle(
        &mut self,
        cx: &Context<NicQueueMessage>,
        message: NicQueueMessage,
    ) -> Result<(), StopReason> {
        match message {
            NicQueueMessage::Open => return self.open(cx).await,
            NicQueueMessage::Reopen(attachment) => return self.reopen(cx, attachment).await,
            NicQueueMessage::Close(why) => self.close(why),
            NicQueueMessage::Rename(interface) => self.parts.options.interface = interface,
        }
        Ok(())
    }

    async fn child_exited(
        &mut self,
        cx: &Context<NicQueueMessage>,
        exit: ChildExit,
    ) -> Result<(), StopReason> {
        if self.xsk.take_if(|xsk| xsk.is(exit.child)).is_some() {
            let why = match exit.cause {
                ExitCause::Stopped => "it was stopped".to_owned(),
                ExitCause::Failed(why) => why,
            };
            *self.parts.state.egress.write() = None;
            *self.parts.state.trouble.lock() = Some(why.clone());
            self.retry(cx, &why);
        }
        Ok(())
    }
}

impl Drop for NicQueue {
    fn drop(&mut self) {
        *self.parts.state.egress.write() = None;
    }
}

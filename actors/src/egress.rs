//! The way out: a device as those who send through it see it.

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
};

use parking_lot::Mutex;
use wirepath_drivers::{FrameSight, PacketBuf, TxDatagram, TxPool, UmemAudit};
use wirepath_quic::NetPath;
use wirepath_trace::BatchClock;
use wirepath_wire::TCP_EXTRA_LEN;

use crate::{
    connection::ConnectionMessage,
    device::DeviceMessage,
    kit::Mailbox,
    qtip::{Sent, Verdict},
    tables::Tables,
    traced::Traced,
};

/// IPv4 and UDP header.
const IPV4_UDP_LEN: u32 = 28;

/// IPv6 and UDP header.
const IPV6_UDP_LEN: u32 = 48;

/// One device's transmit side, shared by all bindings that send through it.
pub struct Egress {
    device: Mailbox<DeviceMessage>,
    pool: Arc<dyn TxPool>,
    max_segments: usize,
    /// Over IPv4 and over IPv6.
    max_udp_payload: [AtomicU16; 2],
    /// The only local port it can send from, if it is a socket of the operating system.
    port: OnceLock<u16>,
    waiting: Mutex<Vec<Mailbox<ConnectionMessage>>>,
    ended: AtomicBool,
    /// The device opened in the place of this one.
    successor: OnceLock<Arc<Self>>,
    /// How datagrams leave in TCP segments, where the device can.
    qtip: Option<Arc<Self>>,
    /// Where the flows are, if this is that way.
    flows: Option<Arc<Tables>>,
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "egress through {:?}", self.device)
    }
}

impl Egress {
    /// The transmit side of `device`.
    pub fn new(
        device: Mailbox<DeviceMessage>,
        pool: Arc<dyn TxPool>,
        max_segments: usize,
        max_udp_payload: [u16; 2],
    ) -> Self {
        Self {
            device,
            pool,
            max_segments,
            max_udp_payload: max_udp_payload.map(AtomicU16::new),
            port: OnceLock::new(),
            waiting: Mutex::default(),
            ended: AtomicBool::new(false),
            successor: OnceLock::new(),
            qtip: None,
            flows: None,
        }
    }

    /// Adds a second way: by QTIP, with flows in these tables.
    #[must_use]
    pub fn with_qtip(mut self, tables: Arc<Tables>) -> Self {
        let (device, pool) = (self.device.clone(), self.pool.clone());
        let max_udp_payload =
            self.max_udp_payload.each_ref().map(|len| len.load(Ordering::Relaxed) - TCP_EXTRA_LEN as u16);
        let qtip = Self::new(device, pool, 1, max_udp_payload);
        self.qtip = Some(Arc::new(Self { flows: Some(tables), ..qtip }));
        self
    }

    /// The way by QTIP.
    pub fn qtip(&self) -> Option<&Arc<Self>> {
        self.qtip.as_ref()
    }

    /// Whether datagrams leave in TCP segments.
    pub fn is_qtip(&self) -> bool {
        self.flows.is_some()
    }

    /// The device is a socket bound to this local port, and sends from no other.
    pub(crate) fn bind(&self, port: u16) {
        // Once, when the socket is bound.
        let _ = self.port.set(port);
    }

    /// Whether it can send from a local port.
    pub fn sends_from(&self, port: u16) -> bool {
        self.port.get().is_none_or(|own| *own == port)
    }

    /// Leases memory for up to `segments` datagrams of one train; `None` when the pool is empty.
    pub fn lease(&self, segments: usize) -> Option<PacketBuf> {
        self.pool.lease(segments)
    }

    /// Bytes of a leased buffer, headroom included.
    pub fn frame_size(&self) -> usize {
        self.pool.datagram_capacity() + wirepath_drivers::TX_HEADROOM
    }

    /// Where the UMEM frames are, if the device has some.
    pub fn census(&self) -> Option<UmemAudit> {
        self.pool.census()
    }

    /// What is to be seen of each UMEM frame; empty if the device has none.
    pub fn sights(&self) -> Vec<FrameSight> {
        self.pool.sights()
    }

    /// The most datagrams one train may carry.
    pub fn max_segments(&self) -> usize {
        self.max_segments
    }

    /// The largest UDP payload to `remote`, in bytes.
    pub fn max_udp_payload(&self, remote: IpAddr) -> u16 {
        self.max_udp_payload[usize::from(remote.is_ipv6())].load(Ordering::Relaxed)
    }

    /// The interface carries packets of at most `mtu` bytes from now on: connections send no longer ones, starting
    /// with their next turn.
    pub(crate) fn limit_to_mtu(&self, mtu: u32) {
        let extra = if self.is_qtip() { TCP_EXTRA_LEN as u32 } else { 0 };
        for (most, headers) in self.max_udp_payload.iter().zip([IPV4_UDP_LEN, IPV6_UDP_LEN]) {
            let payload = u16::try_from(mtu.saturating_sub(headers + extra)).unwrap_or(u16::MAX);
            most.fetch_min(payload, Ordering::Relaxed);
        }
        if let Some(qtip) = &self.qtip {
            qtip.limit_to_mtu(mtu);
        }
    }

    /// Whether the device would take `items` more datagrams now.
    pub fn has_room(&self, items: u32) -> bool {
        self.device.has_credit(items)
    }

    /// Hands datagrams to the device, with the journeys of those that are sampled.
    ///
    /// # Errors
    /// Returns them when the device has ended: send them another way. A device over its credit drops them, by
    /// count; callers ask [`has_room`](Self::has_room) first.
    pub fn send(&self, datagrams: Vec<TxDatagram>, traced: Traced) -> Result<(), Vec<TxDatagram>> {
        match &self.flows {
            None => self.hand_over(datagrams, traced),
            Some(tables) => {
                let (segments, traced) = self.segments(tables, datagrams, traced);
                self.hand_over(segments, traced)
            }
        }
    }

    /// Puts datagrams into segments of their flows. Those of a flow that is not open yet wait for it, and their journeys
    /// end here.
    fn segments(
        &self,
        tables: &Tables,
        datagrams: Vec<TxDatagram>,
        mut traced: Traced,
    ) -> (Vec<TxDatagram>, Traced) {
        let now = BatchClock::last();
        let (mut segments, mut going) = (Vec::with_capacity(datagrams.len()), Traced::default());
        for (place, datagram) in datagrams.into_iter().enumerate() {
            let journey = if traced.is_empty() { None } else { traced.take(place) };
            let path = NetPath { local: datagram.local, remote: datagram.remote };
            let stays = match tables.qtip.on_transmit(now, self.max_udp_payload(path.remote.ip()), datagram) {
                Sent::Now(segment) => {
                    if let Some(journey) = journey {
                        going.push(segments.len(), journey);
                    }
                    segments.push(segment);
                    continue;
                }
                Sent::Waits(syn) => {
                    segments.extend(syn.and_then(|syn| self.bare(tables, path, syn)));
                    "waits_for_handshake"
                }
                Sent::Dropped(cause) => {
                    tables.drops.count(cause);
                    cause
                }
            };
            tables.sent_aside.fetch_add(1, Ordering::Relaxed);
            if let Some(journey) = journey {
                journey.finish(stays);
            }
        }
        (segments, going)
    }

    /// A segment without payload.
    fn bare(
        &self,
        tables: &Tables,
        path: NetPath,
        segment: wirepath_drivers::TcpSegment,
    ) -> Option<TxDatagram> {
        let Some(mut buf) = self.lease(1) else {
            tables.drops.count("response_unleased_dropped");
            return None;
        };
        buf.truncate(0);
        Some(TxDatagram {
            local: path.local,
            remote: path.remote,
            ecn: wirepath_drivers::Ecn::NotEct,
            segment_size: None,
            tcp: Some(segment),
            buf,
        })
    }

    /// Does what a received segment asks for.
    ///
    /// # Errors
    /// Its payload is no datagram, and this is what became of it: the name of the counter if it was dropped.
    pub fn on_verdict(&self, path: NetPath, verdict: Verdict) -> Result<(), &'static str> {
        let Some(tables) = &self.flows else { return Err("qtip_unsupported_dropped") };
        let (mut answers, outcome) = (Vec::new(), verdict.outcome());
        match verdict {
            Verdict::Deliver => return Ok(()),
            Verdict::Noted => {}
            Verdict::Drop(cause) => tables.drops.count(cause),
            Verdict::Answer(segment) => answers.extend(self.bare(tables, path, segment)),
            Verdict::Refuse(segment, cause) => {
                tables.drops.count(cause);
                answers.extend(self.bare(tables, path, segment));
            }
            Verdict::Opened(segment, released) => {
                answers.extend(self.bare(tables, path, segment));
                answers.extend(released);
            }
        }
        // A device that has ended answers nobody.
        let _ = self.hand_over(answers, Traced::default());
        Err(outcome)
    }

    /// A connection on this path means to send by QTIP, as a client.
    pub fn open_flow(&self, path: &NetPath) -> bool {
        self.flows.as_ref().is_some_and(|tables| tables.qtip.open(BatchClock::last(), path))
    }

    /// A connection on this path has ended: by QTIP, its flow ends with RST.
    pub fn close_flow(&self, path: NetPath) {
        let Some(tables) = &self.flows else { return };
        let reset = tables.qtip.close(&path).and_then(|reset| self.bare(tables, path, reset));
        // A device that has ended tells nobody.
        let _ = self.hand_over(reset.into_iter().collect(), Traced::default());
    }

    fn hand_over(&self, datagrams: Vec<TxDatagram>, traced: Traced) -> Result<(), Vec<TxDatagram>> {
        use crate::kit::SendError::{Ended, Full};
        if datagrams.is_empty() {
            return Ok(());
        }
        let items = datagrams.len() as u32;
        match self.device.send_data(DeviceMessage::Transmit(datagrams, traced), items) {
            Err(Ended(DeviceMessage::Transmit(datagrams, _))) => Err(datagrams),
            Ok(()) | Err(Full(_) | Ended(_)) => Ok(()),
        }
    }

    /// Asks for a [`ConnectionMessage::Resume`] once the device has room and memory again.
    pub fn wait_for_room(&self, mailbox: &Mailbox<ConnectionMessage>) {
        let mut waiting = self.waiting.lock();
        if !waiting.iter().any(|waiter| waiter.id() == mailbox.id()) {
            waiting.push(mailbox.clone());
        }
        drop(waiting);
        if self.is_ended() {
            // Meanwhile: nobody else wakes those that came late.
            self.on_room();
        }
    }

    /// Whether the device has ended, so that this leads nowhere.
    pub fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// The device has ended: those who wait for it are to look for another way.
    pub(crate) fn end(&self) {
        if let Some(qtip) = &self.qtip {
            qtip.end();
        }
        self.ended.store(true, Ordering::Release);
        self.on_room();
    }

    /// The same queue has another device now: for those to whom no other way leads.
    pub(crate) fn succeed(&self, by: &Arc<Self>) {
        if let (Some(qtip), Some(by)) = (&self.qtip, &by.qtip) {
            qtip.succeed(by);
        }
        // Once: a device ends once.
        let _ = self.successor.set(by.clone());
    }

    /// The device opened in the place of this one, or of that, if there is one by now.
    pub fn successor(&self) -> Option<Arc<Self>> {
        let mut last = self.successor.get()?;
        while let Some(next) = last.successor.get() {
            last = next;
        }
        Some(last.clone())
    }

    /// Tells those who wait that there is room. The device calls this after each flush.
    pub fn on_room(&self) {
        if let Some(qtip) = &self.qtip {
            qtip.on_room();
        }
        if self.waiting.lock().is_empty() {
            return;
        }
        for mailbox in std::mem::take(&mut *self.waiting.lock()) {
            // A connection that has ended needs no room.
            let _ = mailbox.send(ConnectionMessage::Resume);
        }
    }

    /// The device's address.
    pub fn device(&self) -> &Mailbox<DeviceMessage> {
        &self.device
    }
}

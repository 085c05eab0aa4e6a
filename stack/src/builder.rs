//! Building a stack: which interface, which mode, how many partitions.

use std::time::Duration;

use wirepath_drivers::ChecksumMode;
use wirepath_wire::rules::Rules;

use crate::{Error, Stack};

/// How long a device polls on after its last packet before its thread sleeps. Waking a sleeping thread costs
/// 25 to 30 µs, so a request that follows within this time saves that much; an idle stack costs nothing.
pub(crate) const DEFAULT_SPIN: Duration = Duration::from_micros(200);

/// Chooses how a [`Stack`] is made.
#[derive(Clone, Debug)]
#[must_use]
pub struct StackBuilder {
    pub(crate) interface: Option<String>,
    pub(crate) helper: Option<std::path::PathBuf>,
    pub(crate) queues: std::ops::Range<u32>,
    pub(crate) require_xdp: bool,
    pub(crate) partitions: Option<usize>,
    pub(crate) cpus: Vec<usize>,
    pub(crate) spin: Duration,
    pub(crate) skb_mode: bool,
    pub(crate) checksum: ChecksumMode,
    pub(crate) verify_checksums: bool,
    pub(crate) ring_size: Option<u32>,
    pub(crate) huge_pages: bool,
    pub(crate) metrics: Option<Duration>,
    pub(crate) rules: Option<Rules>,
    pub(crate) trace_one_in: Option<u32>,
    pub(crate) trace_memory: usize,
    #[cfg(feature = "dashboard")]
    pub(crate) dashboard: crate::dashboard::DashboardPlan,
}

impl Default for StackBuilder {
    fn default() -> Self {
        Self {
            interface: None,
            helper: None,
            queues: 0..u32::MAX,
            require_xdp: false,
            partitions: None,
            cpus: Vec::new(),
            spin: DEFAULT_SPIN,
            skb_mode: false,
            checksum: ChecksumMode::default(),
            verify_checksums: true,
            ring_size: None,
            huge_pages: false,
            metrics: None,
            rules: None,
            trace_one_in: None,
            trace_memory: wirepath_trace::DEFAULT_MEMORY,
            #[cfg(feature = "dashboard")]
            dashboard: Default::default(),
        }
    }
}

impl StackBuilder {
    /// Takes this interface's packets through AF_XDP. Without it (or where AF_XDP can't be had) the stack runs
    /// over OS UDP sockets.
    pub fn interface(mut self, name: impl Into<String>) -> Self {
        self.interface = Some(name.into());
        self
    }

    /// Has everything that takes rights done by `wirepath helper`, which listens on this Unix socket: the process itself
    /// needs none, not even CAP_NET_RAW. The helper's administrator says who may use which interface, and which ports.
    /// When the helper ends, connections go on over OS UDP, the status says so, and AF_XDP is used again once there is
    /// a helper again. One that is not there at first is looked for every now and then, after 1 to 30 seconds.
    ///
    /// ```no_run
    /// # async fn stack() -> Result<(), wirepath::Error> {
    /// let stack = wirepath::Stack::builder().interface("eth0").helper("/run/wirepath.sock").build().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn helper(mut self, socket: impl Into<std::path::PathBuf>) -> Self {
        self.helper = Some(socket.into());
        self
    }

    /// Serves only these RSS queues of the interface, as far as it has them. Default: all. Through one
    /// [helper](Self::helper), several processes share an interface, each with queues of its own: what comes to a port
    /// of one on a queue of another takes the kernel's socket.
    pub fn queues(mut self, queues: std::ops::Range<u32>) -> Self {
        self.queues = queues;
        self
    }

    /// Runs over OS UDP sockets only: the default, unless an interface is named.
    pub fn os_udp(mut self) -> Self {
        self.interface = None;
        self
    }

    /// Makes it an error if AF_XDP can't be had, instead of falling back to OS UDP.
    pub fn require_xdp(mut self, require: bool) -> Self {
        self.require_xdp = require;
        self
    }

    /// The number of partitions, each a thread of its own. By default one for each RSS queue of the interface,
    /// or one.
    pub fn partitions(mut self, partitions: usize) -> Self {
        self.partitions = Some(partitions.max(1));
        self
    }

    /// Pins partition `n` to the `n`th of these CPUs.
    pub fn cpus(mut self, cpus: impl IntoIterator<Item = usize>) -> Self {
        self.cpus = cpus.into_iter().collect();
        self
    }

    /// How long a partition polls for packets after the last one, before it sleeps. Default 200 µs. Longer
    /// saves wake-ups (25 to 30 µs each) and costs CPU time.
    pub fn spin(mut self, spin: Duration) -> Self {
        self.spin = spin;
        self
    }

    /// Attaches in SKB (generic) mode without trying driver mode first.
    pub fn skb_mode(mut self, skb: bool) -> Self {
        self.skb_mode = skb;
        self
    }

    /// How UDP checksums are made for packets sent through AF_XDP.
    pub fn checksum(mut self, mode: ChecksumMode) -> Self {
        self.checksum = mode;
        self
    }

    /// Whether UDP checksums of packets received through AF_XDP are verified. Default on. Turn it off where the
    /// sender leaves them to a device that isn't there: kernel senders on a veth pair, unless
    /// `ethtool -K <peer> tx off`.
    pub fn verify_checksums(mut self, verify: bool) -> Self {
        self.verify_checksums = verify;
        self
    }

    /// Entries of each AF_XDP ring: a power of two from 64 to 8192.
    pub fn ring_size(mut self, entries: u32) -> Self {
        self.ring_size = Some(entries);
        self
    }

    /// Whether the memory of AF_XDP lies on huge pages, where enough are reserved (`vm.nr_hugepages`): fewer
    /// misses in the TLB. Where not, it lies on ordinary ones, and the status says so. Default off.
    pub fn huge_pages(mut self, huge_pages: bool) -> Self {
        self.huge_pages = huge_pages;
        self
    }

    /// Tells the stack's counters to the recorder the program has installed with the `metrics` crate, at this
    /// interval. Nothing on the data path waits for it.
    pub fn metrics(mut self, interval: Duration) -> Self {
        self.metrics = Some(interval);
        self
    }

    /// Puts rules in force on the interface before anything else is: first match wins, and they come before
    /// those by which bound ports get their packets. [`Stack::set_rules`] changes them later.
    ///
    /// ```no_run
    /// use wirepath::{Stack, rules::Rules};
    ///
    /// # async fn stack() -> Result<(), Box<dyn std::error::Error>> {
    /// let rules = Rules::builder().drop().udp_dst_port(42).build()?;
    /// let stack = Stack::builder().interface("eth0").rules(rules).build().await?;
    /// for rule in stack.status().rules {
    ///     println!("{:>10}  {}", rule.hits, rule.rule);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = Some(rules);
        self
    }

    /// Follows one datagram in so many on its way through the actors; 0: none. Default: 1024 with a dashboard,
    /// none without.
    pub fn trace_one_in(mut self, datagrams: u32) -> Self {
        self.trace_one_in = Some(datagrams);
        self
    }

    /// Bytes that all that is kept for watching may take: journeys, captured bytes, timelines, figures, recordings. Default
    /// 32 MiB; a stack that samples nothing and has no dashboard takes none. The last figures of a connection at rest take
    /// 0.8 KiB of it, twice that while it is busy. Connections there is no memory for are in no list, which the dashboard
    /// tells, but in all sums.
    pub fn trace_memory(mut self, bytes: usize) -> Self {
        self.trace_memory = bytes;
        self
    }

    /// Serves the dashboard here, on a thread of its own, as long as the stack lives. [`Stack::dashboard_url`] is
    /// what to open. An address other than loopback needs a [token](Self::dashboard_token).
    #[cfg(feature = "dashboard")]
    pub fn dashboard(mut self, addr: std::net::SocketAddr) -> Self {
        self.dashboard.addr = Some(addr);
        self
    }

    /// Serves the dashboard on a socket that listens already: one of another network namespace, for example.
    #[cfg(feature = "dashboard")]
    pub fn dashboard_listener(mut self, listener: std::net::TcpListener) -> Self {
        self.dashboard.listener = Some(std::sync::Arc::new(listener));
        self
    }

    /// Whoever asks the dashboard must bring this token.
    #[cfg(feature = "dashboard")]
    pub fn dashboard_token(mut self, token: crate::Token) -> Self {
        self.dashboard.token = Some(token);
        self
    }

    /// A further name the dashboard may be asked by, as in a `Host` header.
    #[cfg(feature = "dashboard")]
    pub fn dashboard_host(mut self, name: impl Into<String>) -> Self {
        self.dashboard.hosts.push(name.into());
        self
    }

    /// Whether the dashboard's recorder keeps the bytes of sampled datagrams, for captures: what peers say to each other,
    /// encrypted as on the wire. In 8 MiB besides the journeys' memory. Default off.
    #[cfg(feature = "dashboard")]
    pub fn dashboard_payload(mut self, keep: bool) -> Self {
        self.dashboard.payload = keep;
        self
    }

    /// Whether captures come with the secrets of TLS sessions, so that packet analysers decrypt them. Whoever gets at the
    /// dashboard can then read everything. Default off.
    #[cfg(feature = "dashboard")]
    pub fn dashboard_key_log(mut self, embed: bool) -> Self {
        self.dashboard.key_log = embed;
        self
    }

    /// Whether connections log what they do, as qlog, for the dashboard to hand out: in at most 512 KiB of memory each, the
    /// beginning and the end. It costs time for each packet. Default off.
    #[cfg(feature = "dashboard")]
    pub fn dashboard_qlog(mut self, log: bool) -> Self {
        self.dashboard.qlog = log;
        self
    }

    pub(crate) fn logs_connections(&self) -> bool {
        #[cfg(feature = "dashboard")]
        return self.dashboard.qlog && self.dashboard.is_wanted();
        #[cfg(not(feature = "dashboard"))]
        return false;
    }

    pub(crate) fn tracer(&self) -> std::sync::Arc<wirepath_trace::Tracer> {
        #[cfg(feature = "dashboard")]
        let (is_watched, keeps_payload) = (self.dashboard.is_wanted(), self.dashboard.payload);
        #[cfg(not(feature = "dashboard"))]
        let (is_watched, keeps_payload) = (false, false);
        let plan = wirepath_trace::MemoryPlan::of(self.trace_memory, is_watched && keeps_payload);
        let default = if is_watched { wirepath_trace::DEFAULT_ONE_IN } else { 0 };
        match self.trace_one_in.unwrap_or(default) {
            0 if !is_watched => wirepath_trace::Tracer::off(),
            one_in => wirepath_trace::Tracer::with_payloads(one_in, plan.ring, plan.captured),
        }
    }

    /// Makes the stack.
    ///
    /// # Errors
    /// [`Error::Driver`] when the interface does not exist, or when there are rules and no AF_XDP to put them in
    /// force; [`Error::XdpRequired`].
    pub async fn build(self) -> Result<Stack, Error> {
        Stack::start(self).await
    }
}

//! What would become of a received frame, step by step: the look-ups of the data path, with their answers kept.
//!
//! The XDP program's part is told by the reference matcher it is tested against; from there on the functions and
//! tables are those that packets meet.

use std::{fmt, net::SocketAddr};

use wirepath_quic::{Cid, DropCause, Endpoint, Header, LongHeader, NetPath, Timestamp, Unmatched};
use wirepath_wire::{
    UdpPacket,
    rules::{Action, Flow, Rules, VlanPolicy},
};

use crate::tables::{Arrival, Carrier, ResetToken, SocketPool};

/// Room for an answer to a packet of no connection.
const RESPONSE_LEN: usize = 1500;

/// What a frame meets.
pub struct Scene<'a> {
    /// The XDP rules in force, those of the bound ports among them.
    pub rules: &'a Rules,
    /// The bound sockets.
    pub sockets: &'a SocketPool,
    /// Whether a connection has this local CID.
    pub has_cid: &'a dyn Fn(&Cid) -> bool,
    /// Whether the peer of a connection may send this stateless reset token.
    pub has_reset_token: &'a dyn Fn(&ResetToken) -> bool,
    /// The listeners' rules for packets of no connection; without, it is told that a listener gets them. It counts
    /// what it is asked as it counts packets.
    pub endpoint: Option<&'a mut Endpoint>,
    /// Whether UDP checksums are verified.
    pub verify_checksums: bool,
}

/// Where a frame's way ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With the kernel, and none of our sockets behind it.
    Kernel,
    /// Dropped by the rule at this place of the list.
    Rule(usize),
    /// Sent back by the rule at this place.
    SentBack(usize),
    /// Dropped by us, and counted under this name.
    Dropped(&'static str),
    /// With the connection that has this CID.
    Connection(Cid),
    /// With a connection whose peer reset it by a stateless reset token.
    Reset,
    /// With the listener of this address.
    Listener(SocketAddr),
}

/// A frame's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Its steps: what was looked at, and what was found.
    pub steps: Vec<(&'static str, String)>,
    /// Its end.
    pub end: End,
}

impl Explanation {
    fn step(&mut self, name: &'static str, found: impl fmt::Display) {
        self.steps.push((name, found.to_string()));
    }

    fn end(mut self, end: End) -> Self {
        self.end = end;
        self
    }
}

/// A line a step, then one for the end.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, found) in &self.steps {
            writeln!(f, "{name:<10} {found}")?;
        }
        write!(f, "{:<10} {}", "end", self.end)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel => f.write_str("the kernel's network stack"),
            Self::Rule(at) => write!(f, "dropped by rule {}", at + 1),
            Self::SentBack(at) => write!(f, "sent back by rule {}", at + 1),
            Self::Dropped(cause) => write!(f, "dropped, counted as {cause}"),
            Self::Connection(cid) => write!(f, "the connection with CID {cid}"),
            Self::Reset => f.write_str("a connection, which it resets"),
            Self::Listener(local) => write!(f, "the listener on {local}"),
        }
    }
}

/// By which way a frame goes on.
enum Way {
    /// To the XSK of its queue.
    Xsk,
    /// To the kernel, and perhaps from there to the OS UDP socket on one of our ports.
    Kernel,
}

impl Scene<'_> {
    /// Follows a frame that arrives on `queue`, where an XSK is open.
    pub fn explain(&mut self, frame: &[u8], queue: u32, now: Timestamp) -> Explanation {
        let mut told = Explanation { steps: Vec::new(), end: End::Kernel };
        let parsed = wirepath_wire::parse_udp(frame);
        told.step("frame", describe_frame(frame, parsed.as_ref().ok()));
        let way = match self.follow_rules(frame, queue, &mut told) {
            Ok(way) => way,
            Err(end) => return told.end(end),
        };
        let verified = parsed.and_then(|udp| {
            if self.verify_checksums {
                wirepath_wire::verify_udp_checksum(frame, &udp)?;
            }
            Ok(udp)
        });
        match (verified, way) {
            (Ok(udp), Way::Xsk) => self.follow_datagram(&udp, &frame[udp.payload.clone()], now, told),
            (Err(error), Way::Xsk) => told.end(End::Dropped(error.name())),
            (Ok(udp), Way::Kernel)
                if self.sockets.find(&arrival(&udp, &frame[udp.payload.clone()])).is_some() =>
            {
                told.step("kernel", "gives the datagram to the OS UDP socket that holds our port");
                self.follow_datagram(&udp, &frame[udp.payload.clone()], now, told)
            }
            (_, Way::Kernel) => told.end(End::Kernel),
        }
    }

    /// What the XDP program says.
    fn follow_rules(&self, frame: &[u8], queue: u32, told: &mut Explanation) -> Result<Way, End> {
        let Some(at) = self.rules.decisive(frame) else {
            told.step("rules", self.why_none(frame));
            return Ok(Way::Kernel);
        };
        let rule = &self.rules.as_slice()[at];
        told.step("rule", format_args!("{}: {rule}", at + 1));
        match rule.action {
            Action::Pass => Ok(Way::Kernel),
            Action::Drop => Err(End::Rule(at)),
            Action::L2Forward => Err(End::SentBack(at)),
            Action::Redirect => {
                told.step("queue", format_args!("{queue}: to its AF_XDP socket"));
                Ok(Way::Xsk)
            }
        }
    }

    /// Why no rule decides. The names in brackets are the program's counters.
    fn why_none(&self, frame: &[u8]) -> String {
        let Some(flow) = Flow::of(frame) else {
            return "not understood in full: to the kernel (xdp_unparsed_passed)".into();
        };
        let seen = match self.rules.vlan() {
            VlanPolicy::Untagged => flow.vlan == 0,
            VlanPolicy::Id(id) => flow.vlan == id,
            VlanPolicy::Any => true,
        };
        if !seen {
            return format!("not looked at, in VLAN {}: to the kernel (xdp_foreign_vlan_passed)", flow.vlan);
        }
        match self.rules.as_slice().iter().position(|rule| rule.matching.matches(&flow)) {
            Some(at) => format!(
                "rule {} ({}) takes only what is sent to this host: to the kernel (xdp_foreign_address_passed)",
                at + 1,
                self.rules.as_slice()[at]
            ),
            None => "none matches: to the kernel".into(),
        }
    }

    /// What the demux does, then the listener.
    fn follow_datagram(
        &mut self,
        udp: &UdpPacket,
        payload: &[u8],
        now: Timestamp,
        mut told: Explanation,
    ) -> Explanation {
        let Some(socket) = self.sockets.find(&arrival(udp, payload)) else {
            return told.end(End::Dropped("socket_unmatched_dropped"));
        };
        told.step("socket", socket.claim.local);
        let header = match wirepath_quic::classify(payload, socket.cid_len) {
            Ok(header) => header,
            Err(error) => return told.end(End::Dropped(error.name())),
        };
        told.step("packet", describe_packet(&header));
        if let Some(cid) = Cid::new(header.dcid()).filter(|cid| (self.has_cid)(cid)) {
            return told.end(End::Connection(cid));
        }
        let token = payload.last_chunk::<16>();
        if matches!(header, Header::Short { .. }) && token.is_some_and(|token| (self.has_reset_token)(token))
        {
            return told.end(End::Reset);
        }
        if socket.listeners.get().is_none() {
            return told.end(End::Dropped("connection_unmatched_dropped"));
        }
        let Some(endpoint) = &mut self.endpoint else {
            return told.end(End::Listener(socket.claim.local));
        };
        let path = NetPath { local: udp.dst, remote: udp.src };
        match endpoint.on_unmatched(now, path, payload, &mut [0; RESPONSE_LEN]) {
            Unmatched::Drop(cause) => {
                told.step("listener", describe_drop(cause));
                told.end(End::Dropped(cause.name()))
            }
            Unmatched::Respond { len } => {
                told.step("listener", format_args!("answers with {len} bytes, and keeps no state"));
                told.end(End::Listener(socket.claim.local))
            }
            Unmatched::Accept(_) => {
                told.step("listener", "makes a connection");
                told.end(End::Listener(socket.claim.local))
            }
        }
    }
}

fn arrival<'a>(udp: &UdpPacket, datagram: &'a [u8]) -> Arrival<'a> {
    Arrival { local: udp.dst, remote: udp.src, carrier: Carrier::Udp, datagram }
}

fn describe_frame(frame: &[u8], udp: Option<&UdpPacket>) -> String {
    let len = frame.len();
    let vlan = |vlan: u16| if vlan == 0 { String::new() } else { format!(", VLAN {vlan}") };
    match (udp, Flow::of(frame)) {
        (Some(udp), _) => {
            let tag = udp.vlan.map_or(0, |tag| tag.id());
            format!(
                "{len} bytes: UDP {} to {}, {} bytes of payload{}",
                udp.src,
                udp.dst,
                udp.payload.len(),
                vlan(tag)
            )
        }
        (None, Some(flow)) => match flow.transport {
            Some(tcp) => {
                let (src, dst) =
                    (SocketAddr::new(flow.src, tcp.src_port), SocketAddr::new(flow.dst, tcp.dst_port));
                let protocol = if tcp.tcp { "TCP" } else { "UDP" };
                format!("{len} bytes: {protocol} {src} to {dst}{}", vlan(flow.vlan))
            }
            None => {
                format!(
                    "{len} bytes: IP protocol {} {} to {}{}",
                    flow.protocol,
                    flow.src,
                    flow.dst,
                    vlan(flow.vlan)
                )
            }
        },
        (None, None) => match wirepath_wire::parse_udp(frame) {
            Err(error) => {
                format!("{len} bytes, no UDP datagram to us: {}", error.name().trim_end_matches("_dropped"))
            }
            Ok(_) => format!("{len} bytes"),
        },
    }
}

fn describe_packet(header: &Header<'_>) -> String {
    match header {
        Header::Short { dcid, .. } => format!("QUIC short header, to CID {}", Hex(dcid)),
        Header::Long(LongHeader { version, kind, dcid, scid, .. }) => {
            format!("QUIC {kind:?}, version {version:#010x}, to CID {}, from CID {}", Hex(dcid), Hex(scid))
        }
    }
}

fn describe_drop(cause: DropCause) -> String {
    format!("refuses it: {cause}")
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("(empty)");
        }
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

//! What would become of a received frame, step by step: the look-ups of the data path, with their answers kept.
//!
//! The XDP program's part is told by the reference matcher it is tested against; from there on the functions and
//! tables are those that packets meet.

mod describe;
mod packet;

use std::{fmt, net::SocketAddr};

use wirepath_quic::{Cid, Endpoint, Header, Timestamp, Unmatched};
use wirepath_wire::rules::{Action, Flow, Rules, VlanPolicy};

use crate::{
    clock::nanos,
    demux::unmatched,
    qtip::{Flows, Outlook},
    tables::{ResetToken, Socket, SocketPool},
};
use describe::{describe_claim, describe_drop, describe_frame, describe_packet, describe_segment};
use packet::Packet;

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
    /// Whether a connection's handshake came from this address with this source CID.
    pub has_handshake: &'a dyn Fn(&(SocketAddr, Cid)) -> bool,
    /// Whether the peer of a connection may send this stateless reset token.
    pub has_reset_token: &'a dyn Fn(&ResetToken) -> bool,
    /// The listeners' rules for packets of no connection; without, it is told that a listener gets them. It counts
    /// what it is asked as it counts packets.
    pub endpoint: Option<&'a mut Endpoint>,
    /// The TCP flows that carry QUIC datagrams (QTIP); without, a segment with a payload is taken to be of an open one.
    pub flows: Option<&'a Flows>,
    /// Whether UDP and TCP checksums are verified.
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
    /// With the connection whose handshake came from this address with this source CID.
    Handshake(SocketAddr, Cid),
    /// With the TCP flow it belongs to, or a listener's of none: it brings no datagram.
    Flow,
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
            Self::Handshake(remote, cid) => write!(f, "the connection that {remote} began with CID {cid}"),
            Self::Flow => f.write_str("its TCP flow: it brings no datagram"),
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
        told.step("frame", describe_frame(frame));
        let way = match self.follow_rules(frame, queue, &mut told) {
            Ok(way) => way,
            Err(end) => return told.end(end),
        };
        match (Packet::of(frame, self.verify_checksums), way) {
            (Ok(packet), Way::Xsk) => self.follow_packet(&packet, now, told),
            (Err(error), Way::Xsk) => told.end(End::Dropped(error.name())),
            (Ok(packet), Way::Kernel) if packet.segment.is_none() && self.has_os_socket(&packet) => {
                told.step("kernel", "gives the datagram to the OS UDP socket that holds our port");
                self.follow_packet(&packet, now, told)
            }
            (_, Way::Kernel) => told.end(End::Kernel),
        }
    }

    /// Whether an OS UDP socket of ours gets it: a shared port has none.
    fn has_os_socket(&self, packet: &Packet<'_>) -> bool {
        self.sockets.find(&packet.arrival()).is_some_and(|socket| !socket.claim.is_shared())
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
    fn follow_packet(&mut self, packet: &Packet<'_>, now: Timestamp, mut told: Explanation) -> Explanation {
        let Some(socket) = self.sockets.find(&packet.arrival()) else {
            let tcp = packet.segment.as_ref().map(|(tcp, _)| tcp);
            return told.end(End::Dropped(unmatched(tcp)));
        };
        told.step("socket", describe_claim(&socket.claim));
        if let Err(end) = self.follow_segment(packet, &socket, now, &mut told) {
            return told.end(end);
        }
        let header = match wirepath_quic::classify(packet.payload, socket.cid_len) {
            Ok(header) => header,
            Err(error) => return told.end(End::Dropped(error.name())),
        };
        told.step("packet", describe_packet(&header));
        match self.owner(packet, &header) {
            Some(end) => told.end(end),
            None => self.follow_unowned(packet, &socket, now, told),
        }
    }

    /// What its flow makes of a TCP segment; goes on if it brings a datagram.
    fn follow_segment(
        &self,
        packet: &Packet<'_>,
        socket: &Socket,
        now: Timestamp,
        told: &mut Explanation,
    ) -> Result<(), End> {
        let Some((tcp, options)) = &packet.segment else { return Ok(()) };
        told.step("segment", describe_segment(tcp));
        let listening = socket.listeners.get().is_some();
        let outlook = match self.flows {
            Some(flows) => flows.preview(nanos(now), &packet.path(), tcp, options, listening),
            None if !tcp.payload.is_empty() => Ok(Outlook::Delivers),
            // Of flows that are not there.
            None => Flows::default().preview(nanos(now), &packet.path(), tcp, options, listening),
        };
        match outlook {
            Ok(Outlook::Delivers) => {
                told.step("flow", if self.flows.is_some() { "open" } else { "taken to be open" });
                Ok(())
            }
            Ok(Outlook::Does(what)) => {
                told.step("flow", what);
                Err(End::Flow)
            }
            Err(cause) => Err(End::Dropped(cause)),
        }
    }

    /// The connection it belongs to.
    fn owner(&self, packet: &Packet<'_>, header: &Header<'_>) -> Option<End> {
        if let Some(cid) = Cid::new(header.dcid()).filter(|cid| (self.has_cid)(cid)) {
            return Some(End::Connection(cid));
        }
        match header {
            Header::Long(long) => {
                let (remote, scid) = (packet.src, Cid::new(long.scid)?);
                (self.has_handshake)(&(remote, scid)).then_some(End::Handshake(remote, scid))
            }
            Header::Short { .. } => {
                let token = packet.payload.last_chunk::<16>()?;
                (self.has_reset_token)(token).then_some(End::Reset)
            }
        }
    }

    /// What the listener does with a datagram of no connection.
    fn follow_unowned(
        &mut self,
        packet: &Packet<'_>,
        socket: &Socket,
        now: Timestamp,
        mut told: Explanation,
    ) -> Explanation {
        if socket.listeners.get().is_none() {
            return told.end(End::Dropped("connection_unmatched_dropped"));
        }
        let Some(endpoint) = &mut self.endpoint else {
            return told.end(End::Listener(socket.claim.local));
        };
        match endpoint.on_unmatched(now, packet.path(), packet.payload, &mut [0; RESPONSE_LEN]) {
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

//! From a packet to a datagram.

use std::{net::IpAddr, sync::Arc};

use smallvec::SmallVec;
use wirepath_drivers::{Ecn, PacketBuf, RxMeta, RxPacket};
use wirepath_quic::NetPath;
use wirepath_trace::BatchClock;
use wirepath_wire::{ParseError, Tcp, TcpPacket, UdpPacket, tcp::RST};

use super::{Datagram, Demux};
use crate::{egress::Egress, tables::Socket};

/// A packet, parsed.
pub(super) struct Parsed {
    pub(super) datagram: Datagram,
    /// Of TCP, with the datagram as its payload.
    pub(super) segment: Option<Box<Segment>>,
}

/// A TCP header.
pub(super) struct Segment {
    tcp: Tcp,
    options: SmallVec<[u8; 32]>,
}

/// Why a packet to a port that nobody is bound to is dropped. When both ends of QTIP close at once, the second RST comes
/// when the flow is gone already, and often the client's socket, too.
pub(crate) fn unmatched(tcp: Option<&Tcp>) -> &'static str {
    match tcp {
        Some(tcp) if tcp.flags & RST != 0 => "qtip_reset_unmatched_dropped",
        _ => "socket_unmatched_dropped",
    }
}

impl Segment {
    pub(super) fn tcp(&self) -> &Tcp {
        &self.tcp
    }
}

impl Demux {
    /// Turns a packet into a datagram; what isn't one is dropped by the parser's name for the fault.
    pub(super) fn parse(&mut self, packet: RxPacket) -> Option<Parsed> {
        let RxPacket { mut buf, meta } = packet;
        let parsed = match meta {
            RxMeta::Udp { local, remote, ecn } => {
                let datagram = Datagram { path: NetPath { local, remote }, ecn, payload: buf };
                return Some(Parsed { datagram, segment: None });
            }
            RxMeta::Ethernet => match self.parse_frame(buf.as_slice()) {
                Err(ParseError::IpProtocolUnsupported) => return self.parse_segment(buf),
                parsed => parsed,
            },
        };
        match parsed {
            Ok(udp) => {
                self.note_origin(udp.src.ip(), buf.as_slice());
                buf.narrow(udp.payload.clone());
                let path = NetPath { local: udp.dst, remote: udp.src };
                let datagram = Datagram { path, ecn: Ecn::from_bits(udp.ecn), payload: buf };
                Some(Parsed { datagram, segment: None })
            }
            Err(error) => self.refuse(error),
        }
    }

    /// Has the way to `remote` looked at if its packets come another way now.
    #[inline]
    fn note_origin(&mut self, remote: IpAddr, frame: &[u8]) {
        if let Some(mac) = self.origins.note(BatchClock::last(), remote, frame)
            && let Some(routes) = self.tables.routes.get()
        {
            routes.heard_from(remote, mac);
        }
    }

    fn parse_frame(&self, frame: &[u8]) -> Result<UdpPacket, ParseError> {
        let udp = wirepath_wire::parse_udp(frame)?;
        if self.verify_checksums {
            wirepath_wire::verify_udp_checksum(frame, &udp)?;
        }
        Ok(udp)
    }

    #[cold]
    fn refuse(&mut self, error: ParseError) -> Option<Parsed> {
        self.drop_by(error.name());
        None
    }

    /// The same for a TCP segment. Its payload may be empty.
    fn parse_segment(&mut self, mut buf: PacketBuf) -> Option<Parsed> {
        let frame = buf.as_slice();
        let parsed = wirepath_wire::parse_tcp(frame).and_then(|packet| {
            if self.verify_checksums {
                wirepath_wire::verify_tcp_packet(frame, &packet)?;
            }
            Ok(packet)
        });
        let packet = match parsed {
            Ok(packet) => packet,
            Err(error) => return self.refuse(error),
        };
        let payload = packet.payload();
        let TcpPacket { src, dst, ecn, tcp, segment } = packet;
        let options = segment.start + tcp.options.start..segment.start + tcp.options.end;
        let options = frame[options].iter().copied().collect();
        self.note_origin(src.ip(), buf.as_slice());
        buf.narrow(payload);
        let path = NetPath { local: dst, remote: src };
        let datagram = Datagram { path, ecn: Ecn::from_bits(ecn), payload: buf };
        Some(Parsed { datagram, segment: Some(Box::new(Segment { tcp, options })) })
    }

    /// Minds a segment's flow. Whether its payload is a datagram.
    pub(super) fn take_off_tcp(
        &mut self,
        socket: &Arc<Socket>,
        datagram: &Datagram,
        segment: &Segment,
        via: &Arc<Egress>,
    ) -> bool {
        let Some(qtip) = via.qtip() else {
            self.drop_by("qtip_unsupported_dropped");
            return false;
        };
        let listening = (socket.listeners.get().is_some(), qtip.max_udp_payload(datagram.path.remote.ip()));
        let now = BatchClock::last();
        let flows = &self.tables.qtip;
        let verdict = flows.on_segment(now, &datagram.path, &segment.tcp, &segment.options, listening);
        match qtip.on_verdict(datagram.path, verdict) {
            Ok(()) => true,
            Err(outcome) => {
                self.end_journey(outcome);
                false
            }
        }
    }
}

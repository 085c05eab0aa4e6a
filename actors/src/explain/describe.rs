//! The words for what is found.

use std::{fmt, net::SocketAddr};

use wirepath_quic::{DropCause, Header, LongHeader};
use wirepath_wire::{
    Tcp,
    rules::Flow,
    tcp::{ACK, FIN, PSH, RST, SYN},
};

use crate::tables::Claim;

pub(super) fn describe_frame(frame: &[u8]) -> String {
    let len = frame.len();
    let udp = wirepath_wire::parse_udp(frame).ok();
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
            Some(ports) => {
                let src = SocketAddr::new(flow.src, ports.src_port);
                let dst = SocketAddr::new(flow.dst, ports.dst_port);
                let protocol = if ports.tcp { "TCP" } else { "UDP" };
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

pub(super) fn describe_packet(header: &Header<'_>) -> String {
    match header {
        Header::Short { dcid, .. } => format!("QUIC short header, to CID {}", Hex(dcid)),
        Header::Long(LongHeader { version, kind, dcid, scid, .. }) => {
            format!("QUIC {kind:?}, version {version:#010x}, to CID {}, from CID {}", Hex(dcid), Hex(scid))
        }
    }
}

pub(super) fn describe_drop(cause: DropCause) -> String {
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

pub(super) fn describe_claim(claim: &Claim) -> String {
    let Claim { local, remote, carriers, cibir, server } = claim;
    let mut text = local.to_string();
    if carriers.tcp {
        text.push_str(if carriers.udp { ", UDP and QTIP" } else { ", QTIP" });
    }
    if let Some(remote) = remote {
        text.push_str(&format!(", from {remote} alone"));
    }
    if let Some(id) = cibir {
        text.push_str(&format!(", shared by CIBIR {} at offset {}", Hex(id.bytes()), id.offset()));
    }
    if let Some(server) = server {
        text.push_str(&format!(", shared by QUIC-LB {server}"));
    }
    text
}

pub(super) fn describe_segment(tcp: &Tcp) -> String {
    let names = [(SYN, "SYN"), (FIN, "FIN"), (RST, "RST"), (PSH, "PSH"), (ACK, "ACK")];
    let flags: Vec<_> = names.iter().filter(|(bit, _)| tcp.flags & bit != 0).map(|(_, name)| *name).collect();
    format!(
        "{}, sequence {}, acknowledgement {}, {} bytes of payload",
        flags.join(" "),
        tcp.sequence,
        tcp.acknowledgement,
        tcp.payload.len()
    )
}

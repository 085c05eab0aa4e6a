//! Journeys as a packet capture: the headers that are known, and no payload.
//!
//! draft-ietf-opsawg-pcapng: a section header, one interface of raw IP packets, an enhanced packet block each. The
//! captured length is that of the headers; the original length tells how long the packet was.

use std::net::{IpAddr, SocketAddr};

use crate::api::{Direction, Journey};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// LINKTYPE_RAW: IPv4 or IPv6, as the first nibble says.
const LINKTYPE_RAW: u16 = 101;
const OPT_COMMENT: u16 = 1;
const OPT_EPB_FLAGS: u16 = 2;
const OPT_IF_TSRESOL: u16 = 9;

/// A capture file of these journeys, as far as their addresses are known.
pub(crate) fn write<'a>(journeys: impl IntoIterator<Item = &'a Journey>) -> Vec<u8> {
    let mut file = Vec::new();
    let mut body = Vec::new();
    body.extend(BYTE_ORDER.to_le_bytes());
    body.extend([1, 0, 0, 0]);
    body.extend((-1i64).to_le_bytes());
    block(&mut file, SECTION_HEADER, &body);
    body.clear();
    body.extend(LINKTYPE_RAW.to_le_bytes());
    body.extend([0, 0]);
    body.extend(0u32.to_le_bytes());
    // Times are in nanoseconds.
    option(&mut body, OPT_IF_TSRESOL, &[9]);
    option(&mut body, 0, &[]);
    block(&mut file, INTERFACE_DESCRIPTION, &body);
    for journey in journeys {
        packet(&mut file, journey);
    }
    file
}

fn packet(file: &mut Vec<u8>, journey: &Journey) {
    let end = |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<SocketAddr>().ok());
    let (Some(local), Some(remote)) = (end(&journey.local), end(&journey.remote)) else { return };
    let (from, to) = match journey.direction {
        Direction::Rx => (remote, local),
        Direction::Tx => (local, remote),
    };
    let Some(headers) = headers(from, to, journey.len_bytes as u16) else { return };
    let mut body = Vec::new();
    body.extend(0u32.to_le_bytes());
    body.extend(((journey.begin_ns >> 32) as u32).to_le_bytes());
    body.extend((journey.begin_ns as u32).to_le_bytes());
    body.extend((headers.len() as u32).to_le_bytes());
    body.extend((headers.len() as u32 + journey.len_bytes as u32).to_le_bytes());
    padded(&mut body, &headers);
    let hops: Vec<_> =
        journey.hops.iter().map(|hop| format!("{} {}+{} ns", hop.label, hop.wait_ns, hop.run_ns)).collect();
    let comment = format!("trace {} {}: {}", journey.id, journey.outcome, hops.join(", "));
    option(&mut body, OPT_COMMENT, comment.as_bytes());
    let flags = if journey.direction == Direction::Rx { 1u32 } else { 2 };
    option(&mut body, OPT_EPB_FLAGS, &flags.to_le_bytes());
    option(&mut body, 0, &[]);
    block(file, ENHANCED_PACKET, &body);
}

/// IP and UDP headers without checksums; `None` for a mixture of families.
fn headers(from: SocketAddr, to: SocketAddr, payload: u16) -> Option<Vec<u8>> {
    let udp_len = payload.checked_add(8)?;
    let mut bytes = Vec::with_capacity(48);
    match (from.ip(), to.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            bytes.extend([0x45, 0]);
            bytes.extend(udp_len.checked_add(20)?.to_be_bytes());
            bytes.extend([0, 0, 0, 0, 64, 17, 0, 0]);
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            bytes.extend([0x60, 0, 0, 0]);
            bytes.extend(udp_len.to_be_bytes());
            bytes.extend([17, 64]);
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
        }
        _ => return None,
    }
    bytes.extend(from.port().to_be_bytes());
    bytes.extend(to.port().to_be_bytes());
    bytes.extend(udp_len.to_be_bytes());
    bytes.extend([0, 0]);
    Some(bytes)
}

fn block(file: &mut Vec<u8>, kind: u32, body: &[u8]) {
    let len = (body.len() as u32 + 12).to_le_bytes();
    file.extend(kind.to_le_bytes());
    file.extend(len);
    file.extend(body);
    file.extend(len);
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    padded(body, value);
}

fn padded(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend(bytes);
    body.resize(body.len().next_multiple_of(4), 0);
}

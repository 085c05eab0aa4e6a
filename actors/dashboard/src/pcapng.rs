//! Journeys as a packet capture: headers made from what is known, and the datagrams' bytes where they were kept.
//!
//! draft-ietf-opsawg-pcapng: a section header, one interface of raw IP packets, the secrets of TLS sessions if they may
//! leave, an enhanced packet block for each datagram. The captured length is that of what was kept; the original length
//! tells how long the packet was.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use wirepath_trace::Payload;

use crate::api::{Direction, Journey};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const DECRYPTION_SECRETS: u32 = 10;
/// "TLSK": the secrets are lines of a TLS key log.
const TLS_KEY_LOG: u32 = 0x544c_534b;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// LINKTYPE_RAW: IPv4 or IPv6, as the first nibble says.
const LINKTYPE_RAW: u16 = 101;
const OPT_COMMENT: u16 = 1;
const OPT_EPB_FLAGS: u16 = 2;
const OPT_IF_TSRESOL: u16 = 9;

/// What a capture is made of.
pub(crate) struct Capture<'a> {
    pub(crate) journeys: &'a [Journey],
    /// The bytes of the datagrams of some of them.
    pub(crate) payloads: &'a HashMap<String, Arc<Payload>>,
    /// Lines of a TLS key log.
    pub(crate) secrets: Option<&'a str>,
    /// The Unix time, in nanoseconds, at which the journeys' times began.
    pub(crate) epoch_ns: u64,
}

impl Capture<'_> {
    /// The file: of each journey whose addresses are known a packet, or one of each datagram of its train.
    pub(crate) fn write(&self) -> Vec<u8> {
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
        if let Some(secrets) = self.secrets {
            body.clear();
            body.extend(TLS_KEY_LOG.to_le_bytes());
            body.extend((secrets.len() as u32).to_le_bytes());
            padded(&mut body, secrets.as_bytes());
            block(&mut file, DECRYPTION_SECRETS, &body);
        }
        let mut journeys: Vec<_> = self.journeys.iter().map(|journey| (on_wire(journey), journey)).collect();
        journeys.sort_by_key(|(at, _)| *at);
        for (at, journey) in journeys {
            self.packets(&mut file, at + self.epoch_ns, journey);
        }
        file
    }

    fn packets(&self, file: &mut Vec<u8>, at: u64, journey: &Journey) {
        match self.payloads.get(&journey.id) {
            Some(payload) => {
                payload.datagrams.iter().for_each(|(len, bytes)| packet(file, at, journey, (*len, bytes)));
            }
            None => packet(file, at, journey, (journey.len_bytes as u32, &[])),
        }
    }
}

/// When a datagram was received, or written: where a capture would have it.
fn on_wire(journey: &Journey) -> u64 {
    let written = journey.hops.iter().find(|hop| hop.stage == "connection");
    match (journey.direction, written) {
        (Direction::Tx, Some(hop)) => hop.begin_ns + hop.wait_ns + hop.run_ns,
        _ => journey.begin_ns,
    }
}

fn packet(file: &mut Vec<u8>, at: u64, journey: &Journey, (len, bytes): (u32, &[u8])) {
    let end = |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<SocketAddr>().ok());
    let (Some(local), Some(remote)) = (end(&journey.local), end(&journey.remote)) else { return };
    let (from, to) = match journey.direction {
        Direction::Rx => (remote, local),
        Direction::Tx => (local, remote),
    };
    let Some(mut packet) = headers(from, to, len as u16) else { return };
    let whole_len = packet.len() as u32 + len;
    packet.extend(bytes);
    let mut body = Vec::new();
    body.extend(0u32.to_le_bytes());
    body.extend(((at >> 32) as u32).to_le_bytes());
    body.extend((at as u32).to_le_bytes());
    body.extend((packet.len() as u32).to_le_bytes());
    body.extend(whole_len.to_le_bytes());
    padded(&mut body, &packet);
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

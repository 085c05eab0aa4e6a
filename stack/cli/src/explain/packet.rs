//! The packet to explain: as bytes, from a capture, or made of fields.

use std::{net::SocketAddr, path::PathBuf};

use perf_protocol::Result;
use wirepath_quic::Cid;
use wirepath_wire::{
    Link, MacAddr, Tcp, UdpHeaders, VlanTag,
    tcp::{ACK, FIN, PSH, RST, SYN},
    tcp_headers_len, write_tcp, write_udp,
};

use super::{address, cid, hex, pcap};

/// Bytes of a client's first datagram (RFC 9000 §14.1).
const INITIAL_LEN: usize = 1200;

/// Bytes behind the CID of a short header: as many as a small packet has.
const SHORT_LEN: usize = 32;

/// Options that say which packet.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct PacketOptions {
    /// A whole Ethernet frame, in hex.
    #[arg(long, value_name = "HEX", value_parser = bytes, conflicts_with_all = ["pcap", "src", "dst"])]
    hex: Option<Bytes>,
    /// All frames of a capture, as `tcpdump -w` writes it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["src", "dst"])]
    pcap: Option<PathBuf>,
    /// A UDP datagram (or TCP segment: --tcp) from this address.
    #[arg(long, value_name = "ADDRESS", requires = "dst", value_parser = address)]
    src: Option<SocketAddr>,
    /// To this address.
    #[arg(long, value_name = "ADDRESS", requires = "src", value_parser = address)]
    dst: Option<SocketAddr>,
    /// In this VLAN.
    #[arg(long, value_name = "ID", requires = "src", value_parser = clap::value_parser!(u16).range(1..=4094))]
    tag: Option<u16>,
    /// In a TCP segment with these flags: `syn`, `fin`, `rst`, `psh` and `ack`, with commas between.
    #[arg(long, value_name = "FLAGS", requires = "src", value_parser = flags)]
    tcp: Option<u8>,
    /// With a QUIC packet to this connection ID, in hex.
    #[arg(long, value_name = "HEX", requires = "src", value_parser = cid)]
    quic_dcid: Option<Cid>,
    /// And from this connection ID: then it is a client's first packet, else one of an established connection.
    #[arg(long, value_name = "HEX", requires = "quic_dcid", value_parser = cid)]
    quic_scid: Option<Cid>,
    /// With this payload instead, in hex.
    #[arg(long, value_name = "HEX", requires = "src", conflicts_with = "quic_dcid", value_parser = bytes)]
    payload: Option<Bytes>,
}

/// What `--hex` takes as one value.
#[derive(Clone, Debug)]
struct Bytes(Vec<u8>);

fn bytes(text: &str) -> Result<Bytes, String> {
    hex(text).map(Bytes)
}

impl PacketOptions {
    /// The frames that the options name.
    pub(super) fn frames(&self) -> Result<Vec<Vec<u8>>> {
        match (&self.hex, &self.pcap, self.src, self.dst) {
            (Some(frame), ..) => Ok(vec![frame.0.clone()]),
            (_, Some(path), ..) => {
                let file = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
                pcap::frames(&file).map_err(|error| format!("{}: {error}", path.display()).into())
            }
            (_, _, Some(src), Some(dst)) => Ok(vec![self.made(src, dst)?]),
            _ => Err("which packet? give --hex, --pcap, or --src and --dst".into()),
        }
    }

    fn made(&self, src: SocketAddr, dst: SocketAddr) -> Result<Vec<u8>> {
        let payload = match (&self.payload, &self.quic_dcid, &self.quic_scid) {
            (Some(payload), ..) => payload.0.clone(),
            (_, Some(dcid), Some(scid)) => initial(dcid, scid),
            (_, Some(dcid), None) => [&[0x40], dcid.as_slice(), &[0; SHORT_LEN]].concat(),
            _ => Vec::new(),
        };
        let vlan = self.tag.map(VlanTag::new);
        let link = Link { src: MacAddr([2, 0, 0, 0, 0, 1]), dst: MacAddr([2, 0, 0, 0, 0, 2]), vlan };
        let headers = UdpHeaders::new(link);
        let mut frame;
        if let Some(flags) = self.tcp {
            frame = vec![0; tcp_headers_len(&headers, dst.ip(), &[])];
            write_tcp(&mut frame, &headers, (src, dst), (&segment(flags), &[]), &payload)?;
        } else {
            frame = vec![0; headers.len_for(dst.ip())];
            write_udp(&mut frame, &headers, src, dst, &payload)?;
        }
        frame.extend_from_slice(&payload);
        Ok(frame)
    }
}

/// A header; ports, lengths and checksum come with the writing.
fn segment(flags: u8) -> Tcp {
    Tcp {
        src_port: 0,
        dst_port: 0,
        sequence: 0,
        acknowledgement: 0,
        flags,
        window: u16::MAX,
        checksum: 0,
        options: 0..0,
        payload: 0..0,
    }
}

fn flags(text: &str) -> Result<u8, String> {
    text.split(',').try_fold(0, |flags, name| {
        let flag = match name.trim().to_ascii_lowercase().as_str() {
            "syn" => SYN,
            "fin" => FIN,
            "rst" => RST,
            "psh" => PSH,
            "ack" => ACK,
            _ => return Err(format!("{name:?} is none of syn, fin, rst, psh, ack")),
        };
        Ok(flags | flag)
    })
}

/// The start of a client's first packet, without a token; what is encrypted in it is zero.
fn initial(dcid: &Cid, scid: &Cid) -> Vec<u8> {
    let (dcid, scid) = (dcid.as_slice(), scid.as_slice());
    let mut packet = vec![0xc0, 0, 0, 0, 1, dcid.len() as u8];
    packet.extend_from_slice(dcid);
    packet.push(scid.len() as u8);
    packet.extend_from_slice(scid);
    packet.push(0);
    // The rest of the datagram, as a variable-length integer of two bytes (RFC 9000 §16).
    let rest = INITIAL_LEN - packet.len() - 2;
    packet.extend_from_slice(&(0x4000 | rest as u16).to_be_bytes());
    packet.resize(INITIAL_LEN, 0);
    packet
}

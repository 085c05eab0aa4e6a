//! Ethernet, IP and UDP headers, written in front of the payload in the UMEM frame itself.

use std::net::SocketAddr;

use wirepath_wire::{
    BuildError, Link, Tcp, TxChecksum, UDP_HEADER_LEN, UdpHeaders, tcp_headers_len, write_tcp, write_udp,
};

use super::{options::ChecksumMode, socket::TX_METADATA_LEN};
use crate::{Ecn, PacketBuf, SynOptions, TcpSegment};

/// `XDP_TXMD_FLAGS_CHECKSUM`: the metadata asks for a checksum.
const TXMD_FLAGS_CHECKSUM: u64 = 1 << 1;
/// Where in the UDP header the checksum lies.
const UDP_CHECKSUM_OFFSET: usize = 6;

/// Addresses and marks of one datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addressing {
    pub(super) link: Link,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) ecn: Ecn,
}

/// How checksums are made on this socket: as asked for, less what the device lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checksums {
    Software,
    /// By the device; every packet carries metadata.
    Device,
    ZeroOnIpv4,
}

impl Checksums {
    pub(super) fn new(wanted: ChecksumMode, offered: bool) -> Self {
        match wanted {
            ChecksumMode::Offload if offered => Self::Device,
            ChecksumMode::Software | ChecksumMode::Offload => Self::Software,
            ChecksumMode::ZeroOnIpv4 => Self::ZeroOnIpv4,
        }
    }
}

/// Widens the window of `buf` over its headers.
#[inline]
pub(super) fn write(buf: &mut PacketBuf, to: &Addressing, checksums: Checksums) -> Result<(), BuildError> {
    let zeroed = checksums == Checksums::ZeroOnIpv4 && to.remote.is_ipv4();
    let summed = !zeroed && checksums != Checksums::Device;
    let headers = UdpHeaders {
        ecn: to.ecn as u8,
        checksum: if summed { TxChecksum::Full } else { TxChecksum::Offloaded },
        ..UdpHeaders::new(to.link)
    };
    let len = headers.len_for(to.remote.ip());
    if len + TX_METADATA_LEN > buf.headroom() {
        return Err(BuildError::NoRoom { needed: len + TX_METADATA_LEN });
    }
    buf.prepend(len);
    let (room, payload) = buf.as_mut_slice().split_at_mut(len);
    write_udp(room, &headers, to.local, to.remote, payload)?;
    let udp = len - UDP_HEADER_LEN;
    if zeroed {
        room[udp + UDP_CHECKSUM_OFFSET..udp + UDP_CHECKSUM_OFFSET + 2].fill(0);
    }
    if checksums == Checksums::Device {
        write_metadata(buf, udp);
    }
    Ok(())
}

/// Widens the window of `buf` over the headers of a TCP segment.
#[cold]
pub(super) fn write_segment(
    buf: &mut PacketBuf,
    to: &Addressing,
    segment: &TcpSegment,
    checksums: Checksums,
) -> Result<(), BuildError> {
    let headers = UdpHeaders { ecn: to.ecn as u8, ..UdpHeaders::new(to.link) };
    let options = segment.options.map(syn_options);
    let options = options.as_ref().map_or(&[][..], |options| options);
    let len = tcp_headers_len(&headers, to.remote.ip(), options);
    if len + TX_METADATA_LEN > buf.headroom() {
        return Err(BuildError::NoRoom { needed: len + TX_METADATA_LEN });
    }
    let tcp = Tcp {
        // Ports come from the addresses.
        src_port: 0,
        dst_port: 0,
        sequence: segment.sequence,
        acknowledgement: segment.acknowledgement,
        flags: segment.flags,
        window: segment.window,
        checksum: 0,
        options: 0..0,
        payload: 0..0,
    };
    buf.prepend(len);
    let (room, payload) = buf.as_mut_slice().split_at_mut(len);
    write_tcp(room, &headers, (to.local, to.remote), (&tcp, options), payload)?;
    if checksums == Checksums::Device {
        // Summed here all the same; the metadata that goes with every packet asks for nothing.
        buf.prepend(TX_METADATA_LEN).fill(0);
        buf.narrow(TX_METADATA_LEN..buf.len());
    }
    Ok(())
}

/// Maximum segment size, padding, window scale.
fn syn_options(SynOptions { mss, window_scale }: SynOptions) -> [u8; 8] {
    let [high, low] = mss.to_be_bytes();
    [2, 4, high, low, 1, 3, 3, window_scale]
}

/// Fills `struct xsk_tx_metadata` right in front of the packet, outside the window.
fn write_metadata(buf: &mut PacketBuf, udp: usize) {
    let metadata = buf.prepend(TX_METADATA_LEN);
    metadata.fill(0);
    metadata[..8].copy_from_slice(&TXMD_FLAGS_CHECKSUM.to_ne_bytes());
    metadata[8..10].copy_from_slice(&(udp as u16).to_ne_bytes());
    metadata[10..12].copy_from_slice(&(UDP_CHECKSUM_OFFSET as u16).to_ne_bytes());
    buf.narrow(TX_METADATA_LEN..buf.len());
}

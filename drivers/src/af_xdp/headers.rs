//! Ethernet, IP and UDP headers, written in front of the payload in the UMEM frame itself.

use std::net::SocketAddr;

use wirepath_wire::{BuildError, Link, TxChecksum, UDP_HEADER_LEN, UdpHeaders, write_udp};

use super::{options::ChecksumMode, socket::TX_METADATA_LEN};
use crate::{Ecn, PacketBuf};

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

/// Fills `struct xsk_tx_metadata` right in front of the packet, outside the window.
fn write_metadata(buf: &mut PacketBuf, udp: usize) {
    let metadata = buf.prepend(TX_METADATA_LEN);
    metadata.fill(0);
    metadata[..8].copy_from_slice(&TXMD_FLAGS_CHECKSUM.to_ne_bytes());
    metadata[8..10].copy_from_slice(&(udp as u16).to_ne_bytes());
    metadata[10..12].copy_from_slice(&(UDP_CHECKSUM_OFFSET as u16).to_ne_bytes());
    buf.narrow(TX_METADATA_LEN..buf.len());
}

//! The interface an XSK is bound to: what it is, and what it offers.

use super::options::{AfXdpOptions, ChecksumMode, unsupported};
use crate::{DriverError, Nic, TX_HEADROOM, XdpSupport, ZeroCopy, umem::FrameSize};

/// What the kernel keeps free in front of every received packet (`XDP_PACKET_HEADROOM`).
pub(super) const XDP_PACKET_HEADROOM: u32 = 256;
/// Ethernet header and one VLAN tag.
pub(super) const LINK_LEN: u32 = 18;
/// The largest MTU with one UMEM frame a packet: native XDP needs the packet, its headroom and the kernel's
/// `skb_shared_info` in one page of 4096.
pub(crate) const MAX_SINGLE_BUFFER_MTU: u32 = 3498;
/// IPv6 and UDP header: what an MTU loses before the payload.
pub(super) const IPV6_UDP_LEN: u32 = 48;

/// IPv4 and UDP header.
pub(super) const IPV4_UDP_LEN: u32 = 28;

/// An interface.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) name: String,
    /// Its driver, in words.
    driver: String,
    pub(super) index: u32,
    pub(super) mtu: u32,
    /// Whether an XDP frame arrives at the queue it would arrive at through the TX ring: a veth takes the peer's queue
    /// by processor for the former, by our own for the latter.
    pub(super) keeps_queue: bool,
    /// `None` where the kernel does not tell (before 6.3).
    support: Option<XdpSupport>,
}

impl Device {
    pub(super) fn find(name: &str) -> Result<Self, DriverError> {
        let nic = Nic::by_name(name)?;
        let support = nic.xdp_support().ok();
        let keeps_queue = nic.queues.rx <= 1 || nic.driver.as_deref() != Some("veth");
        let driver =
            nic.driver.map_or_else(|| format!("the driver of {name}"), |driver| format!("driver {driver}"));
        Ok(Self { name: nic.name, driver, index: nic.index, mtu: nic.mtu, keeps_queue, support })
    }

    /// Whether packets must span several UMEM frames, and of which size these are.
    pub(super) fn framing(&self, options: &AfXdpOptions) -> Result<(bool, FrameSize), DriverError> {
        let needed = self.mtu > MAX_SINGLE_BUFFER_MTU;
        let multi_buffer = options.multi_buffer.unwrap_or(needed);
        if needed && !multi_buffer {
            let why = format!(
                "the MTU of {} is {}, above {MAX_SINGLE_BUFFER_MTU}: `ip link set {0} mtu \
                 {MAX_SINGLE_BUFFER_MTU}`, or allow multi-buffer",
                self.name, self.mtu
            );
            return Err(unsupported("one UMEM frame a packet", why));
        }
        let frame_size = options.frame_size.unwrap_or(match self.fits(FrameSize::TwoKib) && !multi_buffer {
            true => FrameSize::TwoKib,
            false => FrameSize::FourKib,
        });
        if !multi_buffer && !self.fits(frame_size) {
            let why = format!(
                "the MTU of {} is {}: take frames of 4096 bytes, or a smaller MTU",
                self.name, self.mtu
            );
            return Err(unsupported("a UMEM frame of this size", why));
        }
        Ok((multi_buffer, frame_size))
    }

    fn fits(&self, frame_size: FrameSize) -> bool {
        self.mtu <= mtu_of(frame_size)
    }

    /// Whether the device sums UDP checksums by transmit metadata, as asked for.
    pub(super) fn offloads_checksum(&self, options: &AfXdpOptions) -> bool {
        options.checksum == ChecksumMode::Offload && self.support.is_some_and(|support| support.tx_checksum)
    }

    /// Why checksums are made in software though offloading was asked for.
    pub(super) fn why_no_checksum(&self) -> String {
        format!("{} sums no checksums for AF_XDP", self.driver)
    }

    /// Why a socket is in copy mode though zero-copy was preferred.
    pub(super) fn why_copy(&self) -> String {
        match self.support.map(|support| support.zero_copy) {
            Some(ZeroCopy::No) => format!("{} has no zero-copy", self.driver),
            _ => format!("{} refused zero-copy for this queue", self.driver),
        }
    }
}

/// Bytes of the UMEM of one queue of an interface with this MTU.
pub(crate) fn umem_bytes(options: &AfXdpOptions, mtu: u32) -> u64 {
    let small = mtu <= mtu_of(FrameSize::TwoKib);
    let frame_size = options.frame_size.unwrap_or(if small { FrameSize::TwoKib } else { FrameSize::FourKib });
    u64::from(options.frames()) * frame_size.bytes() as u64
}

/// The largest MTU whose packets fit one UMEM frame each.
pub(super) fn mtu_of(frame_size: FrameSize) -> u32 {
    let frame = frame_size.bytes() as u32;
    let received = frame - XDP_PACKET_HEADROOM - LINK_LEN;
    // Sent packets keep the headroom of the payload, which their headers lie in.
    let sent = frame - TX_HEADROOM as u32 + IPV4_UDP_LEN;
    received.min(sent)
}

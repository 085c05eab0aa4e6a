//! What a NIC offers to XDP, by the kernel's `netdev` netlink family.

use std::io;

use xdp::nic::{NicIndex, XdpZeroCopy};

use crate::DriverError;

/// Capabilities as the driver announces them. What holds in the end shows when a socket is bound: a driver may
/// announce zero-copy and refuse it on some queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpSupport {
    /// The driver runs XDP programs (native mode); else only the kernel's generic SKB mode is there.
    pub driver_mode: bool,
    /// Packets can be redirected, to AF_XDP sockets among others.
    pub redirect: bool,
    /// The interface sends XDP frames that are redirected to it (`ndo_xdp_xmit`). A veth does while its peer has an
    /// XDP program or GRO.
    pub transmit: bool,
    /// Packets may span several buffers.
    pub multi_buffer: bool,
    /// AF_XDP without copies.
    pub zero_copy: ZeroCopy,
    /// The NIC computes checksums of packets sent through AF_XDP, when asked to in their metadata.
    pub tx_checksum: bool,
}

/// AF_XDP without copies between kernel and UMEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroCopy {
    /// Packets are copied.
    No,
    /// One UMEM frame a packet.
    Single,
    /// Up to so many UMEM frames a packet.
    Multi(u32),
}

/// `NETDEV_XDP_ACT_NDO_XMIT` of `linux/netdev.h`.
const NDO_XMIT: u64 = 1 << 2;
/// `NETDEV_XDP_ACT_RX_SG` of `linux/netdev.h`.
const RX_SG: u64 = 1 << 5;

impl XdpSupport {
    pub(crate) fn of(index: u32) -> Result<Self, DriverError> {
        let told = NicIndex::new(index).query_capabilities().map_err(explain)?;
        Ok(Self {
            driver_mode: told.xdp_features.basic(),
            redirect: told.xdp_features.redirect(),
            transmit: told.xdp_features.0 & NDO_XMIT != 0,
            multi_buffer: told.xdp_features.0 & RX_SG != 0,
            zero_copy: match told.zero_copy {
                XdpZeroCopy::Unavailable => ZeroCopy::No,
                XdpZeroCopy::Available => ZeroCopy::Single,
                XdpZeroCopy::MultiBuffer(frames) => ZeroCopy::Multi(frames),
            },
            tx_checksum: told.tx_metadata.checksum(),
        })
    }
}

fn explain(error: io::Error) -> DriverError {
    DriverError::Unsupported {
        what: "asking for XDP features",
        why: format!("{error}; Linux 6.3 and later tell them"),
    }
}

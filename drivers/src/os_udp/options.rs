//! What can be set on an OS UDP device.

/// Options of an [`OsUdp`](super::OsUdp) device.
#[derive(Clone, Debug)]
pub struct OsUdpOptions {
    /// Bytes of packets (with the kernel's overhead) that may wait to be received. As much of it is taken as the
    /// kernel grants.
    pub receive_buffer: usize,
    /// Bytes that may wait to be sent.
    pub send_buffer: usize,
    /// The largest UDP payload to send, in bytes. Fixes the size of transmit buffers.
    pub max_udp_payload: u16,
    /// Whether to hand trains of datagrams to the kernel (UDP GSO) where it takes them.
    pub segmentation: bool,
    /// Why this device and not AF_XDP, for the status: one sentence, or empty.
    pub reason: String,
}

/// Holds 3 ms of 10 Gbit/s, the longest that a busy partition leaves its socket alone.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Enough for the deepest transmit queue a partition hands down at once: 32 trains of 64 KiB.
const SEND_BUFFER: usize = 2 << 20;

/// An Ethernet frame's 1500 bytes less IPv6 (40) and UDP (8).
const ETHERNET_UDP_PAYLOAD: u16 = 1452;

impl Default for OsUdpOptions {
    fn default() -> Self {
        Self {
            receive_buffer: RECEIVE_BUFFER,
            send_buffer: SEND_BUFFER,
            max_udp_payload: ETHERNET_UDP_PAYLOAD,
            segmentation: true,
            reason: String::new(),
        }
    }
}

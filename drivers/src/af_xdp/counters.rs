//! What an XSK counts.

use rustix::net::xdp::XdpStatistics;

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// Counters of one XSK, by the names they are reported under.
        #[derive(Clone, Debug, Default)]
        pub(super) struct Counters { $($(#[doc = $doc])* pub(super) $name: u64,)* }

        impl Counters {
            /// All but those that [`DriverStats`](crate::DriverStats) has fields for.
            pub(super) fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

counters! {
    /// Received packets that spanned several UMEM frames and were joined.
    rx_packet_joined,
    /// RX descriptors whose address is outside the UMEM or whose frame was not with the kernel.
    rx_descriptor_rejected,
    /// Frames taken out of use because their RX descriptor reaches beyond them.
    rx_frame_quarantined,
    /// Packets in several UMEM frames that were longer than any MTU.
    rx_too_long_dropped,
    /// System calls made to have the kernel look at the fill ring.
    rx_kick_made,
    /// Refills that found fewer free UMEM frames than slots.
    rx_refill_shortened,
    /// Completions whose address is outside the UMEM or whose frame was not being sent.
    tx_completion_rejected,
    /// Frames handed to the kernel: through the ring, or in a train.
    tx_frame_handed,
    /// Frames the kernel is done with, those that the XDP program took out of trains included.
    tx_frame_completed,
    /// Trains sent through the XDP program, past the TX ring.
    tx_train_sent,
    /// Their packets.
    tx_xdp_frame_sent,
    /// Kicks that ended in a soft failure (EAGAIN, EBUSY, ENOBUFS).
    tx_kick_deferred,
    /// Datagrams copied into the UMEM because their memory was not of it.
    tx_datagram_copied,
    /// Datagrams that waited for their next hop.
    tx_datagram_parked,
    /// Datagrams longer than the MTU.
    tx_too_long_dropped,
    /// Datagrams whose source and destination are of different families.
    tx_family_mismatched_dropped,
    /// Trains of datagrams, which this device does not take.
    tx_train_dropped,
    /// Datagrams without room for headers in front.
    tx_headroom_missing_dropped,
    /// Datagrams with no route or no neighbour that answers.
    tx_unreachable_dropped,
    /// Datagrams that found too many others waiting for a next hop.
    tx_parked_full_dropped,
    /// Datagrams that waited for their next hop for too long.
    tx_parked_expired_dropped,
    /// Datagrams to send while the own link was down.
    tx_link_down_dropped,
    /// Frames whose handle did not match the ledger: a defect.
    tx_frame_rejected,
}

/// The kernel's counters, by our names.
///
/// In copy mode the kernel counts a packet that found the fill ring empty twice, by that cause and as dropped for some
/// cause (`__xsk_rcv`); here it counts once. In zero-copy mode an empty fill ring is the driver's look, not a packet.
pub(super) fn of_kernel(statistics: &XdpStatistics, zero_copy: bool) -> [(&'static str, u64); 6] {
    let empty = statistics.rx_fill_ring_empty_descs.unwrap_or(0);
    let (empty_name, named) =
        if zero_copy { ("rx_fill_ring_found_empty", 0) } else { ("rx_fill_ring_empty_dropped", empty) };
    [
        ("rx_kernel_dropped", statistics.rx_dropped.saturating_sub(named)),
        ("rx_kernel_descriptor_rejected", statistics.rx_invalid_descs),
        ("tx_kernel_descriptor_rejected", statistics.tx_invalid_descs),
        ("rx_ring_full_dropped", statistics.rx_ring_full.unwrap_or(0)),
        (empty_name, empty),
        ("tx_ring_found_empty", statistics.tx_ring_empty_descs.unwrap_or(0)),
    ]
}

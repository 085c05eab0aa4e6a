//! Leases of transmit memory out of a UMEM.

use std::sync::Arc;

use super::{FrameSight, UmemAudit, UmemPool};
use crate::{PacketBuf, PacketMemory, TX_HEADROOM, TxPool};

/// A pool as those who send see it.
#[derive(Debug)]
pub(crate) struct UmemTxPool(pub(crate) Arc<UmemPool>);

impl TxPool for UmemTxPool {
    fn lease(&self, _segments: usize) -> Option<PacketBuf> {
        let frame = self.0.lease()?;
        let window = TX_HEADROOM..frame.capacity();
        Some(PacketBuf::new(PacketMemory::Umem(frame), window))
    }

    fn lease_many(&self, count: usize, into: &mut Vec<PacketBuf>) -> usize {
        let window = TX_HEADROOM..self.0.frame_size();
        self.0.lease_many(count, |frame| {
            into.push(PacketBuf::new(PacketMemory::Umem(frame), window.clone()));
        })
    }

    fn datagram_capacity(&self) -> usize {
        self.0.frame_size() - TX_HEADROOM
    }

    fn available(&self) -> usize {
        self.0.leasable()
    }

    fn census(&self) -> Option<UmemAudit> {
        Some(self.0.census())
    }

    fn sights(&self) -> Vec<FrameSight> {
        self.0.sights()
    }
}

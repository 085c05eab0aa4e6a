//! Bytes of sampled datagrams, as they are on the wire: kept only where the builder opted in, and never more than so many.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// Bytes kept of one datagram: whole packets of any MTU an AF_XDP frame holds, so that they can be decrypted.
pub const SNAP_LEN: usize = 4096;

/// The bytes of one sampled datagram, or of the train it left in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Its journey.
    pub journey: u64,
    /// The datagrams: their lengths, and their first bytes.
    pub datagrams: Vec<(u32, Box<[u8]>)>,
}

impl Payload {
    /// Copies a datagram, or a train of datagrams of `segment` bytes each.
    pub(crate) fn of(journey: u64, bytes: &[u8], segment: Option<u16>) -> Self {
        let segment = segment.map_or(bytes.len(), usize::from).max(1);
        let snap = |datagram: &[u8]| (datagram.len() as u32, datagram[..datagram.len().min(SNAP_LEN)].into());
        Self { journey, datagrams: bytes.chunks(segment).map(snap).collect() }
    }

    /// Bytes of memory, about.
    pub fn memory(&self) -> usize {
        64 + self.datagrams.iter().map(|(_, bytes)| 24 + bytes.len()).sum::<usize>()
    }
}

/// Where they wait to be read; the oldest go first.
#[derive(Debug, Default)]
pub(crate) struct Payloads {
    pub(crate) limit: usize,
    kept: Mutex<(VecDeque<Payload>, usize)>,
}

impl Payloads {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    pub(crate) fn push(&self, payload: Payload) {
        let (queue, memory) = &mut *self.kept.lock();
        *memory += payload.memory();
        queue.push_back(payload);
        while *memory > self.limit {
            let Some(oldest) = queue.pop_front() else { break };
            *memory -= oldest.memory();
        }
    }

    pub(crate) fn take(&self) -> Vec<Payload> {
        let (queue, memory) = &mut *self.kept.lock();
        *memory = 0;
        std::mem::take(queue).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_are_cut_out_of_trains_snapped_and_the_oldest_make_room() {
        let payloads = Payloads::new(3 * (64 + 24 + SNAP_LEN));
        let long = vec![7; SNAP_LEN + 100];
        (1..=5).for_each(|journey| payloads.push(Payload::of(journey, &long, None)));
        let kept = payloads.take();
        assert_eq!(kept.iter().map(|it| it.journey).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!((kept[0].datagrams[0].0 as usize, kept[0].datagrams[0].1.len()), (long.len(), SNAP_LEN));
        assert!(payloads.take().is_empty());
        let train = Payload::of(9, &[1; 250], Some(100));
        assert_eq!(train.datagrams.iter().map(|(len, _)| *len).collect::<Vec<_>>(), [100, 100, 50]);
    }
}

//! The first hop, from the XDP program in the kernel to the devices, and the last, from the devices to the kernel.
//!
//! The program counts by rule what it redirects, each XSK's kernel side what it had to drop, and the device what it
//! took. An XSK that is opened anew counts from 0 and the program does not, so the books begin anew with it, as of what
//! was counted until then.
//!
//! On the way out a device counts the frames it hands to the kernel. The completion ring gives back those of the TX ring,
//! and of a train the program says how many frames it took; what is neither the ledger of the UMEM has with the kernel.
//! There the books end: the kernel completes a frame when its socket buffer goes, be it onto the wire or not, and does
//! not tell of a frame the interface refused.

use std::borrow::Cow;

use super::HopReading;
use crate::{api::UmemLedger, reading::DeviceReading};

/// Counters of the kernel for packets that were meant for an XSK and found no place.
const DROPS: [&str; 3] = ["rx_kernel_dropped", "rx_ring_full_dropped", "rx_fill_ring_empty_dropped"];

/// Counters of frames that were to be sent and that the kernel, or the UMEM, would not have.
const REFUSALS: [&str; 2] = ["tx_kernel_descriptor_rejected", "tx_frame_rejected"];

/// The books of these hops, from reading to reading.
#[derive(Debug, Default)]
pub struct KernelBooks {
    epoch: Option<Epoch>,
    out: Option<Out>,
}

/// What was handed to the kernel, as the reading before told.
#[derive(Debug)]
struct Out {
    devices: Vec<String>,
    handed: u64,
    settled: u64,
    /// With the kernel then.
    held: u64,
}

/// As long as the same program and the same XSKs count.
#[derive(Debug)]
struct Epoch {
    devices: Vec<String>,
    /// Redirected when the books began, beyond what was accounted for.
    base: u64,
    redirected: u64,
    accounted: u64,
}

impl KernelBooks {
    /// The hop, from what the program redirected to XSKs so far and the devices as they are now. `None` without an XSK.
    pub fn hop(&mut self, redirected: u64, devices: &[DeviceReading]) -> Option<HopReading> {
        let xsks: Vec<_> = devices.iter().filter(|it| it.rings.is_some() && it.kind == "xdp").collect();
        let names: Vec<_> = xsks.iter().map(|it| it.name.clone()).collect();
        if names.is_empty() {
            self.epoch = None;
            return None;
        }
        let received: u64 = xsks.iter().map(|it| it.rx_packets).sum();
        let queued: u64 = xsks.iter().filter_map(|it| it.rings.as_ref()).map(|it| it.rx.used).sum();
        let counted =
            |it: &&DeviceReading| DROPS.iter().filter_map(|name| it.counters.get(*name)).sum::<u64>();
        let dropped: u64 = xsks.iter().map(counted).sum();
        let accounted = received + dropped;
        let goes_on = self.epoch.as_ref().is_some_and(|it| {
            it.devices == names && it.redirected <= redirected && it.accounted <= accounted
        });
        if !goes_on {
            let base = redirected.saturating_sub(accounted + queued);
            self.epoch = Some(Epoch { devices: names, base, redirected, accounted });
        }
        let epoch = self.epoch.as_mut()?;
        // What was redirected by the reading before has arrived by now: a device tells of itself every few milliseconds.
        let sent_earlier = epoch.redirected.saturating_sub(epoch.base);
        (epoch.redirected, epoch.accounted) = (redirected, accounted);
        Some(HopReading {
            hop: Cow::Borrowed("XDP program → device"),
            sent: redirected.saturating_sub(epoch.base),
            received,
            queued,
            dropped,
            loss: Some(sent_earlier.saturating_sub(accounted + queued)),
            unaccounted: 0,
        })
    }

    /// The hop out, from the devices and the ledgers of their UMEMs as they are now. `None` without an XSK.
    pub fn hop_out(&mut self, devices: &[DeviceReading], umems: &[UmemLedger]) -> Option<HopReading> {
        let xsks: Vec<_> = devices.iter().filter(|it| it.rings.is_some() && it.kind == "xdp").collect();
        let names: Vec<_> = xsks.iter().map(|it| it.name.clone()).collect();
        if names.is_empty() {
            self.out = None;
            return None;
        }
        let sum = |name: &str| xsks.iter().filter_map(|it| it.counters.get(name)).sum::<u64>();
        let (handed, completed) = (sum("tx_frame_handed"), sum("tx_frame_completed"));
        let refused: u64 = REFUSALS.into_iter().map(sum).sum();
        let places = umems.iter().filter(|it| names.contains(&it.device)).flat_map(|it| &it.places);
        let held: u64 = places.filter(|it| it.place == "tx_ring").map(|it| it.frames).sum();
        let settled = completed + refused;
        let before = self.out.replace(Out { devices: names, handed, settled, held });
        let before = before.filter(|it| {
            Some(&it.devices) == self.out.as_ref().map(|now| &now.devices)
                && it.handed <= handed
                && it.settled <= settled
        });
        Some(HopReading {
            hop: Cow::Borrowed("device → kernel"),
            sent: handed,
            received: completed,
            queued: held,
            dropped: refused,
            // Whatever had been handed over at the reading before was settled by then, or with the kernel.
            loss: Some(before.map_or(0, |it| it.handed.saturating_sub(settled + it.held))),
            unaccounted: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{PlaceCount, Ring, Rings};

    fn xsk(name: &str, received: u64, ring_full: u64, waiting: u64) -> DeviceReading {
        DeviceReading {
            name: name.to_owned(),
            kind: "xdp".to_owned(),
            rings: Some(Rings { rx: Ring { size: 64, used: waiting }, ..Rings::default() }),
            rx_packets: received,
            counters: [("rx_ring_full_dropped".to_owned(), ring_full)].into(),
            ..DeviceReading::default()
        }
    }

    #[test]
    fn what_the_program_redirects_arrives_waits_or_was_dropped_by_the_kernel() {
        let mut books = KernelBooks::default();
        let mut loss =
            |redirected, devices: &[DeviceReading]| books.hop(redirected, devices).expect("an XSK").loss;
        assert_eq!(loss(0, &[xsk("eth0/0", 0, 0, 0)]), Some(0));
        assert_eq!(loss(100, &[xsk("eth0/0", 60, 0, 0)]), Some(0), "on their way");
        assert_eq!(loss(160, &[xsk("eth0/0", 95, 3, 2)]), Some(0), "two wait, three found the ring full");
        assert_eq!(loss(200, &[xsk("eth0/0", 150, 3, 0)]), Some(7), "160 were redirected, 153 seen");
    }

    #[test]
    fn an_xsk_opened_anew_begins_the_books_anew() {
        let mut books = KernelBooks::default();
        books.hop(0, &[xsk("eth0/0", 0, 0, 0)]);
        books.hop(500, &[xsk("eth0/0", 500, 0, 0)]);
        let reborn = books.hop(520, &[xsk("eth0/0", 4, 0, 0)]).expect("an XSK");
        assert_eq!((reborn.sent, reborn.received, reborn.loss), (4, 4, Some(0)));
        let next = books.hop(620, &[xsk("eth0/0", 104, 0, 0)]).expect("an XSK");
        assert_eq!((next.sent, next.received, next.loss), (104, 104, Some(0)));
        let lossy = books.hop(720, &[xsk("eth0/0", 104, 0, 0)]).expect("an XSK");
        assert_eq!(lossy.loss, Some(0));
        assert_eq!(books.hop(720, &[xsk("eth0/0", 110, 0, 0)]).expect("an XSK").loss, Some(94));
        assert!(books.hop(720, &[]).is_none());
    }

    fn sender(handed: u64, completed: u64) -> DeviceReading {
        let counters =
            [("tx_frame_handed", handed), ("tx_frame_completed", completed), ("tx_frame_rejected", 1)];
        let counters = counters.map(|(name, count)| (name.to_owned(), count)).into();
        DeviceReading { counters, ..xsk("eth0/0", 0, 0, 0) }
    }

    fn umem(held: u64) -> UmemLedger {
        let place = PlaceCount { place: "tx_ring".into(), frames: held, oldest_age_ns: None };
        UmemLedger { device: "eth0/0".into(), places: vec![place], ..UmemLedger::default() }
    }

    #[test]
    fn what_is_handed_to_the_kernel_comes_back_is_still_there_or_was_refused() {
        let mut books = KernelBooks::default();
        let mut loss = |handed, completed, held| {
            books.hop_out(&[sender(handed, completed)], &[umem(held)]).expect("an XSK").loss
        };
        assert_eq!(loss(100, 60, 39), Some(0));
        assert_eq!(loss(200, 150, 49), Some(0));
        assert_eq!(loss(300, 199, 10), Some(0), "ninety that were handed over since are not looked for yet");
        assert_eq!(loss(300, 210, 0), Some(79), "they neither came back nor are they held");
        assert_eq!(loss(20, 19, 0), Some(0), "an XSK opened anew begins anew");
        assert!(books.hop_out(&[], &[]).is_none());
    }
}

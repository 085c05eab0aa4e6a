//! The first hop: from the XDP program, in the kernel, to the devices.
//!
//! The program counts by rule what it redirects, each XSK's kernel side what it had to drop, and the device what it
//! took. An XSK that is opened anew counts from 0 and the program does not, so the books begin anew with it, as of what
//! was counted until then.

use std::borrow::Cow;

use super::HopReading;
use crate::reading::DeviceReading;

/// Counters of the kernel for packets that were meant for an XSK and found no place.
const DROPS: [&str; 3] = ["rx_kernel_dropped", "rx_ring_full_dropped", "rx_fill_ring_empty_dropped"];

/// The books of this hop, from reading to reading.
#[derive(Debug, Default)]
pub struct KernelBooks {
    epoch: Option<Epoch>,
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Ring, Rings};

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
}

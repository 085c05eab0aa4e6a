//! Who hands us the packets of a remote address: a gateway that begins to send from another hardware address most
//! likely receives at another, too. A connection that only receives would never notice: what it sends is not missed.

use std::{net::IpAddr, time::Duration};

use wirepath_trace::Nanos;

/// Remote addresses remembered, by a hash: a few KiB. Two that share a place tell nothing, and nothing wrong.
const PLACES: usize = 64;

/// The least time between two changes told of one remote address; doubled by each, so that a network that sends by two
/// gateways in turn is not asked about for ever.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The hardware addresses that packets of some remote addresses came from.
#[derive(Debug, Default)]
pub(super) struct Origins {
    places: Vec<Option<Place>>,
    /// Looked at already in this batch.
    looked: Option<IpAddr>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    remote: IpAddr,
    mac: [u8; 6],
    silent_until: Nanos,
    wait: Nanos,
}

impl Origins {
    /// Another batch begins.
    pub(super) fn begin_batch(&mut self) {
        self.looked = None;
    }

    /// A packet of `remote` came in this Ethernet frame. Tells the frame's source if the last one's was another.
    #[inline]
    pub(super) fn note(&mut self, now: Nanos, remote: IpAddr, frame: &[u8]) -> Option<[u8; 6]> {
        // One packet of a run says what all do.
        if self.looked == Some(remote) {
            return None;
        }
        self.looked = Some(remote);
        let mac = frame.get(6..12)?.try_into().ok()?;
        self.compare(now, remote, mac)
    }

    fn compare(&mut self, now: Nanos, remote: IpAddr, mac: [u8; 6]) -> Option<[u8; 6]> {
        if self.places.is_empty() {
            self.places = vec![None; PLACES];
        }
        let place = &mut self.places[place_of(remote)];
        let first = Place { remote, mac, silent_until: 0, wait: FIRST_WAIT.as_nanos() as Nanos };
        let known = place.get_or_insert(first);
        if known.remote != remote {
            *known = first;
            return None;
        }
        if known.mac == mac || now < known.silent_until {
            return None;
        }
        known.mac = mac;
        known.silent_until = now.saturating_add(known.wait);
        known.wait = known.wait.saturating_mul(2);
        Some(mac)
    }
}

fn place_of(remote: IpAddr) -> usize {
    let bits = match remote {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits() as u64 ^ (ip.to_bits() >> 64) as u64,
    };
    (bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58) as usize % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(source: u8) -> [u8; 14] {
        let mut frame = [0; 14];
        frame[6..12].fill(source);
        frame
    }

    #[test]
    fn a_change_is_told_once_and_ever_less_often() {
        let remote: IpAddr = "10.0.0.1".parse().unwrap();
        let second = FIRST_WAIT.as_nanos() as Nanos;
        let mut origins = Origins::default();
        let mut note = |now, source| {
            origins.begin_batch();
            origins.note(now, remote, &frame(source))
        };
        assert_eq!(note(1, 7), None, "nothing to compare with");
        assert_eq!(note(2, 7), None);
        assert_eq!(note(3, 8), Some([8; 6]));
        assert_eq!(note(4, 8), None);
        assert_eq!(note(5, 7), None, "lately");
        assert_eq!(note(3 + second, 7), Some([7; 6]));
        assert_eq!(note(3 + 2 * second, 8), None, "twice the time now");
        assert_eq!(note(3 + 3 * second, 8), Some([8; 6]));
    }

    #[test]
    fn one_packet_of_a_run_is_looked_at_and_remotes_are_told_apart() {
        let [one, other] = ["10.0.0.1", "fd00::1"].map(|ip| ip.parse::<IpAddr>().unwrap());
        let mut origins = Origins::default();
        assert_eq!(origins.note(1, one, &frame(7)), None);
        assert_eq!(origins.note(1, other, &frame(9)), None);
        assert_eq!(origins.note(1, one, &frame(8)), Some([8; 6]));
        assert_eq!(origins.note(1, one, &frame(7)), None, "of the same run");
        assert_eq!(origins.note(1, other, &frame(9)), None);
        assert_eq!(origins.note(1, one, &[]), None, "no frame at all");
    }
}

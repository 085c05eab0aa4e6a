//! As much of Ethernet, IP and UDP as it takes to damage a datagram on purpose.

const ETHERNET_HEADER: usize = 14;
const UDP_HEADER: usize = 8;
const UDP: u8 = 17;

/// Where the UDP header of a frame starts; `None` if it carries none, or one we would have to look deeper
/// for (fragments, IPv6 extension headers, tags) and so leave in peace.
pub(super) fn udp_offset(frame: &[u8]) -> Option<usize> {
    let packet = frame.get(ETHERNET_HEADER..)?;
    let offset = match (frame[12], frame[13]) {
        (0x08, 0x00) => {
            let header = packet.get(..20)?;
            let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff;
            (header[9] == UDP && fragment == 0).then_some(usize::from(header[0] & 0x0f) * 4)?
        }
        (0x86, 0xdd) => (packet.get(..40)?[6] == UDP).then_some(40)?,
        _ => return None,
    };
    let udp = ETHERNET_HEADER + offset;
    (frame.len() >= udp + UDP_HEADER).then_some(udp)
}

/// Flips one bit of the UDP payload, chosen by `choice`. With `fit_checksum` the checksum is updated to match
/// (RFC 1624 §3); a checksum of zero, "none" over IPv4, stays. False, and nothing done, if there is no
/// payload of at least two bytes.
pub(super) fn flip_bit(frame: &mut [u8], udp: usize, choice: u64, fit_checksum: bool) -> bool {
    let words = (frame.len() - udp - UDP_HEADER) / 2;
    if words == 0 {
        return false;
    }
    let at = udp + UDP_HEADER + 2 * (choice as usize / 16 % words);
    let old = u16::from_be_bytes([frame[at], frame[at + 1]]);
    let new = old ^ 1 << (choice % 16);
    frame[at..at + 2].copy_from_slice(&new.to_be_bytes());
    if fit_checksum && frame[udp + 6..udp + 8] != [0, 0] {
        self::fit_checksum(frame, udp + 6, old, new);
    }
    true
}

/// Updates the checksum at `at` for a word that was changed (RFC 1624 §3).
pub(super) fn fit_checksum(frame: &mut [u8], at: usize, old: u16, new: u16) {
    let sum = u16::from_be_bytes([frame[at], frame[at + 1]]);
    let total = u32::from(!sum) + u32::from(!old) + u32::from(new);
    let folded = (total & 0xffff) + (total >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    // A sum of zero is sent as its other representation (RFC 768): zero means none.
    let fitted = match !(folded as u16) {
        0 => 0xffff,
        sum => sum,
    };
    frame[at..at + 2].copy_from_slice(&fitted.to_be_bytes());
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A frame with a UDP datagram from 10.0.0.1 to 10.0.0.2 in it, checksum right.
    pub(in crate::impair) fn datagram(payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
        let len = (20 + UDP_HEADER + payload.len()) as u16;
        frame.extend([0x45, 0]);
        frame.extend(len.to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, UDP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0x11, 0x51, 0x01, 0xbb]);
        frame.extend((len - 20).to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(payload);
        let udp = udp_offset(&frame).unwrap();
        let sum = !sum(&frame, udp);
        frame[udp + 6..udp + 8].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    /// The one's complement sum that is 0xffff when the checksum is right.
    fn sum(frame: &[u8], udp: usize) -> u16 {
        let mut bytes = frame[udp - 8..].to_vec();
        bytes.extend([0, UDP]);
        bytes.extend(((frame.len() - udp) as u16).to_be_bytes());
        if (frame.len() - udp) % 2 == 1 {
            bytes.insert(frame.len() - udp + 8, 0);
        }
        let mut total: u32 =
            bytes.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
        while total > 0xffff {
            total = (total & 0xffff) + (total >> 16);
        }
        total as u16
    }

    /// Whether the UDP checksum of a frame is right.
    pub(in crate::impair) fn is_whole(frame: &[u8]) -> bool {
        udp_offset(frame).is_some_and(|udp| sum(frame, udp) == 0xffff)
    }

    #[test]
    fn a_flipped_bit_shows_in_the_checksum_unless_it_is_fitted() {
        for len in [2usize, 3, 64, 1201] {
            for choice in 0..200 {
                let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
                let frame = datagram(&payload);
                let udp = udp_offset(&frame).unwrap();
                assert_eq!(sum(&frame, udp), 0xffff);
                let (mut told, mut hidden) = (frame.clone(), frame.clone());
                assert!(flip_bit(&mut told, udp, choice, false));
                assert_ne!(sum(&told, udp), 0xffff);
                assert!(flip_bit(&mut hidden, udp, choice, true));
                assert_eq!(sum(&hidden, udp), 0xffff);
                assert_eq!(told[udp + 8..], hidden[udp + 8..]);
                let flipped: u32 =
                    frame[udp + 8..].iter().zip(&told[udp + 8..]).map(|(a, b)| (a ^ b).count_ones()).sum();
                assert_eq!(flipped, 1);
            }
        }
    }

    #[test]
    fn only_whole_udp_datagrams_are_touched() {
        let frame = datagram(b"payload");
        assert_eq!(udp_offset(&frame), Some(34));
        for len in 0..42 {
            assert_eq!(udp_offset(&frame[..len]), None, "cut to {len}");
        }
        let mut fragment = frame.clone();
        fragment[20] = 0x20;
        assert_eq!(udp_offset(&fragment), None);
        let mut tcp = frame.clone();
        tcp[23] = 6;
        assert_eq!(udp_offset(&tcp), None);
        assert!(!flip_bit(&mut datagram(b"x"), 34, 0, false), "no whole word to damage");
    }
}

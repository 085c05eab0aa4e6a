//! Captures in the classic pcap format (draft-ietf-opsawg-pcap).

const HEADER_LEN: usize = 24;
const RECORD_LEN: usize = 16;
const ETHERNET: u32 = 1;

/// The frames of a capture, in order.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn frames(file: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    let (header, mut rest) = file.split_at_checked(HEADER_LEN).ok_or("too short for a capture")?;
    // Microseconds or nanoseconds, in the byte order of whoever wrote it.
    let number: fn([u8; 4]) -> u32 = match word(header, 0) {
        Some([0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d]) => u32::from_be_bytes,
        Some([0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1]) => u32::from_le_bytes,
        Some([0x0a, 0x0d, 0x0d, 0x0a]) => return Err("pcapng; `editcap -F pcap IN OUT` converts it"),
        _ => return Err("no pcap capture"),
    };
    // The upper bits say whether frames end in a checksum.
    if word(header, 20).map(|link| number(link) & 0xffff) != Some(ETHERNET) {
        return Err("not captured on Ethernet");
    }
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let (record, more) = rest.split_at_checked(RECORD_LEN).ok_or("it ends within a packet's header")?;
        let len = word(record, 8).map(number).unwrap_or_default() as usize;
        let (frame, more) = more.split_at_checked(len).ok_or("it ends within a packet")?;
        frames.push(frame.to_vec());
        rest = more;
    }
    Ok(frames)
}

fn word(bytes: &[u8], at: usize) -> Option<[u8; 4]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(big: bool, magic: u32, link: u32, packets: &[&[u8]]) -> Vec<u8> {
        let bytes = |n: u32| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        let mut file = [magic, 0x0002_0004, 0, 0, 65_535, link].map(bytes).concat();
        for packet in packets {
            file.extend([7, 8, packet.len() as u32, 9000].map(bytes).concat());
            file.extend_from_slice(packet);
        }
        file
    }

    #[test]
    fn both_byte_orders_and_both_clocks_are_read() {
        for (big, magic) in
            [(true, 0xa1b2_c3d4), (false, 0xa1b2_c3d4), (true, 0xa1b2_3c4d), (false, 0xa1b2_3c4d)]
        {
            let file = capture(big, magic, ETHERNET, &[b"one", b"", b"three"]);
            assert_eq!(frames(&file).unwrap(), [b"one".to_vec(), vec![], b"three".to_vec()]);
        }
    }

    #[test]
    fn what_is_no_capture_of_ethernet_is_refused() {
        let good = capture(true, 0xa1b2_c3d4, ETHERNET, &[b"packet"]);
        for len in (0..good.len()).filter(|len| *len != HEADER_LEN) {
            assert!(frames(&good[..len]).is_err(), "{len}");
        }
        assert_eq!(frames(&capture(true, 0xa1b2_c3d4, 101, &[])), Err("not captured on Ethernet"));
        assert!(frames(&capture(true, 0x0a0d_0d0a, 1, &[])).unwrap_err().contains("editcap"));
        assert_eq!(frames(&[0; 24]), Err("no pcap capture"));
    }
}

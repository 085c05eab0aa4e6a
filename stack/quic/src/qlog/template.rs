//! Records of which thousands differ in a few numbers only: packets full of one stream's data.
//!
//! The last record stays as it was written, with room for longer numbers: JSON allows spaces before a value. For the next
//! one only what differs is written anew, and in a train of packets that is little.

use std::time::Duration;

use super::json::write_digits;

/// Digits that a number has room for. A larger one is written the long way.
const TIME: usize = 8;
const NUMBER: usize = 10;
const LENGTH: usize = 5;
const STREAM: usize = 8;
const OFFSET: usize = 13;

/// A number's place.
#[derive(Clone, Copy, Debug, Default)]
struct Field {
    /// Where its last digit ends.
    end: usize,
    /// Digits it has now, and may have.
    digits: usize,
    width: usize,
    value: u64,
}

/// What such a record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bulk {
    pub(super) number: u64,
    /// Bytes of the packet.
    pub(super) len: u64,
    pub(super) stream: Data,
}

/// A STREAM frame without FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Data {
    pub(super) id: u64,
    pub(super) offset: u64,
    pub(super) len: u64,
}

impl Data {
    /// The payload's only frame, if it is one of these (RFC 9000 §19.8).
    #[inline]
    pub(super) fn alone_in(payload: &[u8]) -> Option<Self> {
        let (&tag, rest) = payload.split_first()?;
        if tag & 0xf9 != 0x08 {
            return None;
        }
        let (id, rest) = varint(rest)?;
        let (offset, rest) = if tag & 0x04 != 0 { varint(rest)? } else { (0, rest) };
        let (len, rest) = if tag & 0x02 != 0 { varint(rest)? } else { (rest.len() as u64, rest) };
        (len == rest.len() as u64).then_some(Self { id, offset, len })
    }
}

/// RFC 9000 §16.
#[inline]
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let &first = bytes.first()?;
    let (value, rest) = match first >> 6 {
        0 => return Some((u64::from(first), &bytes[1..])),
        1 => bytes.split_first_chunk().map(|(head, rest)| (u64::from(u16::from_be_bytes(*head)), rest))?,
        2 => bytes.split_first_chunk().map(|(head, rest)| (u64::from(u32::from_be_bytes(*head)), rest))?,
        _ => bytes.split_first_chunk().map(|(head, rest)| (u64::from_be_bytes(*head), rest))?,
    };
    let len = bytes.len() - rest.len();
    Some((value & (u64::MAX >> (66 - 8 * len)), rest))
}

/// The last record of one direction.
pub(super) struct Template {
    bytes: Vec<u8>,
    time: Field,
    number: Field,
    len: Field,
    stream: Field,
    offset: Field,
    data: Field,
    micros: u32,
}

impl Template {
    pub(super) fn new(sent: bool) -> Self {
        let mut bytes = Vec::new();
        let mut place = |text: &str, width: usize| {
            bytes.extend_from_slice(text.as_bytes());
            bytes.resize(bytes.len() + width, b' ');
            let end = bytes.len();
            if width > 0 {
                bytes[end - 1] = b'0';
            }
            Field { end, digits: 1, width, value: 0 }
        };
        let name = if sent { "sent" } else { "received" };
        let time = place("\u{1e}{\"time\":", TIME);
        let head = format!(
            ".000,\"name\":\"transport:packet_{name}\",\"data\":{{\"header\":{{\"packet_type\":\"1RTT\",\"packet_number\":"
        );
        let number = place(&head, NUMBER);
        let len = place("},\"raw\":{\"length\":", LENGTH);
        let stream = place("},\"frames\":[{\"frame_type\":\"stream\",\"stream_id\":", STREAM);
        let offset = place(",\"offset\":", OFFSET);
        let data = place(",\"length\":", LENGTH);
        place("}]}}\n", 0);
        Self { bytes, time, number, len, stream, offset, data, micros: 0 }
    }

    /// The record; `None` if a number has no room.
    #[inline]
    pub(super) fn fill(&mut self, time: Duration, bulk: &Bulk) -> Option<&[u8]> {
        let Self { bytes, .. } = self;
        let micros = time.subsec_micros();
        // Whole milliseconds since the start are the same for all of a train, and micros too.
        if micros != self.micros || time.as_secs() != self.time.value / 1000 {
            let millis = time.as_secs() * 1000 + u64::from(micros / 1000);
            self.time.set(bytes, millis)?;
            let end = self.time.end;
            bytes[end + 1..end + 4].fill(b'0');
            write_digits(&mut bytes[end + 1..end + 4], u64::from(micros % 1000));
            self.micros = micros;
        }
        self.number.set(bytes, bulk.number)?;
        self.len.set(bytes, bulk.len)?;
        self.stream.set(bytes, bulk.stream.id)?;
        self.offset.set(bytes, bulk.stream.offset)?;
        self.data.set(bytes, bulk.stream.len)?;
        Some(bytes)
    }
}

impl Field {
    #[inline]
    fn set(&mut self, bytes: &mut [u8], value: u64) -> Option<()> {
        if value == self.value {
            return Some(());
        }
        if value >= 10_u64.pow(self.width as u32) {
            return None;
        }
        let place = &mut bytes[self.end - self.width..self.end];
        let digits = write_digits(place, value);
        // What was longer leaves digits behind.
        if digits < self.digits {
            place[self.width - self.digits..self.width - digits].fill(b' ');
        }
        (self.digits, self.value) = (digits, value);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_tells_its_own_numbers_whatever_came_before() {
        let mut template = Template::new(true);
        let mut seed = 9_u64;
        let mut any = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let digits = (seed >> 59) % 14;
            (seed >> 20) % 10_u64.pow(digits as u32).clamp(1, below)
        };
        for _ in 0..5000 {
            let time = Duration::from_micros(any(10_u64.pow(11)));
            let stream = Data { id: any(10_u64.pow(8)), offset: any(10_u64.pow(13)), len: any(65536) };
            let bulk = Bulk { number: any(10_u64.pow(10)), len: any(65536), stream };
            let text =
                std::str::from_utf8(template.fill(time, &bulk).expect("room")).unwrap().replace(' ', "");
            let (millis, micros) = (time.as_millis(), time.subsec_micros() % 1000);
            let Bulk { number, len, stream: Data { id, offset, len: data } } = bulk;
            assert_eq!(
                text,
                format!(
                    "\u{1e}{{\"time\":{millis}.{micros:03},\"name\":\"transport:packet_sent\",\"data\":{{\"header\":\
                     {{\"packet_type\":\"1RTT\",\"packet_number\":{number}}},\"raw\":{{\"length\":{len}}},\"frames\":\
                     [{{\"frame_type\":\"stream\",\"stream_id\":{id},\"offset\":{offset},\"length\":{data}}}]}}}}\n"
                )
            );
        }
        let large = Bulk { number: 10_u64.pow(10), len: 1, stream: Data { id: 0, offset: 0, len: 1 } };
        assert_eq!(template.fill(Duration::ZERO, &large), None);
    }

    #[test]
    fn only_a_stream_frame_alone_and_without_fin_is_taken() {
        let data = |id, offset, len| Some(Data { id, offset, len });
        assert_eq!(Data::alone_in(&[0x08, 4, 1, 2, 3]), data(4, 0, 3));
        assert_eq!(Data::alone_in(&[0x0c, 0x40, 4, 0x80, 0, 1, 0, 9]), data(4, 256, 1));
        assert_eq!(Data::alone_in(&[0x0e, 4, 0xc0, 0, 0, 1, 0, 0, 0, 0, 2, 9, 9]), data(4, 1 << 32, 2));
        for other in [
            &[][..],
            &[0x08],
            &[0x09, 4, 1],
            &[0x0a, 4, 1, 9, 0],
            &[0x0a, 4, 3, 9],
            &[0x06, 0, 0],
            &[0x0c, 4, 0x80],
        ] {
            assert_eq!(Data::alone_in(other), None, "{other:x?}");
        }
    }
}

//! Records of which thousands differ in a few numbers only: packets full of one stream's data.
//!
//! The record before stays, with room for longer numbers: JSON allows spaces before a value. What is the same in all of a
//! train of packets is written there when it changes; a packet's number and its data's offset, where the record goes.

use s2n_quic_core::time::Timestamp;

use super::digits::{BELOW_1E8, Padded};
use super::json::{Json, decimals};
use super::varint::Varints;

/// Bytes of a number's place. One with more digits has its record written the long way.
const WIDTH: usize = 8;

/// Bytes of the place of a length, which no datagram's passes.
const LENGTH: usize = 5;

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
        let mut rest = Varints(rest);
        let id = rest.next()?;
        let offset = if tag & 0x04 != 0 { rest.next()? } else { 0 };
        let len = if tag & 0x02 != 0 { rest.next()? } else { rest.0.len() as u64 };
        (len == rest.0.len() as u64).then_some(Self { id, offset, len })
    }
}

/// The last record of one direction, without what differs in each.
pub(super) struct Template {
    bytes: Vec<u8>,
    /// What it tells of: when, in how long a packet, how much of which stream, behind how many times 100,000,000 bytes.
    now: Option<Timestamp>,
    same: Same,
    /// The last packet's number: the next one's mostly differs in a digit.
    last: (u64, Padded),
    /// Where each number is.
    time: usize,
    number: usize,
    len: usize,
    stream: usize,
    offset: usize,
    data: usize,
}

/// What changes seldom.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Same {
    len: u64,
    stream: u64,
    /// A multiple of 100,000,000.
    far: u64,
    data: u64,
}

impl Template {
    /// For packets sent or received. Nothing has been written in it yet.
    pub(super) fn new(sent: bool) -> Self {
        let mut bytes = Vec::new();
        let mut place = |text: &str, width: usize| {
            bytes.extend_from_slice(text.as_bytes());
            bytes.resize(bytes.len() + width, b' ');
            bytes.len() - width
        };
        let name = if sent { "sent" } else { "received" };
        let time = place("\u{1e}{\"time\":", WIDTH);
        let head = format!(
            ".000,\"name\":\"transport:packet_{name}\",\"data\":{{\"header\":{{\"packet_type\":\"1RTT\",\"packet_number\":"
        );
        let number = place(&head, WIDTH);
        let len = place("},\"raw\":{\"length\":", LENGTH);
        let stream = place("},\"frames\":[{\"frame_type\":\"stream\",\"stream_id\":", WIDTH);
        let offset = place(",\"offset\":", 2 * WIDTH);
        let data = place(",\"length\":", LENGTH);
        place("}]}}\n", 0);
        // No packet has this length: the first record writes everything.
        let same = Same { len: u64::MAX, stream: 0, far: 0, data: 0 };
        let last = (0, Padded::of(0));
        Self { bytes, now: None, same, last, time, number, len, stream, offset, data }
    }

    /// Writes the record of a packet at `now`, in a log from `start` on; `None` if a number has no room.
    #[inline]
    pub(super) fn write(
        &mut self,
        json: &mut Json,
        start: Timestamp,
        now: Timestamp,
        bulk: &Bulk,
    ) -> Option<()> {
        let Bulk { number, len, stream } = bulk;
        if self.now != Some(now) {
            self.set_time(start, now)?;
        }
        // No division while it is about the same place.
        let mut near = stream.offset.wrapping_sub(self.same.far);
        let mut same = Same { len: *len, stream: stream.id, far: self.same.far, data: stream.len };
        if near >= BELOW_1E8 {
            near = stream.offset % BELOW_1E8;
            same.far = stream.offset - near;
        }
        if same != self.same {
            self.set_same(&same)?;
        }
        let near = Padded::of(near as u32);
        let near = if same.far == 0 { near.spaces() } else { near.zeros() };
        let number = self.number_text(*number)?.spaces();
        json.append(&self.bytes, [(self.number, number), (self.offset + WIDTH, near)]);
        Some(())
    }

    #[inline]
    fn number_text(&mut self, number: u64) -> Option<Padded> {
        let (last, text) = self.last;
        let next = if number == last + 1 { text.next() } else { None };
        let text = match next {
            Some(text) => text,
            None if number < BELOW_1E8 => Padded::of(number as u32),
            None => return None,
        };
        self.last = (number, text);
        Some(text)
    }

    /// Once a turn.
    fn set_time(&mut self, start: Timestamp, now: Timestamp) -> Option<()> {
        let micros = now.saturating_duration_since(start).as_micros() as u64;
        let (millis, thousandths) = (micros / 1000, (micros % 1000) as u32);
        self.put(self.time, &number(millis)?);
        self.put(self.time + WIDTH, &decimals(thousandths));
        self.now = Some(now);
        Some(())
    }

    fn set_same(&mut self, same: &Same) -> Option<()> {
        let length = |value| number(value).filter(|_| value <= u64::from(u16::MAX));
        let (len, data) = (length(same.len)?, length(same.data)?);
        let (stream, far) = (number(same.stream)?, number(same.far / BELOW_1E8)?);
        self.put(self.len, &len[WIDTH - LENGTH..]);
        self.put(self.data, &data[WIDTH - LENGTH..]);
        self.put(self.stream, &stream);
        self.put(self.offset, if same.far == 0 { &[b' '; WIDTH] } else { &far });
        self.same = *same;
        Some(())
    }

    fn put(&mut self, at: usize, text: &[u8]) {
        self.bytes[at..at + text.len()].copy_from_slice(text);
    }
}

fn number(value: u64) -> Option<[u8; WIDTH]> {
    (value < BELOW_1E8).then(|| Padded::of(value as u32).spaces())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use s2n_quic_core::time::{Clock as _, NoopClock};

    use super::*;

    #[test]
    fn a_record_tells_its_own_numbers_whatever_came_before() {
        let start = NoopClock.get_time() + Duration::from_secs(1);
        let mut template = Template::new(true);
        let mut seed = 9_u64;
        let mut any = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let digits = (seed >> 59) % 17;
            (seed >> 7) % 10_u64.pow(digits as u32).clamp(1, below)
        };
        for _ in 0..5000 {
            // No time at all counts as a microsecond.
            let time = Duration::from_micros(any(10_u64.pow(11)).max(1));
            let stream = Data { id: any(10_u64.pow(8)), offset: any(10_u64.pow(16)), len: any(65536) };
            let bulk = Bulk { number: any(10_u64.pow(8)), len: any(65536), stream };
            let mut json = Json::default();
            template.write(&mut json, start, start + time, &bulk).expect("room");
            let text = std::str::from_utf8(json.as_slice()).unwrap().replace(' ', "");
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
        let fits = Bulk { number: 1, len: 1, stream: Data { id: 0, offset: 0, len: 1 } };
        let (many, wide) = (10_u64.pow(8), 10_u64.pow(16));
        for large in [
            Bulk { number: many, ..fits },
            Bulk { len: 65536, ..fits },
            Bulk { stream: Data { id: many, ..fits.stream }, ..fits },
            Bulk { stream: Data { offset: wide, ..fits.stream }, ..fits },
            Bulk { stream: Data { len: 65536, ..fits.stream }, ..fits },
        ] {
            assert_eq!(template.write(&mut Json::default(), start, start, &large), None, "{large:?}");
        }
        let late = start + Duration::from_millis(many);
        assert_eq!(template.write(&mut Json::default(), start, late, &fits), None);
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

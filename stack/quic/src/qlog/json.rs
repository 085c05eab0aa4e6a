//! Just enough JSON: fragments known beforehand, numbers and hexadecimal strings, appended to one buffer.

use std::time::Duration;

/// Two digits of each number below 100.
const PAIRS: &[u8; 200] = b"0001020304050607080910111213141516171819\
2021222324252627282930313233343536373839\
4041424344454647484950515253545556575859\
6061626364656667686970717273747576777879\
8081828384858687888990919293949596979899";

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Writes a number at the end of `place`, which has room for it; gives its number of digits.
#[inline]
pub(super) fn write_digits(place: &mut [u8], mut value: u64) -> usize {
    let mut at = place.len();
    while value >= 100 {
        let pair = (value % 100) as usize * 2;
        value /= 100;
        at -= 2;
        place[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    }
    if value >= 10 {
        let pair = value as usize * 2;
        at -= 2;
        place[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    } else {
        at -= 1;
        place[at] = b'0' + value as u8;
    }
    place.len() - at
}

/// Records under construction. The memory is kept, so that it soon allocates no more.
#[derive(Default)]
pub(super) struct Json {
    bytes: Vec<u8>,
}

impl Json {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Text that is JSON already.
    #[inline]
    pub(super) fn put(&mut self, text: &str) -> &mut Self {
        self.bytes.extend_from_slice(text.as_bytes());
        self
    }

    #[inline]
    pub(super) fn number(&mut self, value: u64) -> &mut Self {
        let mut digits = [0; 20];
        let len = write_digits(&mut digits, value);
        self.bytes.extend_from_slice(&digits[digits.len() - len..]);
        self
    }

    /// Records that are whole.
    #[inline]
    pub(super) fn append(&mut self, records: &[u8]) {
        self.bytes.extend_from_slice(records);
    }

    /// Milliseconds with three decimals, qlog's unit of time.
    #[inline]
    pub(super) fn millis(&mut self, time: Duration) -> &mut Self {
        let micros = time.as_micros() as u64;
        self.number(micros / 1000);
        let rest = (micros % 1000) as usize;
        let pair = rest % 100 * 2;
        self.bytes.extend_from_slice(&[b'.', b'0' + (rest / 100) as u8, PAIRS[pair], PAIRS[pair + 1]]);
        self
    }

    /// Bytes as a hexadecimal string.
    pub(super) fn hex(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.push(b'"');
        for &byte in bytes {
            self.bytes.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        self.bytes.push(b'"');
        self
    }

    /// Bytes of whoever wrote them, as a string.
    pub(super) fn text(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.push(b'"');
        for char in String::from_utf8_lossy(bytes).chars() {
            match char {
                '"' | '\\' => self.bytes.extend_from_slice(&[b'\\', char as u8]),
                char if char.is_control() => self.bytes.push(b' '),
                char => self.bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        self.bytes.push(b'"');
        self
    }

    /// Takes back a comma at the end.
    pub(super) fn trim_comma(&mut self) -> &mut Self {
        if self.bytes.last() == Some(&b',') {
            self.bytes.pop();
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Json)) -> String {
        let mut json = Json::default();
        write(&mut json);
        String::from_utf8(json.bytes).unwrap()
    }

    #[test]
    fn numbers_are_written_as_they_are() {
        for value in [0, 7, 10, 99, 100, 101, 999, 1000, 12345, 100_000, u64::MAX] {
            assert_eq!(written(|json| _ = json.number(value)), value.to_string());
        }
        for (micros, text) in [(0, "0.000"), (7, "0.007"), (1234, "1.234"), (5_000_050, "5000.050")] {
            assert_eq!(written(|json| _ = json.millis(Duration::from_micros(micros))), text);
        }
    }

    #[test]
    fn strings_are_escaped() {
        assert_eq!(written(|json| _ = json.text(b"a\"b\\c\n\xff")), "\"a\\\"b\\\\c \u{fffd}\"");
        assert_eq!(written(|json| _ = json.hex(&[0, 0xaf, 9])), "\"00af09\"");
    }
}

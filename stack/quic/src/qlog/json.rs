//! Just enough JSON: fragments known beforehand, numbers and hexadecimal strings, appended to one buffer.

use std::time::Duration;

use super::digits::{BELOW_1E8, Padded};

const HEX: &[u8; 16] = b"0123456789abcdef";

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

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes back what was appended since it was so long.
    pub(super) fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    /// Text that is JSON already.
    #[inline]
    pub(super) fn put(&mut self, text: &str) -> &mut Self {
        self.bytes.extend_from_slice(text.as_bytes());
        self
    }

    #[inline]
    pub(super) fn number(&mut self, value: u64) -> &mut Self {
        if value >= BELOW_1E8 {
            self.number(value / BELOW_1E8);
            self.bytes.extend_from_slice(&Padded::of_rest(value).zeros());
            return self;
        }
        let (word, len) = Padded::of(value as u32).digits();
        let end = self.bytes.len() + len;
        // Whole words go without a call; what is no digit is taken back.
        self.bytes.extend_from_slice(&word);
        self.bytes.truncate(end);
        self
    }

    /// A record like `template`, with other text at some places of it.
    #[inline]
    pub(super) fn append<const N: usize>(&mut self, template: &[u8], patches: [(usize, [u8; 8]); N]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(template);
        let record = &mut self.bytes[start..];
        for (at, text) in patches {
            record[at..at + 8].copy_from_slice(&text);
        }
    }

    /// Milliseconds with three decimals, qlog's unit of time.
    #[inline]
    pub(super) fn millis(&mut self, time: Duration) -> &mut Self {
        let micros = time.as_micros() as u64;
        self.number(micros / 1000);
        self.bytes.extend_from_slice(&decimals((micros % 1000) as u32));
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

/// Thousandths, with the point before them.
#[inline]
pub(super) fn decimals(thousandths: u32) -> [u8; 4] {
    let [.., a, b, c] = Padded::of(thousandths).zeros();
    [b'.', a, b, c]
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
        for value in [
            0,
            7,
            10,
            99,
            100,
            101,
            999,
            1000,
            12345,
            100_000,
            99_999_999,
            100_000_000,
            1_000_000_010,
            u64::MAX,
        ] {
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

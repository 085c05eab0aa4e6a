//! Decimal digits, eight at a time in the lanes of a word: a log has some twenty for each packet in it.

/// What has more than eight digits.
pub(super) const BELOW_1E8: u64 = 100_000_000;

/// `0` in all lanes.
const ZEROS: u64 = 0x3030_3030_3030_3030;
/// A space in all lanes.
const SPACES: u64 = 0x2020_2020_2020_2020;
/// What makes a `0` of a space.
const DIGIT: u64 = ZEROS - SPACES;

/// A number below 100,000,000 as eight digits, the first in the lowest byte.
#[derive(Clone, Copy)]
pub(super) struct Padded(u64);

impl Padded {
    /// Of a number below 100,000,000.
    #[inline]
    pub(super) fn of(value: u32) -> Self {
        debug_assert!(u64::from(value) < BELOW_1E8);
        // Two lanes of four digits, four of two, eight of one. A quotient is a product and a shift, exact for what fits a
        // lane; the remainder goes to the lane above.
        let value = u64::from(value);
        let fours = (value / 10_000) | ((value % 10_000) << 32);
        let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
        let twos = hundreds | ((fours - hundreds * 100) << 16);
        let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
        Self(tens | ((twos - tens * 10) << 8))
    }

    /// Of the last eight digits of any number.
    #[inline]
    pub(super) fn of_rest(value: u64) -> Self {
        Self::of((value % BELOW_1E8) as u32)
    }

    /// Of the next number, if only its last digit differs.
    #[inline]
    pub(super) fn next(self) -> Option<Self> {
        const LAST: u32 = 56;
        (self.0 >> LAST < 9).then(|| Self(self.0 + (1 << LAST)))
    }

    /// Leading zeros, but for the last digit.
    #[inline]
    fn leading(self) -> u32 {
        (self.0.trailing_zeros() / 8).min(7)
    }

    /// With leading zeros.
    #[inline]
    pub(super) fn zeros(self) -> [u8; 8] {
        (self.0 | ZEROS).to_le_bytes()
    }

    /// With spaces for leading zeros, which JSON does not allow.
    #[inline]
    pub(super) fn spaces(self) -> [u8; 8] {
        (self.0 | SPACES | (DIGIT << (8 * self.leading()))).to_le_bytes()
    }

    /// Its digits alone, at the beginning, and how many.
    #[inline]
    pub(super) fn digits(self) -> ([u8; 8], usize) {
        let leading = self.leading();
        (((self.0 | ZEROS) >> (8 * leading)).to_le_bytes(), 8 - leading as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_number() {
        let powers = (0..8).map(|power| 10_u32.pow(power)).flat_map(|power| [power - 1, power, power + 1]);
        // Every remainder of four digits, in both halves.
        let halves = (0..10_000).flat_map(|four| [four, four * 10_000, four * 10_000 + 9999 - four]);
        for value in powers.chain(halves).chain([99_999_999]) {
            let padded = Padded::of(value);
            assert_eq!(padded.zeros(), *format!("{value:08}").as_bytes());
            assert_eq!(padded.spaces(), *format!("{value:8}").as_bytes());
            if let Some(next) = padded.next() {
                assert_eq!(next.zeros(), *format!("{:08}", value + 1).as_bytes());
            }
            assert_eq!(padded.next().is_none(), value % 10 == 9);
            let (word, len) = padded.digits();
            assert_eq!(word[..len], *value.to_string().as_bytes());
        }
        assert_eq!(Padded::of_rest(7_000_000_012).zeros(), *b"00000012");
    }
}

//! Variable-length integers read from frames (RFC 9000 §16).

/// What is left of a frame.
pub(super) struct Varints<'a>(pub(super) &'a [u8]);

impl Varints<'_> {
    /// The next one; `None` if the frame ends before it does.
    #[inline]
    pub(super) fn next(&mut self) -> Option<u64> {
        let bytes = self.0;
        let &first = bytes.first()?;
        let (value, rest) = match first >> 6 {
            0 => (u64::from(first), &bytes[1..]),
            1 => {
                let (head, rest) = bytes.split_first_chunk()?;
                (u64::from(u16::from_be_bytes(*head)) & 0x3fff, rest)
            }
            2 => {
                let (head, rest) = bytes.split_first_chunk()?;
                (u64::from(u32::from_be_bytes(*head)) & 0x3fff_ffff, rest)
            }
            _ => {
                let (head, rest) = bytes.split_first_chunk()?;
                (u64::from_be_bytes(*head) & (u64::MAX >> 2), rest)
            }
        };
        self.0 = rest;
        Some(value)
    }
}

//! Reading a stream by pieces of known length.

use bytes::Bytes;
use perf_protocol::{Result, transport::Receiver};

/// A stream, and what was taken from it but not yet used.
pub(super) struct Reader<R> {
    stream: R,
    rest: Bytes,
}

impl<R: Receiver> Reader<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { stream, rest: Bytes::new() }
    }

    /// Some bytes, at most `limit`, without copying; `None` at FIN.
    pub(super) async fn chunk(&mut self, limit: usize) -> Result<Option<Bytes>> {
        while self.rest.is_empty() {
            match self.stream.read().await? {
                Some(chunk) => self.rest = chunk,
                None => return Ok(None),
            }
        }
        Ok(Some(self.rest.split_to(self.rest.len().min(limit))))
    }

    /// Exactly `N` bytes.
    pub(super) async fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        let mut filled = 0;
        while filled < N {
            let chunk = self.chunk(N - filled).await?.ok_or("the stream ends early")?;
            array[filled..filled + chunk.len()].copy_from_slice(&chunk);
            filled += chunk.len();
        }
        Ok(array)
    }
}

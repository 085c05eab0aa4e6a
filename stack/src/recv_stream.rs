//! The receiving half of a stream.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use wirepath_actors::link::{Command, ReadEnd, StreamLink};
use wirepath_quic::{StreamId, VarInt};

use crate::{ReadError, connection::Handle};

/// The receiving half of a stream.
///
/// Dropping it before its end asks the peer to stop sending, with code 0.
#[derive(Debug)]
pub struct RecvStream {
    stream: Arc<StreamLink>,
    connection: Arc<Handle>,
    stopped: bool,
}

impl RecvStream {
    pub(crate) fn new(stream: Arc<StreamLink>, connection: Arc<Handle>) -> Self {
        Self { stream, connection, stopped: false }
    }

    /// The stream's ID.
    pub fn id(&self) -> StreamId {
        self.stream.id()
    }

    /// Whether some of the stream came ahead of the handshake's end (0-RTT), or on a client, it was opened then. On a server
    /// what is read of it before [`Connection::established`](crate::Connection::established) may be an attacker's replay
    /// (RFC 9001 §9.2).
    pub fn is_early(&self) -> bool {
        self.stream.is_early()
    }

    /// Takes the next bytes, in order, without copying; `None` at the end of the stream. Cancelling it loses
    /// nothing.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read_chunk(&mut self) -> Result<Option<Bytes>, ReadError> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// Waits for bytes, then appends all chunks there are to `chunks`. Returns how many bytes came; `None` at
    /// the end of the stream.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read_chunks(&mut self, chunks: &mut Vec<Bytes>) -> Result<Option<usize>, ReadError> {
        let Some(first) = self.read_chunk().await? else { return Ok(None) };
        let mut bytes = first.len();
        chunks.push(first);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while let Poll::Ready(Ok(Some(chunk))) = self.poll_chunk(&mut cx) {
            bytes += chunk.len();
            chunks.push(chunk);
        }
        Ok(Some(bytes))
    }

    /// Copies the next bytes into `into`; `None` at the end of the stream.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, ReadError> {
        let Some(mut chunk) = self.read_chunk().await? else { return Ok(None) };
        let copied = chunk.len().min(into.len());
        into[..copied].copy_from_slice(&chunk.split_to(copied));
        self.unread(chunk);
        Ok(Some(copied))
    }

    /// Reads to the end of the stream, up to `limit` bytes.
    ///
    /// # Errors
    /// [`ReadError`], among them [`ReadError::TooLong`].
    pub async fn read_to_end(&mut self, limit: usize) -> Result<Bytes, ReadError> {
        let Some(first) = self.read_chunk().await? else { return Ok(Bytes::new()) };
        let mut all = BytesMut::new();
        let mut next = Some(first);
        while let Some(chunk) = next {
            if all.len() + chunk.len() > limit {
                return Err(ReadError::TooLong(limit));
            }
            next = self.read_chunk().await?;
            if next.is_none() && all.is_empty() {
                // All of it came in one piece.
                return Ok(chunk);
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// Asks the peer to stop sending, with an application error code. What was received and not read is dropped.
    pub fn stop(&mut self, code: VarInt) {
        if !std::mem::replace(&mut self.stopped, true) {
            let (left, unfinished) = self.stream.abandon_read();
            let link = self.connection.link();
            let id = self.stream.id();
            let due = link.on_taken(left, self.stream.untold());
            link.release(id, self.stream.take_untold(), due);
            if unfinished {
                link.command(Command::StopSending(id, code));
            }
        }
    }

    /// The application took bytes, or found none: flow control is told if it has waited for enough of them.
    fn tell_taken(&self, bytes: u64, untold: u64) {
        let link = self.connection.link();
        if link.on_taken(bytes, untold) {
            link.release(self.stream.id(), self.stream.take_untold(), true);
        }
    }

    fn unread(&self, rest: Bytes) {
        self.connection.link().on_returned(rest.len() as u64);
        self.stream.unread(rest);
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ReadError>> {
        let Poll::Ready(outcome) = self.stream.poll_read(cx) else {
            self.tell_taken(0, self.stream.untold());
            return Poll::Pending;
        };
        Poll::Ready(match outcome {
            Ok((chunk, untold)) => {
                self.tell_taken(chunk.len() as u64, untold);
                Ok(Some(chunk))
            }
            Err(ReadEnd::Finished) => Ok(None),
            Err(ReadEnd::Reset { code, .. }) => Err(ReadError::Reset(code)),
            Err(ReadEnd::Closed) => Err(ReadError::Connection(self.connection.close_error())),
        })
    }
}

impl AsyncRead for RecvStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(mut chunk) = ready!(self.poll_chunk(cx))? {
            let copied = chunk.len().min(into.remaining());
            into.put_slice(&chunk.split_to(copied));
            self.unread(chunk);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        self.stop(VarInt::from_u8(0));
    }
}

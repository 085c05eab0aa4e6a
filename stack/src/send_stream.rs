//! The sending half of a stream.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wirepath_actors::link::{Command, LinkError, StreamLink};
use wirepath_quic::{StreamId, VarInt};

use crate::{WriteError, connection::Handle};

/// The sending half of a stream.
///
/// Dropping it without [`finish`](Self::finish) resets the stream with code 0, so that the peer never takes a
/// part for the whole.
#[derive(Debug)]
pub struct SendStream {
    stream: Arc<StreamLink>,
    connection: Arc<Handle>,
    ended: bool,
}

impl SendStream {
    pub(crate) fn new(stream: Arc<StreamLink>, connection: Arc<Handle>) -> Self {
        Self { stream, connection, ended: false }
    }

    /// The stream's ID.
    pub fn id(&self) -> StreamId {
        self.stream.id()
    }

    /// Whether it was opened ahead of the handshake's end (0-RTT): on a client, what was written before then may be replayed
    /// by an attacker (RFC 9001 §9.2).
    pub fn is_early(&self) -> bool {
        self.stream.is_early()
    }

    /// Streams of a higher priority are sent first; those of one take turns. Default 0.
    pub fn set_priority(&self, priority: i8) {
        self.command(Command::Priority(self.stream.id(), priority));
    }

    /// Copies in as much of `data` as there is room for (at least a byte, unless `data` is empty) and returns
    /// how much that was. Waits while the send buffer is full.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn write(&mut self, data: &[u8]) -> Result<usize, WriteError> {
        poll_fn(|cx| self.poll_write_copy(cx, data)).await
    }

    /// Copies in all of `data`.
    ///
    /// # Errors
    /// [`WriteError`]; part of the data may have been sent.
    pub async fn write_all(&mut self, mut data: &[u8]) -> Result<(), WriteError> {
        while !data.is_empty() {
            let written = self.write(data).await?;
            data = &data[written..];
        }
        Ok(())
    }

    /// Sends a chunk without copying it. Cancelling it leaves part of the chunk sent.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn write_chunk(&mut self, mut chunk: Bytes) -> Result<(), WriteError> {
        while !chunk.is_empty() {
            let room = poll_fn(|cx| self.poll_reserve(cx, chunk.len())).await?;
            self.command(Command::Write(self.stream.id(), chunk.split_to(room)));
        }
        Ok(())
    }

    /// Sends the last chunk and the end of the stream in one go.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn write_finish(&mut self, mut chunk: Bytes) -> Result<(), WriteError> {
        while !chunk.is_empty() {
            let room = poll_fn(|cx| self.poll_reserve(cx, chunk.len())).await?;
            if room == chunk.len() {
                break;
            }
            self.command(Command::Write(self.stream.id(), chunk.split_to(room)));
        }
        self.end(Command::WriteLast(self.stream.id(), chunk))
    }

    /// Ends the stream behind all that was written.
    ///
    /// # Errors
    /// [`WriteError::Finished`] if it was finished or reset before.
    pub fn finish(&mut self) -> Result<(), WriteError> {
        self.end(Command::WriteLast(self.stream.id(), Bytes::new()))
    }

    /// Gives the stream up with an application error code; what was not delivered may never be.
    ///
    /// # Errors
    /// [`WriteError::Finished`] if it was reset before. A finished stream can be reset as long as its data is
    /// not acknowledged.
    pub fn reset(&mut self, code: VarInt) -> Result<(), WriteError> {
        self.ended = false;
        self.end(Command::Reset(self.stream.id(), code))
    }

    /// Gives the stream up with an application error code, but delivers its first `reliable` bytes, or what was written of
    /// them (RESET_STREAM_AT, draft-ietf-quic-reliable-stream-reset). May be called again for fewer bytes; the first error
    /// code stays. The peer must allow it
    /// ([`TransportConfig::reset_stream_at`](wirepath_quic::TransportConfig::reset_stream_at)).
    ///
    /// # Errors
    /// [`WriteError::Unsupported`] if the peer does not, or the handshake is not over yet.
    pub fn reset_at(&mut self, code: VarInt, reliable: u64) -> Result<(), WriteError> {
        if !self.connection.link().takes_partial_resets() {
            return Err(WriteError::Unsupported);
        }
        self.ended = false;
        self.end(Command::ResetAt(self.stream.id(), code, reliable))
    }

    /// Waits until the peer has acknowledged everything and the end of the stream.
    ///
    /// # Errors
    /// [`WriteError`] if that will never be.
    pub async fn finished(&self) -> Result<(), WriteError> {
        let outcome = poll_fn(|cx| self.stream.poll_acknowledged(cx)).await;
        outcome.map_err(|error| self.error(error))
    }

    /// Waits until the peer stops the stream, and returns its application error code; `None` if it took
    /// everything instead.
    ///
    /// # Errors
    /// [`WriteError::Connection`] if the connection ends first.
    pub async fn stopped(&self) -> Result<Option<VarInt>, WriteError> {
        let outcome = poll_fn(|cx| self.stream.poll_stopped(cx)).await;
        outcome.map_err(|error| self.error(error))
    }

    fn poll_reserve(&self, cx: &mut Context<'_>, want: usize) -> Poll<Result<usize, WriteError>> {
        if self.ended {
            return Poll::Ready(Err(WriteError::Finished));
        }
        let granted = ready!(self.stream.poll_reserve(cx, want as u64));
        Poll::Ready(granted.map(|bytes| bytes as usize).map_err(|error| self.error(error)))
    }

    fn poll_write_copy(&self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, WriteError>> {
        let room = ready!(self.poll_reserve(cx, data.len()))?;
        if room > 0 {
            self.command(Command::Write(self.stream.id(), Bytes::copy_from_slice(&data[..room])));
        }
        Poll::Ready(Ok(room))
    }

    fn command(&self, command: Command) {
        self.connection.link().command(command);
    }

    fn end(&mut self, command: Command) -> Result<(), WriteError> {
        if std::mem::replace(&mut self.ended, true) {
            return Err(WriteError::Finished);
        }
        self.command(command);
        Ok(())
    }

    fn error(&self, error: LinkError) -> WriteError {
        match error {
            LinkError::Stopped(code) => WriteError::Stopped(code),
            LinkError::Finished => WriteError::Finished,
            LinkError::Closed => WriteError::Connection(self.connection.close_error()),
        }
    }
}

impl AsyncWrite for SendStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_copy(cx, data).map_err(Into::into)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is written is on its way.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.finish() {
            Ok(()) | Err(WriteError::Finished) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        // Already ended: nothing to do.
        let _ = self.end(Command::Reset(self.stream.id(), VarInt::from_u8(0)));
    }
}

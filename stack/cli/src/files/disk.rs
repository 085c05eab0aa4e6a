//! File contents as a stream of chunks, hashed on the way. Disk and hash have a thread of their own, so that they
//! never hold up the packets.

use std::{fmt, fs::File, io, os::unix::fs::FileExt, thread};

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use bytes::{Bytes, BytesMut};
use tokio::sync::{mpsc, oneshot};

/// Bytes read from a file at once: enough to make the calls cheap, and a small part of a send buffer.
const CHUNK_LEN: usize = 256 * 1024;

/// Chunks between the disk's thread and the stream's task: 4 MiB, to ride out each other's pauses.
const DEPTH: usize = 16;

/// The SHA-256 of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; SHA256_OUTPUT_LEN]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A file's contents, from its beginning.
pub(super) struct Contents {
    pub(super) len: u64,
    chunks: mpsc::Receiver<Bytes>,
    outcome: oneshot::Receiver<io::Result<Digest>>,
}

impl Contents {
    pub(super) fn read(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        let (sender, chunks) = mpsc::channel(DEPTH);
        let (tell, outcome) = oneshot::channel();
        thread::Builder::new()
            .name("file-read".into())
            .spawn(move || drop(tell.send(read_chunks(&file, len, &sender))))?;
        Ok(Self { len, chunks, outcome })
    }

    /// The next bytes; `None` at the end, after which [`digest`](Self::digest) knows whether it was one.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        self.chunks.recv().await
    }

    pub(super) async fn digest(self) -> io::Result<Digest> {
        self.outcome.await.map_err(io::Error::other)?
    }
}

fn read_chunks(file: &File, len: u64, chunks: &mpsc::Sender<Bytes>) -> io::Result<Digest> {
    let mut hash = Context::new(&SHA256);
    let mut left = len;
    while left > 0 {
        let mut chunk = BytesMut::zeroed(left.min(CHUNK_LEN as u64) as usize);
        // Several may read the file at once, and clones of a file share its position. One that has become shorter is an
        // error here, and the stream is not finished.
        file.read_exact_at(&mut chunk, len - left)?;
        hash.update(&chunk);
        left -= chunk.len() as u64;
        if chunks.blocking_send(chunk.freeze()).is_err() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
    }
    Ok(finish(hash))
}

/// A file being written from its beginning.
pub(super) struct Writing {
    chunks: mpsc::Sender<Bytes>,
    outcome: oneshot::Receiver<io::Result<Digest>>,
}

impl Writing {
    pub(super) fn begin(file: File) -> io::Result<Self> {
        file.set_len(0)?;
        let (chunks, receiver) = mpsc::channel(DEPTH);
        let (tell, outcome) = oneshot::channel();
        thread::Builder::new()
            .name("file-write".into())
            .spawn(move || drop(tell.send(write_chunks(&file, receiver))))?;
        Ok(Self { chunks, outcome })
    }

    /// Adds bytes. A write that failed is told by [`digest`](Self::digest).
    pub(super) async fn push(&mut self, chunk: Bytes) {
        drop(self.chunks.send(chunk).await);
    }

    pub(super) async fn digest(self) -> io::Result<Digest> {
        drop(self.chunks);
        self.outcome.await.map_err(io::Error::other)?
    }
}

fn write_chunks(file: &File, mut chunks: mpsc::Receiver<Bytes>) -> io::Result<Digest> {
    let (mut hash, mut at) = (Context::new(&SHA256), 0);
    while let Some(chunk) = chunks.blocking_recv() {
        hash.update(&chunk);
        file.write_all_at(&chunk, at)?;
        at += chunk.len() as u64;
    }
    Ok(finish(hash))
}

fn finish(hash: Context) -> Digest {
    let mut digest = [0; SHA256_OUTPUT_LEN];
    digest.copy_from_slice(hash.finish().as_ref());
    Digest(digest)
}

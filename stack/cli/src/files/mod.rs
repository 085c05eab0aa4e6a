//! Moving whole files over streams: the protocol of `wirepath serve`, `get` and the demo (ALPN `wirepath-file`).
//!
//! A request is a bidirectional stream: one byte (1 get, 2 put), a big-endian `u16` length and the name; a put is
//! followed by the contents up to FIN. The response is one byte of status; then for a get a big-endian `u64`
//! length, the contents, and their SHA-256; for a put the number of bytes stored, as `u64`, and their SHA-256.

mod client;
mod disk;
mod reader;
mod server;
mod store;

use bytes::{BufMut, Bytes, BytesMut};
use perf_protocol::Result;

pub use client::{get, put};
pub use disk::Digest;
pub use server::{answer, serve_connection};
pub use store::Store;
pub(crate) use store::open_below;

/// The protocol's name in TLS.
pub const ALPN: &[u8] = b"wirepath-file";

/// Bytes of a name, at the most: that of a path on Linux.
const MAX_NAME_LEN: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Request {
    Get(String),
    Put(String),
}

impl Request {
    const GET: u8 = 1;
    const PUT: u8 = 2;

    fn encode(&self) -> Result<Bytes> {
        let (verb, name) = match self {
            Self::Get(name) => (Self::GET, name),
            Self::Put(name) => (Self::PUT, name),
        };
        if name.len() > MAX_NAME_LEN {
            return Err(format!("the name is longer than {MAX_NAME_LEN} bytes").into());
        }
        let mut bytes = BytesMut::with_capacity(3 + name.len());
        bytes.put_u8(verb);
        bytes.put_u16(name.len() as u16);
        bytes.put_slice(name.as_bytes());
        Ok(bytes.freeze())
    }

    async fn read(from: &mut reader::Reader<impl perf_protocol::transport::Receiver>) -> Result<Self> {
        let [verb] = from.array().await?;
        let len = u16::from_be_bytes(from.array().await?).into();
        if len > MAX_NAME_LEN {
            return Err("the name is too long".into());
        }
        let mut name = Vec::with_capacity(len);
        while name.len() < len {
            name.extend(from.chunk(len - name.len()).await?.ok_or("the request ends early")?);
        }
        let name = String::from_utf8(name)?;
        match verb {
            Self::GET => Ok(Self::Get(name)),
            Self::PUT => Ok(Self::Put(name)),
            other => Err(format!("there is no request {other}").into()),
        }
    }
}

/// How a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Done = 0,
    /// There is no such file.
    Missing = 1,
    /// The name leads out of the folder, or the server takes no files.
    Forbidden = 2,
    /// The server could not read or write.
    Failed = 3,
}

impl Status {
    fn check(code: u8) -> Result<()> {
        Err(match code {
            c if c == Self::Done as u8 => return Ok(()),
            c if c == Self::Missing as u8 => "the server has no such file".into(),
            c if c == Self::Forbidden as u8 => "the server does not allow that".into(),
            c if c == Self::Failed as u8 => "the server could not read or write the file".into(),
            c => format!("the server answered with unknown status {c}").into(),
        })
    }
}

#[cfg(test)]
mod tests;

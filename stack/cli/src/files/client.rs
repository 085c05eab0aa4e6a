//! The client's side of one stream.

use std::fs::File;

use bytes::Bytes;
use perf_protocol::{
    Result,
    transport::{Connection, Sender},
};

use super::{
    Digest, Request, Status,
    disk::{Contents, Writing},
    reader::Reader,
};

/// Fetches a file. `progress` is told the bytes so far and of all.
///
/// # Errors
/// The server refuses, the stream breaks, or what arrived has another SHA-256 than what was sent.
pub async fn get(
    connection: &impl Connection,
    name: &str,
    into: File,
    mut progress: impl FnMut(u64, u64),
) -> Result<Digest> {
    let (mut sender, receiver) = connection.open().await?;
    sender.finish(Request::Get(name.to_owned()).encode()?).await?;
    let mut receiver = Reader::new(receiver);
    let [status] = receiver.array().await?;
    Status::check(status)?;
    let len = u64::from_be_bytes(receiver.array().await?);
    let mut writing = Writing::begin(into)?;
    let mut left = len;
    while left > 0 {
        let limit = usize::try_from(left).unwrap_or(usize::MAX);
        let chunk = receiver.chunk(limit).await?.ok_or("the file ends early")?;
        left -= chunk.len() as u64;
        writing.push(chunk).await;
        progress(len - left, len);
    }
    let sent = Digest(receiver.array().await?);
    compare(sent, writing.digest().await?)
}

/// Sends a file. `progress` is told the bytes handed to the stream and of all.
///
/// # Errors
/// The server refuses, the stream breaks, or what was stored has another SHA-256 than what was sent.
pub async fn put(
    connection: &impl Connection,
    name: &str,
    from: File,
    mut progress: impl FnMut(u64, u64),
) -> Result<Digest> {
    let (mut sender, receiver) = connection.open().await?;
    let request = Request::Put(name.to_owned()).encode()?;
    let sent = send(request, Contents::read(from)?, &mut sender, &mut progress).await;
    // A server that refuses stops the stream; its reason says more than the failed write.
    let mut receiver = Reader::new(receiver);
    match (receiver.array().await, &sent) {
        (Ok([status]), _) => Status::check(status)?,
        (Err(_), Err(_)) => {}
        (Err(error), Ok(_)) => return Err(error),
    }
    let (len, digest) = sent?;
    let stored_len = u64::from_be_bytes(receiver.array().await?);
    if stored_len != len {
        return Err(format!("the server stored {stored_len} bytes of {len}").into());
    }
    compare(digest, Digest(receiver.array().await?))
}

async fn send(
    request: Bytes,
    mut contents: Contents,
    sender: &mut impl Sender,
    progress: &mut impl FnMut(u64, u64),
) -> Result<(u64, Digest)> {
    sender.write(request).await?;
    let len = contents.len;
    let mut done = 0;
    while let Some(chunk) = contents.next().await {
        let chunk_len = chunk.len() as u64;
        sender.write(chunk).await?;
        done += chunk_len;
        progress(done, len);
    }
    let digest = contents.digest().await?;
    sender.finish(Bytes::new()).await?;
    Ok((len, digest))
}

fn compare(sent: Digest, arrived: Digest) -> Result<Digest> {
    if sent == arrived {
        return Ok(arrived);
    }
    Err(format!("SHA-256 differs: sent {sent}, arrived {arrived}").into())
}

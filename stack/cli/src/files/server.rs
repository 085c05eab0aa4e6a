//! The server's side of one stream.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use perf_protocol::{
    Result,
    transport::{Connection, Receiver, Sender},
};

use super::{
    Request, Status, Store,
    disk::{Contents, Writing},
    reader::Reader,
};

/// Reads the request of a stream and answers it.
///
/// # Errors
/// The stream broke, or the request makes no sense; the stream is then left to be reset.
pub async fn answer(store: &Store, mut sender: impl Sender, receiver: impl Receiver) -> Result<()> {
    let mut receiver = Reader::new(receiver);
    let outcome = match Request::read(&mut receiver).await? {
        Request::Get(name) => match store.open_to_read(&name) {
            Ok(file) => return send(Contents::read(file)?, &mut sender).await,
            Err(status) => Err(status),
        },
        Request::Put(_) => match store.open_to_write() {
            Ok(file) => receive(Writing::begin(file)?, &mut receiver).await,
            Err(status) => Err(status),
        },
    };
    let response = outcome.unwrap_or_else(|status| Bytes::copy_from_slice(&[status as u8]));
    sender.finish(response).await
}

async fn send(mut contents: Contents, sender: &mut impl Sender) -> Result<()> {
    let mut head = BytesMut::with_capacity(9);
    head.put_u8(Status::Done as u8);
    head.put_u64(contents.len);
    sender.write(head.freeze()).await?;
    while let Some(chunk) = contents.next().await {
        sender.write(chunk).await?;
    }
    let digest = contents.digest().await?;
    sender.finish(Bytes::copy_from_slice(&digest.0)).await
}

/// Stores what comes, and says what that was.
async fn receive(
    mut writing: Writing,
    receiver: &mut Reader<impl Receiver>,
) -> std::result::Result<Bytes, Status> {
    let mut len = 0;
    while let Some(chunk) = receiver.chunk(usize::MAX).await.map_err(|_| Status::Failed)? {
        len += chunk.len() as u64;
        writing.push(chunk).await;
    }
    let digest = writing.digest().await.map_err(|_| Status::Failed)?;
    let mut response = BytesMut::with_capacity(41);
    response.put_u8(Status::Done as u8);
    response.put_u64(len);
    response.put_slice(&digest.0);
    Ok(response.freeze())
}

/// Answers every stream of a connection, until it ends.
pub async fn serve_connection<C: Connection>(store: Arc<Store>, connection: C) {
    while let Some((sender, receiver)) = connection.accept().await {
        let store = store.clone();
        // A stream that breaks is its client's to notice; the others go on.
        tokio::spawn(async move { answer(&store, sender, receiver).await.ok() });
    }
}

//! The server's side of one connection.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::{
    DATAGRAM_QUERY, Result, WRITE_LEN,
    transport::{Connection, Receiver, Sender},
    zeros,
};

/// Answers every stream of a connection until it ends, and counts its datagrams if it has them.
///
/// To be called inside a single-threaded tokio runtime; each stream becomes a task there.
pub async fn serve_connection<C: Connection>(connection: C, datagrams: bool) {
    let datagram_count = Arc::new(AtomicU64::new(0));
    if datagrams {
        let (connection, count) = (connection.clone(), datagram_count.clone());
        tokio::spawn(async move {
            while let Ok(received) = connection.receive_datagrams().await {
                count.fetch_add(received, Relaxed);
            }
        });
    }
    while let Some((sender, receiver)) = connection.accept().await {
        let count = datagram_count.clone();
        // A stream that fails is its client's to notice; the others go on.
        tokio::spawn(async move { answer(sender, receiver, &count).await.ok() });
    }
}

async fn answer(
    mut sender: impl Sender,
    mut receiver: impl Receiver,
    datagram_count: &AtomicU64,
) -> Result<()> {
    let Some(answer_len) = requested_len(&mut receiver).await? else { return Ok(()) };
    while receiver.discard().await?.is_some() {}
    if answer_len == DATAGRAM_QUERY {
        let count = datagram_count.load(Relaxed).to_be_bytes();
        return sender.finish(count.to_vec().into()).await;
    }
    let mut left = answer_len;
    while left > WRITE_LEN as u64 {
        sender.write(zeros(WRITE_LEN)).await?;
        left -= WRITE_LEN as u64;
    }
    sender.finish(zeros(left as usize)).await
}

/// The number a request begins with; `None` when the stream ends before it.
async fn requested_len(receiver: &mut impl Receiver) -> Result<Option<u64>> {
    let mut number = [0; 8];
    let mut filled = 0;
    while filled < number.len() {
        let Some(chunk) = receiver.read().await? else { return Ok(None) };
        let take = chunk.len().min(number.len() - filled);
        number[filled..filled + take].copy_from_slice(&chunk[..take]);
        filled += take;
    }
    Ok(Some(u64::from_be_bytes(number)))
}

//! `echo`: what comes on a stream or in a datagram goes back.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use perf_protocol::Result;
use wirepath::{Connection, RecvStream, SendStream};

use super::hq::file_name;

/// Datagrams may be lost: each is sent again until one comes back.
const DATAGRAM_RETRY: Duration = Duration::from_millis(200);

/// Times a datagram is sent before it is given up.
const DATAGRAM_TRIES: usize = 50;

/// Echoes all of a connection: bidirectional streams on themselves, unidirectional ones on a stream of ours, datagrams.
pub(super) async fn serve(connection: Connection) {
    let (one_way, datagrams) = (connection.clone(), connection.clone());
    tokio::spawn(async move {
        while let Ok(receive) = one_way.accept_uni().await {
            let connection = one_way.clone();
            tokio::spawn(async move {
                if let Ok(send) = connection.open_uni().await {
                    copy(receive, send).await;
                }
            });
        }
    });
    tokio::spawn(async move {
        while let Ok(datagram) = datagrams.receive_datagram().await {
            if datagrams.send_fresh_datagram(datagram).is_err() {
                return;
            }
        }
    });
    while let Ok((send, receive)) = connection.accept_bi().await {
        tokio::spawn(copy(receive, send));
    }
}

async fn copy(mut receive: RecvStream, mut send: SendStream) {
    loop {
        match receive.read_chunk().await {
            Ok(Some(chunk)) => {
                if send.write_chunk(chunk).await.is_err() {
                    return;
                }
            }
            // Finished before only if it is over already.
            Ok(None) => return drop(send.finish()),
            // Dropped unfinished, the other half is reset too.
            Err(_) => return,
        }
    }
}

/// What is sent for a path: the file's contents if there is one, else the path itself.
fn payload(path: &str) -> Bytes {
    std::fs::read(path).map_or_else(|_| Bytes::copy_from_slice(path.as_bytes()), Bytes::from)
}

/// Has something echoed by a stream, and stores it.
pub(super) async fn by_stream(connection: &Connection, path: &str, folder: &Path) -> Result<()> {
    let data = payload(path);
    let (mut send, mut receive) = connection.open_bi().await?;
    let sending = data.clone();
    let sender = tokio::spawn(async move { send.write_finish(sending).await.map(|()| send) });
    let back = receive.read_to_end(data.len()).await.map_err(|error| format!("{path}: {error}"))?;
    sender.await??.finished().await?;
    keep(path, &data, &back, folder)
}

/// Has something echoed by datagrams, in as many as it takes, and stores it.
pub(super) async fn by_datagram(connection: &Connection, path: &str, folder: &Path) -> Result<()> {
    let longest = connection.max_datagram_size().ok_or("the server takes no datagrams")?;
    let data = payload(path);
    let mut back = Vec::with_capacity(data.len());
    for piece in data.chunks(longest.max(1)) {
        let piece = Bytes::copy_from_slice(piece);
        back.extend_from_slice(&exchange(connection, piece).await?);
    }
    keep(path, &data, &back, folder)
}

async fn exchange(connection: &Connection, piece: Bytes) -> Result<Bytes> {
    for _ in 0..DATAGRAM_TRIES {
        connection.send_datagram(piece.clone()).await?;
        // Echoes of earlier tries may come late; they are passed over.
        let echoed = async {
            loop {
                let datagram = connection.receive_datagram().await?;
                if datagram == piece {
                    return Ok::<_, wirepath::ConnectionError>(datagram);
                }
            }
        };
        if let Ok(echoed) = tokio::time::timeout(DATAGRAM_RETRY, echoed).await {
            return Ok(echoed?);
        }
    }
    Err("the server echoes no datagram".into())
}

fn keep(path: &str, sent: &[u8], back: &[u8], folder: &Path) -> Result<()> {
    if sent != back {
        return Err(format!("{path}: another thing came back than was sent").into());
    }
    Ok(std::fs::write(folder.join(file_name(path)?), back)?)
}

//! `hq-interop` (HTTP/0.9 over QUIC) for any stack: `GET /name` and CR LF on a bidirectional stream, and the file's bytes
//! in answer.

use std::{collections::HashMap, net::SocketAddr};

use bytes::Bytes;

use crate::peers::{Connection, Endpoint, Fault, Receiver, Sender};

/// The protocol's name in TLS.
pub const ALPN: &[u8] = b"hq-interop";

/// Files by name.
pub type Files = HashMap<String, Bytes>;

/// Serves files, until the future is dropped.
pub async fn serve<E: Endpoint>(mut endpoint: E, files: Files) {
    let files = std::rc::Rc::new(files);
    while let Some(connecting) = endpoint.accept().await {
        let files = files.clone();
        tokio::task::spawn_local(async move {
            let Ok(connection) = connecting.await else { return };
            while let Ok((sender, receiver)) = connection.accept_bi().await {
                let files = files.clone();
                tokio::task::spawn_local(async move { answer(sender, receiver, &files).await });
            }
        });
    }
}

/// A stream that fails is its client's to notice.
async fn answer<C: Sender>(mut sender: C, mut receiver: impl Receiver, files: &Files) -> Result<(), Fault> {
    let request = read(&mut receiver).await?;
    let name = std::str::from_utf8(&request).ok().and_then(|request| request.strip_prefix("GET /"));
    match name.and_then(|name| files.get(name.trim_end())) {
        Some(file) => {
            for chunk in file.chunks(64 << 10) {
                sender.send(Bytes::copy_from_slice(chunk)).await?;
            }
            sender.finish().await?;
        }
        None => sender.reset(1),
    }
    Ok(())
}

async fn read(receiver: &mut impl Receiver) -> Result<Vec<u8>, Fault> {
    let mut all = Vec::new();
    while let Some(bytes) = receiver.receive().await? {
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

/// Fetches files, all at once, on one connection.
///
/// # Errors
/// The first fault.
pub async fn fetch<E: Endpoint>(
    mut endpoint: E,
    to: SocketAddr,
    server_name: &str,
    names: Vec<String>,
) -> Result<Files, Fault> {
    let connection = endpoint.connect(to, server_name).await?;
    let mut running = tokio::task::JoinSet::new();
    for name in names {
        let connection = connection.clone();
        running.spawn_local(async move {
            let (mut sender, mut receiver) = connection.open_bi().await?;
            sender.send(format!("GET /{name}\r\n").into()).await?;
            sender.finish().await?;
            Ok::<_, Fault>((name, Bytes::from(read(&mut receiver).await?)))
        });
    }
    let mut files = Files::new();
    while let Some(done) = running.join_next().await {
        let (name, contents) = done.expect("no task panics")?;
        files.insert(name, contents);
    }
    connection.close(0);
    endpoint.shutdown().await;
    Ok(files)
}

//! `hq-interop` (HTTP/0.9 over QUIC) for any stack: `GET /name` and CR LF on a bidirectional stream, and the file's bytes
//! in answer.

use std::{collections::HashMap, net::SocketAddr};

use bytes::Bytes;

use crate::peers::{Connection, Early, Endpoint, Fault, LocalFuture, Receiver, Sender};

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
    let files = fetch_by(&connection, names).await?;
    connection.close(0);
    endpoint.shutdown().await;
    Ok(files)
}

/// Connections made at most until the server has given a ticket: it may come after all else.
const VISITS: usize = 10;

/// Fetches the first file by one connection, and the others by another that asks early. Also tells whether the server took
/// what was early.
///
/// # Errors
/// The first fault; or the server has given no ticket that allows early data.
pub async fn fetch_early<E: Early>(
    mut endpoint: E,
    to: SocketAddr,
    server_name: &str,
    mut names: Vec<String>,
) -> Result<(Files, bool), Fault> {
    let others = names.split_off(1);
    for _ in 0..VISITS {
        let (connection, accepted): (_, Option<LocalFuture<bool>>) =
            endpoint.connect_early(to, server_name).await?;
        let Some(accepted) = accepted else {
            fetch_by(&connection, names.clone()).await?;
            connection.close(0);
            continue;
        };
        let mut files = fetch_by(&connection, others).await?;
        let accepted = accepted.await;
        files.extend(fetch_by(&connection, names).await?);
        connection.close(0);
        endpoint.shutdown().await;
        return Ok((files, accepted));
    }
    Err(Fault::Broken("the server gives no ticket for early data".into()))
}

/// Fetches files, all at once.
async fn fetch_by(connection: &impl Connection, names: Vec<String>) -> Result<Files, Fault> {
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
    Ok(files)
}

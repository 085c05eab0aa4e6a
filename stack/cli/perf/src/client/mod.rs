//! The client: one mode a run, one line of JSON.

mod bulk;
mod dgram;
mod idle;
mod requests;

use std::time::Duration;

use bytes::Bytes;

use crate::{
    Json, Mode, Options, Result,
    transport::{Connection, Connector, Receiver, Sender},
};

/// Seconds between the end of a run and the end of the process, so that the last CONNECTION_CLOSE goes out.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// Does the work of `options.mode` and prints the result's line.
///
/// To be called inside a single-threaded tokio runtime; every loop becomes a task there.
///
/// # Errors
/// Whatever kept the run from coming to an end that means something.
pub async fn run<C: Connector>(name: &str, connector: C, options: &Options) -> Result<()> {
    println!("{}", measure(name, connector, options).await?);
    tokio::time::sleep(LAST_WORDS).await;
    Ok(())
}

/// The result of [`run`], not printed.
///
/// # Errors
/// As [`run`].
pub async fn measure<C: Connector>(name: &str, connector: C, options: &Options) -> Result<Json> {
    let begun = Json::new().text("peer", name).text("mode", options.mode.name());
    // Open until the measuring is done.
    let _beside = match options.mode {
        Mode::Idle => Vec::new(),
        _ => idle::beside(&connector, options.beside).await?,
    };
    match options.mode {
        Mode::Bulk => bulk::download(connector, options, begun).await,
        Mode::Upload => bulk::upload(connector, options, begun).await,
        Mode::Rps => requests::on_one_connection(connector, options, begun).await,
        Mode::Hps => requests::connection_each(connector, options, begun).await,
        Mode::Idle => idle::hold(connector, options, begun).await,
        Mode::Dgram => dgram::send(connector, options, begun).await,
    }
}

/// One request on a stream of its own; the length of the answer.
async fn exchange(connection: &impl Connection, request: Bytes) -> Result<u64> {
    let (mut sender, mut receiver) = connection.open().await?;
    sender.finish(request).await?;
    let mut received = 0;
    while let Some(len) = receiver.discard().await? {
        received += len as u64;
    }
    Ok(received)
}

/// The shortest exchange there is; fails if the answer is not what was asked for.
async fn probe(connection: &impl Connection) -> Result<()> {
    match exchange(connection, crate::request(8, 8)).await? {
        8 => Ok(()),
        other => Err(format!("asked for 8 bytes, got {other}").into()),
    }
}

async fn sleep(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

//! Bytes in one direction, as many as go.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use super::{probe, sleep};
use crate::{
    ENDLESS, Error, Json, Meter, Options, Result, WRITE_LEN, request,
    transport::{Connection, Connector, Receiver, Sender},
    zeros,
};

/// Streams ask for endless bytes; those that arrive in `--secs`, after the warm-up, are counted.
pub(super) async fn download<C: Connector>(connector: C, options: &Options, json: Json) -> Result<Json> {
    let connection = connector.connect().await?;
    let received = Arc::new(AtomicU64::new(0));
    for _ in 0..options.streams {
        let (connection, received) = (connection.clone(), received.clone());
        tokio::spawn(async move {
            let (mut sender, mut receiver) = connection.open().await?;
            sender.finish(request(8, ENDLESS)).await?;
            while let Some(len) = receiver.discard().await? {
                received.fetch_add(len as u64, Relaxed);
            }
            Ok::<_, Error>(())
        });
    }
    sleep(options.warmup).await;
    let meter = Meter::start(options.server_pid);
    let before = received.load(Relaxed);
    sleep(options.secs).await;
    let bytes = received.load(Relaxed) - before;
    let sample = meter.stop();
    let json = sample.report_bytes(json.number("streams", options.streams as f64), bytes);
    let json = connection.report(json);
    connection.close();
    Ok(json)
}

/// Streams send for `--secs`, then finish. All bytes count, over the time to the server's last FIN: so nothing
/// that is still in a buffer is taken for sent.
pub(super) async fn upload<C: Connector>(connector: C, options: &Options, json: Json) -> Result<Json> {
    let connection = connector.connect().await?;
    probe(&connection).await?;
    let sent = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let meter = Meter::start(options.server_pid);
    let mut streams = Vec::with_capacity(options.streams);
    for _ in 0..options.streams {
        let (connection, sent, stop) = (connection.clone(), sent.clone(), stop.clone());
        streams.push(tokio::spawn(async move {
            let (mut sender, mut receiver) = connection.open().await?;
            sender.write(request(8, 0)).await?;
            while !stop.load(Relaxed) {
                sender.write(zeros(WRITE_LEN)).await?;
                sent.fetch_add(WRITE_LEN as u64, Relaxed);
            }
            sender.finish(zeros(0)).await?;
            while receiver.discard().await?.is_some() {}
            Ok::<_, Error>(())
        }));
    }
    sleep(options.secs).await;
    stop.store(true, Relaxed);
    for stream in streams {
        stream.await??;
    }
    let sample = meter.stop();
    let json = sample.report_bytes(json.number("streams", options.streams as f64), sent.load(Relaxed));
    let json = connection.report(json);
    connection.close();
    Ok(json)
}

//! Datagrams (RFC 9221), one way.

use std::time::{Duration, Instant};

use super::{exchange, probe, sleep};
use crate::{
    DATAGRAM_QUERY, Json, Meter, Options, Result, WRITE_LEN, request,
    transport::{Connection, Connector, Receiver, Sender},
    zeros,
};

/// How long path MTU discovery may take to make room for a datagram.
const ROOM_WAIT: Duration = Duration::from_secs(3);

/// The clock is read once in so many datagrams.
const CLOCK_INTERVAL: u64 = 32;

/// Sends for `--secs`, then asks the server how many arrived.
pub(super) async fn send<C: Connector>(connector: C, options: &Options, json: Json) -> Result<Json> {
    if options.dgram > WRITE_LEN {
        return Err(format!("--dgram is at most {WRITE_LEN}").into());
    }
    let connection = connector.connect().await?;
    probe(&connection).await?;
    wait_for_room(&connection, options.dgram).await?;

    let datagram = zeros(options.dgram);
    let meter = Meter::start(options.server_pid);
    let end = Instant::now() + Duration::from_secs_f64(options.secs);
    let mut sent = 0_u64;
    while !sent.is_multiple_of(CLOCK_INTERVAL) || Instant::now() < end {
        connection.send_datagram(datagram.clone()).await?;
        sent += 1;
    }
    let sample = meter.stop();
    sleep(0.2).await;
    let arrived = datagrams_arrived(&connection).await?;

    let bits = arrived as f64 * options.dgram as f64 * 8.0;
    let json = sample
        .report_operations(json.number("size", options.dgram as f64), "dps", arrived)
        .number("sent", sent as f64)
        .number("delivered_pct", arrived as f64 / sent as f64 * 100.0)
        .number("gbps", bits / sample.secs / 1e9);
    let json = connection.report(json);
    connection.close();
    Ok(json)
}

/// Datagrams are never fragmented, so one may have to wait until the path is known to carry it.
async fn wait_for_room(connection: &impl Connection, len: usize) -> Result<()> {
    let begin = Instant::now();
    loop {
        match connection.max_datagram() {
            None => return Err("this stack, or its peer, has no datagrams".into()),
            Some(most) if most >= len => return Ok(()),
            Some(most) if begin.elapsed() > ROOM_WAIT => {
                return Err(format!("the path carries datagrams of at most {most} bytes").into());
            }
            Some(_) => {
                exchange(connection, request(8, 1000)).await?;
                sleep(0.01).await;
            }
        }
    }
}

async fn datagrams_arrived(connection: &impl Connection) -> Result<u64> {
    let (mut sender, mut receiver) = connection.open().await?;
    sender.finish(request(8, DATAGRAM_QUERY)).await?;
    let mut answer = Vec::new();
    while let Some(chunk) = receiver.read().await? {
        answer.extend_from_slice(&chunk);
    }
    let count = answer.try_into().map_err(|_| "the server's count is not eight bytes long")?;
    Ok(u64::from_be_bytes(count))
}

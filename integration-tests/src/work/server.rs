//! The server's side of the work.

use std::{cell::RefCell, net::SocketAddr, rc::Rc, time::Duration};

use aws_lc_rs::digest::{Context, SHA256};
use bytes::{Buf, Bytes};
use tokio::{sync::oneshot, task::JoinSet};

use super::{
    pattern::pattern,
    plan::{Exchange, Failure, REQUEST, Summary},
};
use crate::peers::{Connection, Endpoint, Fault, Receiver, Sender};

/// Bytes given to a stream at once.
pub(super) const CHUNK: usize = 64 << 10;

/// Bytes of a stream that go before it is broken off.
pub(super) const BEFORE_BREAKING: u64 = 10_000;

/// The time in which an endpoint must be done with telling its peers. Generous: with a fifth of packets lost,
/// the estimated round trip, of which other stacks wait multiples, grows to seconds.
pub(crate) const SHUT_DOWN_WITHIN: Duration = Duration::from_secs(30);

/// The hold a test has on its server.
#[derive(Debug)]
pub struct Served {
    /// Where it listens.
    pub address: SocketAddr,
    /// Tells it to end.
    pub stop: oneshot::Sender<Stop>,
}

/// What a server waits for before it ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stop {
    /// Connections that it accepts, in all, and that their clients close.
    pub connections: usize,
    /// How long it waits for them.
    pub grace: Duration,
}

/// Serves connections until told to stop; says by `started` where it listens.
pub async fn serve<E: Endpoint>(mut endpoint: E, started: impl FnOnce(Served)) -> Result<Summary, Failure> {
    let (stop, mut stopped) = oneshot::channel();
    started(Served { address: endpoint.local_addr().map_err(Failure)?, stop });
    let summary = Rc::new(RefCell::new(Summary::default()));
    let mut connections = JoinSet::new();
    let mut accepted = 0;
    let stop = loop {
        tokio::select! {
            stop = &mut stopped => break stop.unwrap_or_default(),
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { break Stop::default() };
                accepted += 1;
                connections.spawn_local(serve_connection(incoming, summary.clone()));
            }
        }
    };
    // The last connections may still wait to be accepted, and the clients' closes be on their way.
    let finish = async {
        while accepted < stop.connections {
            let Some(incoming) = endpoint.accept().await else { break };
            accepted += 1;
            connections.spawn_local(serve_connection(incoming, summary.clone()));
        }
        while connections.join_next().await.is_some() {}
    };
    if tokio::time::timeout(stop.grace, finish).await.is_err() {
        summary.borrow_mut().open = endpoint.describe();
    }
    connections.shutdown().await;
    // An endpoint that never ends must not keep the rest from being told.
    if tokio::time::timeout(SHUT_DOWN_WITHIN, endpoint.shutdown()).await.is_err() {
        summary.borrow_mut().faults.push("the server's endpoint did not shut down in time".into());
    }
    let summary = summary.borrow().clone();
    Ok(summary)
}

async fn serve_connection<C: Connection>(
    incoming: impl Future<Output = Result<C, Fault>>,
    summary: Rc<RefCell<Summary>>,
) {
    let connection = match incoming.await {
        Ok(connection) => connection,
        Err(fault) => return summary.borrow_mut().failed_handshakes.push(fault),
    };
    summary.borrow_mut().connections += 1;
    let mut streams = JoinSet::new();
    let end = loop {
        let accepted = tokio::select! {
            stream = connection.accept_bi() => stream.map(|(sender, receiver)| (Some(sender), receiver)),
            stream = connection.accept_uni() => stream.map(|receiver| (None, receiver)),
        };
        let (sender, receiver) = match accepted {
            Ok(stream) => stream,
            Err(end) => break end,
        };
        summary.borrow_mut().streams += 1;
        let (connection, summary) = (connection.clone(), summary.clone());
        streams.spawn_local(async move {
            if let Err(fault) = serve_stream(&connection, sender, receiver).await {
                summary.borrow_mut().faults.push(fault.to_string());
            }
        });
    };
    summary.borrow_mut().ends.push(end);
}

async fn serve_stream<C: Connection>(
    connection: &C,
    sender: Option<C::Sender>,
    mut receiver: C::Receiver,
) -> Result<(), Failure> {
    let (request, rest) = request(&mut receiver).await?;
    let (exchange, seed) =
        Exchange::decode(&request).ok_or_else(|| Failure(format!("request {request:?}")))?;
    let mut sender = match sender {
        Some(sender) => sender,
        None => open_answer(connection, seed).await?,
    };
    match exchange {
        Exchange::Both { down, .. } | Exchange::Apart { down, .. } => {
            let (digest, sent) =
                tokio::join!(hash(&mut receiver, rest), send_pattern(&mut sender, seed + 1, down));
            sent?;
            sender.send(digest?).await?;
            sender.finish().await?;
        }
        Exchange::ServerResets(code) => {
            send_pattern(&mut sender, seed + 1, BEFORE_BREAKING).await?;
            sender.reset(code);
            ignore(&mut receiver).await;
        }
        Exchange::ServerStops(code) => {
            let mut seen = rest.len() as u64;
            while seen < BEFORE_BREAKING {
                let Some(bytes) = receiver.receive().await? else { break };
                seen += bytes.len() as u64;
            }
            receiver.stop(code);
            sender.finish().await?;
        }
        Exchange::ClientResets(_) => {
            sender.send(Bytes::from_static(b"!")).await?;
            let seen = drain(&mut receiver).await;
            sender.send(told(seen)).await?;
            sender.finish().await?;
        }
        Exchange::ClientStops(_) => {
            let seen = send_pattern(&mut sender, seed + 1, u64::MAX).await;
            let mut answer = open_answer(connection, seed).await?;
            answer.send(told(seen)).await?;
            answer.finish().await?;
            ignore(&mut receiver).await;
        }
    }
    Ok(())
}

/// Opens a stream to the client that starts with the seed it answers to.
async fn open_answer<C: Connection>(connection: &C, seed: u64) -> Result<C::Sender, Fault> {
    let mut answer = connection.open_uni().await?;
    answer.send(Bytes::copy_from_slice(&seed.to_be_bytes())).await?;
    Ok(answer)
}

/// Reads a request, and what came behind it.
async fn request(receiver: &mut impl Receiver) -> Result<([u8; REQUEST], Bytes), Failure> {
    let mut request = [0; REQUEST];
    let rest = fill(receiver, &mut request).await?;
    Ok((request, rest))
}

/// Reads until `into` is full; returns what came behind that.
pub(super) async fn fill(receiver: &mut impl Receiver, into: &mut [u8]) -> Result<Bytes, Failure> {
    let mut filled = 0;
    loop {
        let Some(mut bytes) = receiver.receive().await? else {
            return Err(Failure(format!("the stream ended after {filled} bytes of {}", into.len())));
        };
        let len = bytes.len().min(into.len() - filled);
        bytes.copy_to_slice(&mut into[filled..filled + len]);
        filled += len;
        if filled == into.len() {
            return Ok(bytes);
        }
    }
}

/// The SHA-256 of `rest` and all that follows.
async fn hash(receiver: &mut impl Receiver, rest: Bytes) -> Result<Bytes, Fault> {
    let mut context = Context::new(&SHA256);
    context.update(&rest);
    while let Some(bytes) = receiver.receive().await? {
        context.update(&bytes);
    }
    Ok(Bytes::copy_from_slice(context.finish().as_ref()))
}

/// Sends the first `count` bytes of a pattern.
pub(super) async fn send_pattern(sender: &mut impl Sender, seed: u64, count: u64) -> Result<(), Fault> {
    let mut offset = 0;
    while offset < count {
        let bytes = pattern(seed, offset, CHUNK.min((count - offset) as usize));
        offset += bytes.len() as u64;
        sender.send(bytes).await?;
    }
    Ok(())
}

/// Reads to the end, whatever that is.
async fn drain(receiver: &mut impl Receiver) -> Result<(), Fault> {
    while receiver.receive().await?.is_some() {}
    Ok(())
}

/// Reads to the end, also where the client has all it wants and closes the connection first.
async fn ignore(receiver: &mut impl Receiver) {
    let _ = drain(receiver).await;
}

/// What the server saw of a stream that the client broke off, for the client: the code, or all ones.
fn told(seen: Result<(), Fault>) -> Bytes {
    let code = match seen {
        Err(Fault::Reset(code) | Fault::Stopped(code)) => code,
        _ => u64::MAX,
    };
    Bytes::copy_from_slice(&code.to_be_bytes())
}

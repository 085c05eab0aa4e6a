//! s2n-quic's types behind the benches' traits.

use std::{
    future::poll_fn,
    net::SocketAddr,
    sync::Arc,
    task::{Poll, ready},
};

use bytes::Bytes;
use perf_protocol::{
    Result, SERVER_NAME,
    transport::{Connection, Connector, Receiver, Sender},
};
use s2n_quic::{
    client::Connect,
    connection::{Handle, StreamAcceptor},
    provider::datagram::default::{Receiver as DatagramReceiver, Sender as DatagramSender},
    stream::{BidirectionalStream, ReceiveStream, SendStream},
};
use tokio::sync::Mutex;

/// Chunks taken from a stream in one call.
const READ_BATCH: usize = 64;

/// Bytes that IP, UDP and QUIC may take of the link's MTU.
const DATAGRAM_OVERHEAD: u16 = 80;

pub(crate) struct Sending(SendStream);

pub(crate) struct Receiving {
    stream: ReceiveStream,
    open: bool,
}

#[derive(Clone)]
pub(crate) struct Accepted {
    handle: Handle,
    streams: Arc<Mutex<StreamAcceptor>>,
    mtu: u16,
}

#[derive(Clone)]
pub(crate) struct S2nConnector {
    pub(crate) endpoint: s2n_quic::Client,
    pub(crate) server: SocketAddr,
    pub(crate) mtu: u16,
}

impl Accepted {
    pub(crate) fn new(connection: s2n_quic::Connection) -> Self {
        let (handle, streams) = connection.split();
        Self { handle, streams: Arc::new(Mutex::new(streams)), mtu: 0 }
    }
}

impl Connector for S2nConnector {
    type Connection = Accepted;

    async fn connect(&self) -> Result<Accepted> {
        let wanted = Connect::new(self.server).with_server_name(SERVER_NAME);
        Ok(Accepted { mtu: self.mtu, ..Accepted::new(self.endpoint.connect(wanted).await?) })
    }
}

impl Sender for Sending {
    async fn write(&mut self, data: Bytes) -> Result<()> {
        Ok(self.0.send(data).await?)
    }

    async fn finish(&mut self, last: Bytes) -> Result<()> {
        if !last.is_empty() {
            self.0.send(last).await?;
        }
        Ok(self.0.finish()?)
    }
}

impl Receiver for Receiving {
    async fn read(&mut self) -> Result<Option<Bytes>> {
        Ok(self.stream.receive().await?)
    }

    async fn discard(&mut self) -> Result<Option<usize>> {
        if !self.open {
            return Ok(None);
        }
        let mut chunks = [const { Bytes::new() }; READ_BATCH];
        let (count, open) = self.stream.receive_vectored(&mut chunks).await?;
        self.open = open;
        let len = chunks[..count].iter().map(Bytes::len).sum();
        Ok((open || count > 0).then_some(len))
    }
}

fn halves(stream: BidirectionalStream) -> (Sending, Receiving) {
    let (receiver, sender) = stream.split();
    (Sending(sender), Receiving { stream: receiver, open: true })
}

impl Connection for Accepted {
    type Sender = Sending;
    type Receiver = Receiving;

    async fn open(&self) -> Result<(Sending, Receiving)> {
        Ok(halves(self.handle.clone().open_bidirectional_stream().await?))
    }

    async fn accept(&self) -> Option<(Sending, Receiving)> {
        Some(halves(self.streams.lock().await.accept_bidirectional_stream().await.ok()??))
    }

    fn max_datagram(&self) -> Option<usize> {
        // It does not tell; a datagram the path can't carry yet is dropped and counts as lost.
        Some(self.mtu.saturating_sub(DATAGRAM_OVERHEAD).into())
    }

    async fn send_datagram(&self, mut data: Bytes) -> Result<()> {
        poll_fn(|context| {
            let sent = self
                .handle
                .datagram_mut(|queue: &mut DatagramSender| queue.poll_send_datagram(&mut data, context))?;
            Poll::Ready(ready!(sent).map_err(|error| error.to_string().into()))
        })
        .await
    }

    async fn receive_datagrams(&self) -> Result<u64> {
        poll_fn(|context| {
            let received = self.handle.datagram_mut(|queue: &mut DatagramReceiver| {
                let first = ready!(queue.poll_recv_datagram(context));
                let more = std::iter::from_fn(|| queue.recv_datagram()).count();
                Poll::Ready(first.map(|_| 1 + more as u64))
            })?;
            Poll::Ready(ready!(received).map_err(|error| error.to_string().into()))
        })
        .await
    }

    fn close(&self) {
        self.handle.close(0_u32.into());
    }
}

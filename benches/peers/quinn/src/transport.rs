//! quinn's types behind the benches' traits.

use std::net::SocketAddr;

use bytes::Bytes;
use perf_protocol::{
    Json, Result, SERVER_NAME,
    transport::{Connection, Connector, Receiver, Sender},
};
use quinn::{Endpoint, RecvStream, SendStream, VarInt};

/// Chunks taken from a stream in one call.
const READ_BATCH: usize = 64;

pub(crate) struct Sending(SendStream);
pub(crate) struct Receiving(RecvStream);

#[derive(Clone)]
pub(crate) struct Connected(pub(crate) quinn::Connection);

#[derive(Clone)]
pub(crate) struct QuinnConnector {
    pub(crate) endpoint: Endpoint,
    pub(crate) server: SocketAddr,
}

impl Connector for QuinnConnector {
    type Connection = Connected;

    async fn connect(&self) -> Result<Connected> {
        Ok(Connected(self.endpoint.connect(self.server, SERVER_NAME)?.await?))
    }
}

impl Sender for Sending {
    async fn write(&mut self, data: Bytes) -> Result<()> {
        Ok(self.0.write_chunk(data).await?)
    }

    async fn finish(&mut self, last: Bytes) -> Result<()> {
        if !last.is_empty() {
            self.0.write_chunk(last).await?;
        }
        Ok(self.0.finish()?)
    }
}

impl Receiver for Receiving {
    async fn read(&mut self) -> Result<Option<Bytes>> {
        Ok(self.0.read_chunk(usize::MAX, true).await?.map(|chunk| chunk.bytes))
    }

    async fn discard(&mut self) -> Result<Option<usize>> {
        let mut chunks = [const { Bytes::new() }; READ_BATCH];
        let count = self.0.read_chunks(&mut chunks).await?;
        Ok(count.map(|count| chunks[..count].iter().map(Bytes::len).sum()))
    }
}

impl Connection for Connected {
    type Sender = Sending;
    type Receiver = Receiving;

    async fn open(&self) -> Result<(Sending, Receiving)> {
        let (sender, receiver) = self.0.open_bi().await?;
        Ok((Sending(sender), Receiving(receiver)))
    }

    async fn accept(&self) -> Option<(Sending, Receiving)> {
        let (sender, receiver) = self.0.accept_bi().await.ok()?;
        Some((Sending(sender), Receiving(receiver)))
    }

    fn max_datagram(&self) -> Option<usize> {
        self.0.max_datagram_size()
    }

    async fn send_datagram(&self, data: Bytes) -> Result<()> {
        Ok(self.0.send_datagram_wait(data).await?)
    }

    async fn receive_datagrams(&self) -> Result<u64> {
        self.0.read_datagram().await?;
        let mut count = 1;
        // The others that are already there: a second wait ends at the first await point.
        while let Some(next) = poll_once(self.0.read_datagram()).await {
            next?;
            count += 1;
        }
        Ok(count)
    }

    fn close(&self) {
        self.0.close(VarInt::from_u32(0), b"");
    }

    fn report(&self, json: Json) -> Json {
        let path = self.0.stats().path;
        json.number("lost_packets", path.lost_packets as f64)
            .number("sent_packets", path.sent_packets as f64)
            .number("mtu", f64::from(path.current_mtu))
            .number("rtt_us", path.rtt.as_secs_f64() * 1e6)
    }
}

async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

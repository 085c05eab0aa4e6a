//! quiche behind the benches' traits.

use std::{
    future::poll_fn,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use perf_protocol::{
    Json, Result,
    transport::{Connection, Connector, Receiver, Sender},
};

use crate::{
    connection::{self, Event, State},
    driver::Endpoint,
};

pub(crate) struct Sending {
    connection: Arc<connection::Connection>,
    stream: u64,
}

pub(crate) struct Receiving {
    connection: Arc<connection::Connection>,
    stream: u64,
    finished: bool,
}

#[derive(Clone)]
pub(crate) struct Connected(pub(crate) Arc<connection::Connection>);

#[derive(Clone)]
pub(crate) struct QuicheConnector {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) server: SocketAddr,
}

impl Connector for QuicheConnector {
    type Connection = Connected;

    async fn connect(&self) -> Result<Connected> {
        let connection = self.endpoint.connect(self.server)?;
        poll_fn(|context| {
            let mut state = connection.lock();
            if state.quic.is_established() {
                return Poll::Ready(Ok(()));
            }
            wait(&mut state, Event::Established, context)
        })
        .await?;
        Ok(Connected(connection))
    }
}

/// Pending, or an error if there is nothing to come any more.
fn wait<T>(state: &mut State, event: Event, context: &Context<'_>) -> Poll<Result<T>> {
    if state.has_ended() {
        return Poll::Ready(Err(ended(state)));
    }
    state.wait(event, context.waker());
    Poll::Pending
}

fn ended(state: &State) -> perf_protocol::Error {
    match state.quic.local_error().or(state.quic.peer_error()) {
        Some(cause) => format!("the connection has ended: {cause:?}").into(),
        None => "the connection has ended".into(),
    }
}

impl Sending {
    /// Writes what there is room for, which is what the congestion window has left.
    fn poll_write(&self, data: &mut Bytes, fin: bool, context: &Context<'_>) -> Poll<Result<()>> {
        let mut state = self.connection.lock();
        if state.has_ended() {
            return Poll::Ready(Err(ended(&state)));
        }
        match state.quic.stream_send_zc(self.stream, data.clone(), fin) {
            Ok((written, _)) => data.advance(written),
            Err(quiche::Error::Done) => {
                state.wait_to_write(self.stream, context.waker());
                return Poll::Pending;
            }
            Err(error) => return Poll::Ready(Err(error.into())),
        }
        let outcome = if data.is_empty() {
            Poll::Ready(Ok(()))
        } else {
            state.wait_to_write(self.stream, context.waker());
            Poll::Pending
        };
        drop(state);
        self.connection.touch();
        outcome
    }
}

impl Sender for Sending {
    async fn write(&mut self, mut data: Bytes) -> Result<()> {
        poll_fn(|context| self.poll_write(&mut data, false, context)).await
    }

    async fn finish(&mut self, mut last: Bytes) -> Result<()> {
        poll_fn(|context| self.poll_write(&mut last, true, context)).await
    }
}

impl Receiving {
    /// Gives `take` what there is, until it has enough, and says how many bytes that was. quiche copies them out.
    fn poll_receive(
        &mut self,
        mut take: impl FnMut(&[u8]) -> bool,
        context: &Context<'_>,
    ) -> Poll<Result<Option<usize>>> {
        if self.finished {
            return Poll::Ready(Ok(None));
        }
        let mut scratch = self.connection.endpoint.scratch();
        let mut state = self.connection.lock();
        let mut total = 0;
        let mut more = true;
        while more && !self.finished {
            match state.quic.stream_recv(self.stream, &mut scratch) {
                Ok((len, fin)) => {
                    total += len;
                    more = take(&scratch[..len]);
                    self.finished = fin;
                }
                // quiche does not know a stream yet that a later one of the peer's has opened.
                Err(quiche::Error::Done | quiche::Error::InvalidStreamState(_)) => break,
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        if total == 0 && !self.finished {
            if state.has_ended() {
                return Poll::Ready(Err(ended(&state)));
            }
            state.wait_to_read(self.stream, context.waker());
            return Poll::Pending;
        }
        drop(state);
        // For the flow control that it may have become time to tell of.
        self.connection.touch();
        Poll::Ready(Ok((total > 0).then_some(total)))
    }
}

impl Receiver for Receiving {
    async fn read(&mut self) -> Result<Option<Bytes>> {
        let mut bytes = Bytes::new();
        let received = poll_fn(|context| {
            let once = |chunk: &[u8]| {
                bytes = Bytes::copy_from_slice(chunk);
                false
            };
            self.poll_receive(once, context)
        });
        Ok(received.await?.map(|_| bytes))
    }

    async fn discard(&mut self) -> Result<Option<usize>> {
        poll_fn(|context| self.poll_receive(|_| true, context)).await
    }
}

impl Connected {
    fn halves(&self, stream: u64) -> (Sending, Receiving) {
        let connection = self.0.clone();
        (
            Sending { connection: connection.clone(), stream },
            Receiving { connection, stream, finished: false },
        )
    }
}

impl Connection for Connected {
    type Sender = Sending;
    type Receiver = Receiving;

    async fn open(&self) -> Result<(Sending, Receiving)> {
        let stream = poll_fn(|context| {
            let mut state = self.0.lock();
            match state.open() {
                Ok(Some(stream)) => Poll::Ready(Ok(stream)),
                Ok(None) => wait(&mut state, Event::StreamAllowed, context),
                Err(error) => Poll::Ready(Err(error.into())),
            }
        });
        Ok(self.halves(stream.await?))
    }

    async fn accept(&self) -> Option<(Sending, Receiving)> {
        let stream = poll_fn(|context| {
            let mut state = self.0.lock();
            match state.accept() {
                Some(stream) => Poll::Ready(Ok(stream)),
                None => wait(&mut state, Event::StreamOpened, context),
            }
        });
        Some(self.halves(stream.await.ok()?))
    }

    fn max_datagram(&self) -> Option<usize> {
        self.0.lock().quic.dgram_max_writable_len()
    }

    async fn send_datagram(&self, data: Bytes) -> Result<()> {
        poll_fn(|context| {
            let mut state = self.0.lock();
            match state.quic.dgram_send_buf(data.clone()) {
                Ok(()) => Poll::Ready(Ok(())),
                Err(quiche::Error::Done) => wait(&mut state, Event::DatagramRoom, context),
                Err(error) => Poll::Ready(Err(error.into())),
            }
        })
        .await?;
        self.0.touch();
        Ok(())
    }

    async fn receive_datagrams(&self) -> Result<u64> {
        poll_fn(|context| {
            let mut state = self.0.lock();
            match std::iter::from_fn(|| state.quic.dgram_recv_buf().ok()).count() {
                0 => wait(&mut state, Event::DatagramReceived, context),
                count => Poll::Ready(Ok(count as u64)),
            }
        })
        .await
    }

    fn close(&self) {
        // An error only if it is closed.
        let _ = self.0.lock().quic.close(true, 0, b"");
        self.0.touch();
    }

    fn report(&self, json: Json) -> Json {
        let state = self.0.lock();
        let stats = state.quic.stats();
        let rtt = state.quic.path_stats().next().map_or(f64::NAN, |path| path.rtt.as_secs_f64() * 1e6);
        json.number("lost_packets", stats.lost as f64)
            .number("sent_packets", stats.sent as f64)
            .number("mtu", state.quic.max_send_udp_payload_size() as f64)
            .number("rtt_us", rtt)
    }
}

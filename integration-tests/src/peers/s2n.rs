//! s2n-quic, with its rustls provider.

use std::{net::SocketAddr, rc::Rc};

use bytes::Bytes;
use s2n_quic::{
    application, connection,
    connection::{BidirectionalStreamAcceptor, Handle, ReceiveStreamAcceptor},
    provider::{datagram::default as datagram, io::tokio as socket, limits::Limits, tls::rustls as tls},
    stream::{self, BidirectionalStream, ReceiveStream, SendStream},
};
use tokio::sync::Mutex;

use super::{Connection, Datagrams, Endpoint, Fault, LocalFuture, Receiver, Sender, Setting, Tuning};

/// Datagrams that wait at most, each way.
const DATAGRAM_QUEUE: usize = 1024;

/// s2n-quic's endpoint.
#[derive(Debug)]
pub enum S2n {
    /// One that accepts.
    Server(s2n_quic::Server),
    /// One that connects.
    Client(s2n_quic::Client),
}

/// s2n-quic's connection.
#[derive(Clone, Debug)]
pub struct S2nConnection {
    handle: Handle,
    bidirectional: Rc<Mutex<BidirectionalStreamAcceptor>>,
    unidirectional: Rc<Mutex<ReceiveStreamAcceptor>>,
}

impl Endpoint for S2n {
    type Connection = S2nConnection;

    async fn server(at: SocketAddr, setting: &Setting) -> Result<Self, String> {
        let identity = &setting.identity;
        let server = async || -> Result<_, Box<dyn std::error::Error + Send + Sync>> {
            let tls = tls::Server::builder()
                .with_certificate(&identity.certificate, &identity.key)?
                .with_application_protocols([setting.alpn].iter())?
                .build()?;
            Ok(s2n_quic::Server::builder()
                .with_tls(tls)?
                .with_io(io(at, &setting.tuning)?)?
                .with_limits(limits(&setting.tuning)?)?
                .with_datagram(datagrams()?)?
                .start()?)
        };
        server().await.map(Self::Server).map_err(|error| error.to_string())
    }

    async fn client(at: SocketAddr, setting: &Setting) -> Result<Self, String> {
        let client = async || -> Result<_, Box<dyn std::error::Error + Send + Sync>> {
            let tls = tls::Client::builder()
                .with_certificate(&setting.identity.certificate)?
                .with_application_protocols([setting.alpn].iter())?
                .build()?;
            Ok(s2n_quic::Client::builder()
                .with_tls(tls)?
                .with_io(io(at, &setting.tuning)?)?
                .with_limits(limits(&setting.tuning)?)?
                .with_datagram(datagrams()?)?
                .start()?)
        };
        client().await.map(Self::Client).map_err(|error| error.to_string())
    }

    fn local_addr(&self) -> Result<SocketAddr, String> {
        match self {
            Self::Server(server) => server.local_addr(),
            Self::Client(client) => client.local_addr(),
        }
        .map_err(|error| error.to_string())
    }

    async fn accept(&mut self) -> Option<LocalFuture<Result<S2nConnection, Fault>>> {
        let Self::Server(server) = self else { return None };
        let connection = server.accept().await?;
        Some(Box::pin(async { Ok(connection.into()) }))
    }

    async fn connect(&mut self, to: SocketAddr, server_name: &str) -> Result<S2nConnection, Fault> {
        let Self::Client(client) = self else {
            return Err(Fault::Broken("a server does not connect".into()));
        };
        let target = s2n_quic::client::Connect::new(to).with_server_name(server_name);
        Ok(client.connect(target).await?.into())
    }

    async fn shutdown(self) {
        if let Self::Client(mut client) = self {
            // Fails when the endpoint is gone already.
            let _ = client.wait_idle().await;
        }
    }
}

impl Connection for S2nConnection {
    type Sender = SendStream;
    type Receiver = ReceiveStream;

    async fn open_bi(&self) -> Result<(SendStream, ReceiveStream), Fault> {
        Ok(halves(self.handle.clone().open_bidirectional_stream().await?))
    }

    async fn open_uni(&self) -> Result<SendStream, Fault> {
        Ok(self.handle.clone().open_send_stream().await?)
    }

    async fn accept_bi(&self) -> Result<(SendStream, ReceiveStream), Fault> {
        let stream = self.bidirectional.lock().await.accept_bidirectional_stream().await?;
        stream.map(halves).ok_or_else(quiet_end)
    }

    async fn accept_uni(&self) -> Result<ReceiveStream, Fault> {
        let stream = self.unidirectional.lock().await.accept_receive_stream().await?;
        stream.ok_or_else(quiet_end)
    }

    fn alpn(&self) -> Option<Bytes> {
        self.handle.application_protocol().ok()
    }

    fn close(&self, code: u64) {
        self.handle.close(error(code));
    }
}

impl Datagrams for S2nConnection {
    fn send_datagram(&self, bytes: Bytes) -> Result<(), Fault> {
        let send = |sender: &mut datagram::Sender| sender.send_datagram(bytes.clone());
        match self.handle.datagram_mut(send) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Fault::Broken(error.to_string())),
            Err(error) => Err(Fault::Broken(error.to_string())),
        }
    }

    async fn receive_datagram(&self) -> Result<Bytes, Fault> {
        std::future::poll_fn(|cx| {
            let receive = |receiver: &mut datagram::Receiver| receiver.poll_recv_datagram(cx);
            match self.handle.datagram_mut(receive) {
                Ok(polled) => polled.map_err(|error| Fault::Broken(error.to_string())),
                Err(error) => std::task::Poll::Ready(Err(Fault::Broken(error.to_string()))),
            }
        })
        .await
    }
}

impl Sender for SendStream {
    async fn send(&mut self, bytes: Bytes) -> Result<(), Fault> {
        SendStream::send(self, bytes).await.map_err(sending)
    }

    async fn finish(mut self) -> Result<(), Fault> {
        SendStream::finish(&mut self).map_err(sending)
    }

    fn reset(mut self, code: u64) {
        // Fails only for a stream that is closed already.
        let _ = SendStream::reset(&mut self, error(code));
    }
}

impl Receiver for ReceiveStream {
    async fn receive(&mut self) -> Result<Option<Bytes>, Fault> {
        ReceiveStream::receive(self).await.map_err(receiving)
    }

    fn stop(mut self, code: u64) {
        // Fails only for a stream that is closed already.
        let _ = self.stop_sending(error(code));
    }
}

impl From<s2n_quic::Connection> for S2nConnection {
    fn from(connection: s2n_quic::Connection) -> Self {
        let (handle, acceptor) = connection.split();
        let (bidirectional, unidirectional) = acceptor.split();
        Self {
            handle,
            bidirectional: Rc::new(Mutex::new(bidirectional)),
            unidirectional: Rc::new(Mutex::new(unidirectional)),
        }
    }
}

impl From<connection::Error> for Fault {
    fn from(error: connection::Error) -> Self {
        match error {
            connection::Error::Application { error, .. } => Self::Closed(*error),
            other => Self::Broken(other.to_string()),
        }
    }
}

/// s2n-quic gives the peer's STOP_SENDING and its RESET_STREAM the same name.
fn sending(error: stream::Error) -> Fault {
    match error {
        stream::Error::StreamReset { error, .. } => Fault::Stopped(*error),
        stream::Error::ConnectionError { error, .. } => error.into(),
        other => Fault::Broken(other.to_string()),
    }
}

fn receiving(error: stream::Error) -> Fault {
    match error {
        stream::Error::StreamReset { error, .. } => Fault::Reset(*error),
        other => sending(other),
    }
}

fn halves(stream: BidirectionalStream) -> (SendStream, ReceiveStream) {
    let (receive, send) = stream.split();
    (send, receive)
}

/// s2n-quic tells of a close with code 0 by ending quietly.
fn quiet_end() -> Fault {
    Fault::Closed(0)
}

fn error(code: u64) -> application::Error {
    application::Error::new(code).expect("codes of tests fit 62 bits")
}

fn io(at: SocketAddr, tuning: &Tuning) -> std::io::Result<socket::Provider> {
    // Its MTU counts the IP and UDP headers of the larger family.
    const HEADERS: u16 = 40 + 8;
    socket::Provider::builder().with_receive_address(at)?.with_max_mtu(tuning.udp_payload + HEADERS)?.build()
}

fn datagrams() -> Result<datagram::Endpoint, Box<dyn std::error::Error + Send + Sync>> {
    let endpoint = datagram::Endpoint::builder()
        .with_send_capacity(DATAGRAM_QUEUE)
        .and_then(|builder| builder.with_recv_capacity(DATAGRAM_QUEUE))
        .map_err(|error| error.to_string())?;
    Ok(endpoint.build()?)
}

fn limits(tuning: &Tuning) -> Result<Limits, Box<dyn std::error::Error + Send + Sync>> {
    Ok(Limits::new()
        .with_data_window(tuning.connection_window.into())?
        .with_bidirectional_local_data_window(tuning.stream_window.into())?
        .with_bidirectional_remote_data_window(tuning.stream_window.into())?
        .with_unidirectional_data_window(tuning.stream_window.into())?
        .with_max_open_remote_bidirectional_streams(tuning.streams.into())?
        .with_max_open_remote_unidirectional_streams(tuning.streams.into())?
        .with_max_open_local_bidirectional_streams(tuning.streams.into())?
        .with_max_open_local_unidirectional_streams(tuning.streams.into())?
        .with_max_handshake_duration(tuning.handshake)?
        .with_max_idle_timeout(tuning.idle)?)
}

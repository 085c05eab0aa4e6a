//! Our own stack, over AF_XDP where the setting names an interface, over OS UDP otherwise.

use std::net::SocketAddr;

use bytes::Bytes;
use wirepath::{
    ClientConfig, CloseReason, ConnectionError, Listener, ReadError, ServerConfig, Stack, TransportConfig,
    VarInt, WriteError,
};

use super::{Connection, Endpoint, Fault, LocalFuture, Receiver, Sender, Setting, Tuning};

/// Our endpoint.
#[derive(Debug)]
pub struct Ours {
    stack: Stack,
    /// Of a server.
    listener: Option<Listener>,
    /// Of a client.
    client: Option<ClientConfig>,
    /// What was made here, to be closed at the end.
    connections: Vec<wirepath::Connection>,
}

impl Ours {
    /// The stack below, for its status.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }
}

impl Endpoint for Ours {
    type Connection = wirepath::Connection;

    async fn server(at: SocketAddr, setting: &Setting) -> Result<Self, String> {
        let identity = &setting.identity;
        let config = ServerConfig::new(identity.certificate.as_bytes(), identity.key.as_bytes())
            .map_err(|error| error.to_string())?
            .alpn([setting.alpn])
            .transport(transport(&setting.tuning));
        let stack = stack(setting).await?;
        let listener = stack.listen(at, config).await.map_err(|error| error.to_string())?;
        Ok(Self { stack, listener: Some(listener), client: None, connections: Vec::new() })
    }

    async fn client(_at: SocketAddr, setting: &Setting) -> Result<Self, String> {
        let config = ClientConfig::new(setting.identity.certificate.as_bytes())
            .map_err(|error| error.to_string())?
            .alpn([setting.alpn])
            .transport(transport(&setting.tuning));
        let stack = stack(setting).await?;
        Ok(Self { stack, listener: None, client: Some(config), connections: Vec::new() })
    }

    fn local_addr(&self) -> Result<SocketAddr, String> {
        self.listener.as_ref().map(Listener::local_addr).ok_or_else(|| "a client has none".into())
    }

    async fn accept(&mut self) -> Option<LocalFuture<Result<wirepath::Connection, Fault>>> {
        let connection = self.listener.as_ref()?.accept().await?;
        self.connections.push(connection.clone());
        Some(Box::pin(async move { Ok(connection) }))
    }

    async fn connect(&mut self, to: SocketAddr, server_name: &str) -> Result<wirepath::Connection, Fault> {
        let config = self.client.clone().ok_or_else(|| Fault::Broken("a server does not connect".into()))?;
        let connection = self.stack.connect(to, server_name, config).await.map_err(|error| match error {
            wirepath::Error::Connection(error) => error.into(),
            other => Fault::Broken(other.to_string()),
        })?;
        self.connections.push(connection.clone());
        Ok(connection)
    }

    fn describe(&self) -> String {
        let mut text = format!("{}; drops {:?}", self.stack.status(), self.stack.status().all_drops());
        for device in self.stack.status().devices {
            text += &format!("\n  device {:?}", device.stats);
        }
        for connection in &self.connections {
            text += &format!("\n  connection {:?}", connection.stats());
        }
        text
    }

    async fn shutdown(self) {
        for connection in self.connections {
            connection.close(VarInt::from_u8(0), b"");
            connection.closed().await;
        }
        drop(self.listener);
        self.stack.close().await;
    }
}

impl Connection for wirepath::Connection {
    type Sender = wirepath::SendStream;
    type Receiver = wirepath::RecvStream;

    async fn open_bi(&self) -> Result<(Self::Sender, Self::Receiver), Fault> {
        Ok(self.open_bi().await?)
    }

    async fn open_uni(&self) -> Result<Self::Sender, Fault> {
        Ok(self.open_uni().await?)
    }

    async fn accept_bi(&self) -> Result<(Self::Sender, Self::Receiver), Fault> {
        Ok(self.accept_bi().await?)
    }

    async fn accept_uni(&self) -> Result<Self::Receiver, Fault> {
        Ok(self.accept_uni().await?)
    }

    fn alpn(&self) -> Option<Bytes> {
        Some(wirepath::Connection::alpn(self))
    }

    fn close(&self, code: u64) {
        self.close(varint(code), b"done");
    }
}

impl Sender for wirepath::SendStream {
    async fn send(&mut self, bytes: Bytes) -> Result<(), Fault> {
        Ok(self.write_chunk(bytes).await?)
    }

    async fn finish(mut self) -> Result<(), Fault> {
        Ok(wirepath::SendStream::finish(&mut self)?)
    }

    fn reset(mut self, code: u64) {
        // Fails only for a stream that was reset already.
        let _ = wirepath::SendStream::reset(&mut self, varint(code));
    }
}

impl Receiver for wirepath::RecvStream {
    async fn receive(&mut self) -> Result<Option<Bytes>, Fault> {
        Ok(self.read_chunk().await?)
    }

    fn stop(mut self, code: u64) {
        wirepath::RecvStream::stop(&mut self, varint(code));
    }
}

impl From<ConnectionError> for Fault {
    fn from(ConnectionError(reason): ConnectionError) -> Self {
        match reason {
            CloseReason::Application { code, .. } => Self::Closed(code.as_u64()),
            other => Self::Broken(other.to_string()),
        }
    }
}

impl From<WriteError> for Fault {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::Stopped(code.as_u64()),
            WriteError::Connection(error) => error.into(),
            other => Self::Broken(other.to_string()),
        }
    }
}

impl From<ReadError> for Fault {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::Reset(code.as_u64()),
            ReadError::Connection(error) => error.into(),
            other => Self::Broken(other.to_string()),
        }
    }
}

/// Our transport settings for a tuning; windows stay as they start.
pub fn transport(tuning: &Tuning) -> TransportConfig {
    TransportConfig::default()
        .stream_window(tuning.stream_window.into())
        .max_stream_window(tuning.stream_window.into())
        .connection_window(tuning.connection_window.into())
        .max_connection_window(tuning.connection_window.into())
        .max_bidi_streams(tuning.streams.into())
        .max_uni_streams(tuning.streams.into())
        .idle_timeout(Some(tuning.idle))
        .handshake_timeout(tuning.handshake)
        .max_udp_payload(tuning.udp_payload)
}

async fn stack(setting: &Setting) -> Result<Stack, String> {
    let builder = match &setting.interface {
        Some(interface) => Stack::builder().interface(interface).require_xdp(true),
        None => Stack::builder().os_udp(),
    };
    builder.build().await.map_err(|error| error.to_string())
}

fn varint(code: u64) -> VarInt {
    VarInt::new(code).expect("codes of tests fit 62 bits")
}

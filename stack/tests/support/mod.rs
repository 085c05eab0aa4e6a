//! Two stacks on loopback and a connection between them.

#![allow(dead_code, reason = "each test program uses a part")]

use std::sync::OnceLock;

use bytes::Bytes;
use wirepath::{ClientConfig, Connection, Listener, ServerConfig, Stack};

struct Identity {
    certificate: String,
    key: String,
    stranger: String,
}

fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let own = rcgen::generate_simple_self_signed(["localhost".into()]).expect("a certificate");
        let other = rcgen::generate_simple_self_signed(["localhost".into()]).expect("a certificate");
        Identity {
            certificate: own.cert.pem(),
            key: own.signing_key.serialize_pem(),
            stranger: other.cert.pem(),
        }
    })
}

pub(crate) fn server_config() -> ServerConfig {
    let Identity { certificate, key, .. } = identity();
    ServerConfig::new(certificate.as_bytes(), key.as_bytes()).expect("valid").alpn(["test"])
}

pub(crate) fn client_config() -> ClientConfig {
    ClientConfig::new(identity().certificate.as_bytes()).expect("valid").alpn(["test"])
}

pub(crate) fn other_root() -> &'static str {
    &identity().stranger
}

pub(crate) async fn listening(config: ServerConfig) -> (Stack, Listener) {
    let stack = Stack::builder().build().await.expect("build");
    let listener = stack.listen("127.0.0.1:0".parse().expect("an address"), config).await.expect("listen");
    (stack, listener)
}

/// Both ends of a connection.
pub(crate) struct Pair {
    pub(crate) client: Connection,
    pub(crate) server: Connection,
    pub(crate) stacks: (Stack, Stack, Listener),
}

impl Pair {
    /// The server does nothing by itself.
    pub(crate) async fn silent() -> Self {
        let (serving, listener) = listening(server_config()).await;
        let connecting = Stack::builder().build().await.expect("build");
        let (client, server) = tokio::join!(
            connecting.connect(listener.local_addr(), "localhost", client_config()),
            listener.accept()
        );
        Self {
            client: client.expect("connect"),
            server: server.expect("accept"),
            stacks: (serving, connecting, listener),
        }
    }

    /// The server echoes each bidirectional stream.
    pub(crate) async fn echo() -> Self {
        let pair = Self::silent().await;
        let server = pair.server.clone();
        pair.server.spawn(echo(server));
        pair
    }
}

/// Echoes each bidirectional stream of a connection.
pub(crate) async fn echo(connection: Connection) {
    while let Ok((mut send, mut receive)) = connection.accept_bi().await {
        tokio::spawn(async move {
            while let Ok(Some(chunk)) = receive.read_chunk().await {
                if send.write_chunk(chunk).await.is_err() {
                    return;
                }
            }
            let _ = send.finish();
        });
    }
}

/// Bytes that differ from stream to stream and place to place.
pub(crate) fn pattern(len: usize, seed: usize) -> Bytes {
    (0..len).map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ seed.wrapping_mul(101)) as u8).collect()
}

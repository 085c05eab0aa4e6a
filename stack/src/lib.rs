//! QUIC over AF_XDP, through actors, with an async API.
//!
//! A [`Stack`] owns the data path: with [`StackBuilder::interface`] its packets bypass the kernel through
//! AF_XDP; where that is not possible the same program runs over OS UDP sockets, and [`Stack::status`] says
//! which it is and why. [`Stack::listen`] and [`Stack::connect`] make connections; their streams are
//! [`AsyncRead`](tokio::io::AsyncRead) and [`AsyncWrite`](tokio::io::AsyncWrite), or move chunks of
//! [`Bytes`](bytes::Bytes) without copying.
//!
//! ```no_run
//! # async fn echo() -> Result<(), wirepath::Error> {
//! let stack = wirepath::Stack::builder().interface("eth0").build().await?;
//! let config = wirepath::ServerConfig::new(&std::fs::read("cert.pem")?, &std::fs::read("key.pem")?)?.alpn(["echo"]);
//! let listener = stack.listen("0.0.0.0:4433".parse().unwrap(), config).await?;
//! while let Some(connection) = listener.accept().await {
//!     let task = connection.clone();
//!     connection.spawn(async move {
//!         while let Ok((mut send, mut receive)) = task.accept_bi().await {
//!             while let Ok(Some(chunk)) = receive.read_chunk().await {
//!                 if send.write_chunk(chunk).await.is_err() {
//!                     break;
//!                 }
//!             }
//!             let _ = send.finish();
//!         }
//!     });
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Everything is freed when dropped: a stream that was not finished is reset, a stream not read to its end is
//! stopped, a connection without handles is closed, a listener without handles stops listening.

mod builder;
mod config;
mod connecting;
mod connection;
#[cfg(feature = "dashboard")]
mod dashboard;
mod error;
mod listener;
mod metrics;
pub mod qlog;
pub mod quic_lb;
mod recv_stream;
mod send_stream;
mod stack;
mod status;

pub use builder::StackBuilder;
pub use config::{ClientConfig, ServerConfig};
pub use connecting::Connecting;
pub use connection::Connection;
pub use error::{ConnectionError, Error, MigrateError, ReadError, WriteError};
pub use listener::Listener;
pub use recv_stream::RecvStream;
pub use send_stream::SendStream;
pub use stack::Stack;
pub use status::{DeviceStatus, RuleStatus, StackStatus};

/// What stands between a machine and AF_XDP: kernel, rights, limits, interfaces.
pub mod doctor {
    pub use wirepath_drivers::{Finding, Verdict, examine};
}

pub use wirepath_actors::explain::{End, Explanation};
pub use wirepath_actors::link::{Agreed, EarlyData};
#[cfg(feature = "dashboard")]
pub use wirepath_dashboard::{Dashboard, Token};
pub use wirepath_drivers::{ChecksumMode, DataPath, DriverError};
pub use wirepath_quic::{
    CibirId, CloseReason, HandshakeOutcome, Limits, RetryPolicy, Role, Stats, TokenKey, TransportConfig,
    VERSION_1, VERSION_2, VarInt, tls,
};
pub use wirepath_wire::rules;

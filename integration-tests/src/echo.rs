//! `echo` for any stack with datagrams: each comes back as it is.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;

use crate::peers::{Connection, Datagrams, Endpoint, Fault};

/// The protocol's name in TLS.
pub const ALPN: &[u8] = b"echo";

/// Datagrams may be lost: after this long one is sent again.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Echoes datagrams, until the future is dropped.
pub async fn serve<E: Endpoint<Connection: Datagrams>>(mut endpoint: E) {
    while let Some(connecting) = endpoint.accept().await {
        tokio::task::spawn_local(async move {
            let Ok(connection) = connecting.await else { return };
            while let Ok(datagram) = connection.receive_datagram().await {
                if connection.send_datagram(datagram).is_err() {
                    return;
                }
            }
        });
    }
}

/// Sends each of these until it comes back.
///
/// # Errors
/// The first fault.
pub async fn exchange<E: Endpoint<Connection: Datagrams>>(
    mut endpoint: E,
    to: SocketAddr,
    server_name: &str,
    datagrams: Vec<Bytes>,
) -> Result<(), Fault> {
    let connection = endpoint.connect(to, server_name).await?;
    for datagram in datagrams {
        loop {
            connection.send_datagram(datagram.clone())?;
            // Echoes of earlier tries are passed over.
            let echoed = async {
                while connection.receive_datagram().await? != datagram {}
                Ok::<_, Fault>(())
            };
            if let Ok(echoed) = tokio::time::timeout(AGAIN_AFTER, echoed).await {
                break echoed?;
            }
        }
    }
    connection.close(0);
    endpoint.shutdown().await;
    Ok(())
}

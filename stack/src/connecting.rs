//! A connection whose handshake is under way.

use crate::{Connection, ConnectionError, Error};

/// A connection that is being made. Dropping it gives the attempt up.
///
/// A client that comes back to a server may send ahead of the handshake's end (0-RTT), if both allowed it. That saves a
/// round trip; but an attacker may send such data again, to the same server or another, and have it acted on more than
/// once (RFC 9001 §9.2). So it is only for what may be asked twice.
///
/// ```no_run
/// # async fn ask(stack: wirepath::Stack, config: wirepath::ClientConfig) -> Result<(), Box<dyn std::error::Error>> {
/// let config = config.early_data(true);
/// let connecting = stack.start_connecting("192.0.2.1:443".parse()?, "example.org", config).await?;
/// if let Some(early) = connecting.early() {
///     // Not known yet to reach a server that takes it; if it is refused, it is sent once more by itself.
///     let (mut send, _answer) = early.open_bi().await?;
///     send.write_finish("what time is it?".into()).await?;
/// }
/// let connection = connecting.established().await?;
/// println!("early data: {:?}", connection.early_data());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Connecting(Connection);

impl Connecting {
    pub(crate) fn new(connection: Connection) -> Self {
        Self(connection)
    }

    /// The connection, if early data can be sent on it now: streams opened before the handshake's end carry it, as far as
    /// the limits go that the server set last time. `None`: wait for [`established`](Self::established).
    pub fn early(&self) -> Option<&Connection> {
        (self.0.early_data() != crate::EarlyData::None).then_some(&self.0)
    }

    /// Waits for the handshake.
    ///
    /// # Errors
    /// [`Error::Connection`] says why it failed.
    pub async fn established(self) -> Result<Connection, Error> {
        self.0.link().established().await.map_err(ConnectionError)?;
        Ok(self.0)
    }
}

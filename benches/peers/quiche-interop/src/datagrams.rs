//! Datagrams echoed: a file in as many as it takes, each sent until it comes back.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use quiche::{Connection, Error};

use crate::Result;

/// Datagrams may be lost: after this long one is sent again.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Bytes of each: what every path takes.
const PIECE: usize = 1000;

/// A file on its way there and back.
pub(crate) struct Echoed {
    data: Vec<u8>,
    back: Vec<u8>,
    sent: Option<Instant>,
    to: PathBuf,
}

impl Echoed {
    pub(crate) fn new(path: &str, out: &Path) -> Result<Self> {
        let name = Path::new(path).file_name().ok_or("it has no name")?;
        Ok(Self { data: fs::read(path)?, back: Vec::new(), sent: None, to: out.join(name) })
    }

    /// Sends and reads what there is now; true when all is back.
    pub(crate) fn step(&mut self, connection: &mut Connection) -> Result<bool> {
        let mut buffer = [0; 65536];
        while let Some(len) = next(connection, &mut buffer)? {
            // Echoes of earlier tries are passed over.
            if buffer[..len] == *self.piece() {
                self.back.extend_from_slice(&buffer[..len]);
                self.sent = None;
            }
        }
        if self.back.len() == self.data.len() {
            fs::write(&self.to, &self.back)?;
            return Ok(true);
        }
        if self.sent.is_none_or(|at| at.elapsed() > AGAIN_AFTER) {
            connection.dgram_send(self.piece())?;
            self.sent = Some(Instant::now());
        }
        Ok(false)
    }

    fn piece(&self) -> &[u8] {
        let rest = &self.data[self.back.len()..];
        &rest[..rest.len().min(PIECE)]
    }
}

/// The next datagram.
fn next(connection: &mut Connection, buffer: &mut [u8]) -> Result<Option<usize>> {
    match connection.dgram_recv(buffer) {
        Ok(len) => Ok(Some(len)),
        Err(Error::Done) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Sends datagrams back as they come.
pub(crate) fn echo(connection: &mut Connection) -> Result<()> {
    let mut buffer = [0; 65536];
    while let Some(len) = next(connection, &mut buffer)? {
        match connection.dgram_send(&buffer[..len]) {
            // No room: lost.
            Ok(()) | Err(Error::Done) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

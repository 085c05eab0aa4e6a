//! One TLS session, and its flights as they cross.

use perf_protocol::Result;
use rustls::quic::Connection;

/// In front of what belongs to one encryption level: TLS wants each alone.
const LEN_LEN: usize = 2;

/// One end of a session.
pub(crate) struct Session(Connection);

impl Session {
    pub(crate) fn of(tls: impl Into<Connection>) -> Self {
        Self(tls.into())
    }

    /// Takes the other end's flight.
    pub(crate) fn read(&mut self, mut flight: &[u8]) -> Result<()> {
        while let Some((len, rest)) = flight.split_first_chunk::<LEN_LEN>() {
            let len = usize::from(u16::from_be_bytes(*len));
            let (level, rest) = rest.split_at_checked(len).ok_or("a flight was cut short")?;
            self.0.read_hs(level)?;
            flight = rest;
        }
        Ok(())
    }

    /// What is to be sent now.
    pub(crate) fn flight(&mut self) -> Vec<u8> {
        let mut flight = Vec::new();
        loop {
            let mut level = Vec::new();
            let keys = self.0.write_hs(&mut level);
            if !level.is_empty() {
                flight.extend((level.len() as u16).to_be_bytes());
                flight.append(&mut level);
            }
            // Keys are made, as for a QUIC stack, and used for nothing.
            if keys.is_none() {
                return flight;
            }
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        !self.0.is_handshaking()
    }
}

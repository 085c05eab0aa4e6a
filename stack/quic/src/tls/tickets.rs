//! Session tickets are good for the QUIC version of the connection they came from, and for no other (RFC 9369 §5).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustls::NamedGroup;
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use rustls::server::{ProducesTickets, StoresServerSessions};

use crate::header::VERSION_2;

/// First byte inside the tickets of version 2: what follows is then no session to version 1.
const VERSION_2_MARK: u8 = 0xff;

/// A client's memory of sessions, one for each version.
#[derive(Clone, Debug)]
pub(super) struct Sessions([Arc<ClientSessionMemoryCache>; 2]);

impl Sessions {
    pub(super) fn new(size: usize) -> Self {
        Self([(); 2].map(|()| Arc::new(ClientSessionMemoryCache::new(size))))
    }

    fn of(&self, version: u32) -> &ClientSessionMemoryCache {
        &self.0[usize::from(version == VERSION_2)]
    }

    /// As one connection that begins with this version sees it.
    pub(super) fn connection(&self, version: u32) -> Arc<ConnectionSessions> {
        Arc::new(ConnectionSessions { sessions: self.clone(), version: AtomicU32::new(version) })
    }
}

/// A client's memory of sessions, under the version of one connection.
#[derive(Debug)]
pub(super) struct ConnectionSessions {
    sessions: Sessions,
    version: AtomicU32,
}

impl ConnectionSessions {
    /// Another version was agreed on: tickets that come are of that one.
    pub(super) fn set_version(&self, version: u32) {
        self.version.store(version, Ordering::Relaxed);
    }

    fn current(&self) -> &ClientSessionMemoryCache {
        self.sessions.of(self.version.load(Ordering::Relaxed))
    }
}

impl ClientSessionStore for ConnectionSessions {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.current().set_kx_hint(server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.current().kx_hint(server_name)
    }

    // QUIC is for TLS 1.3 (RFC 9001 §4.2).
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.current().insert_tls13_ticket(server_name, value);
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.current().take_tls13_ticket(server_name)
    }
}

/// A server's configuration for connections of version 2: the same, but for its tickets.
pub(super) fn for_version_2(tls: &rustls::ServerConfig) -> rustls::ServerConfig {
    let mut tls = tls.clone();
    tls.ticketer = Arc::new(Tickets(tls.ticketer));
    tls.session_storage = Arc::new(Storage(tls.session_storage));
    tls
}

/// Stateless tickets of version 2.
#[derive(Debug)]
struct Tickets(Arc<dyn ProducesTickets>);

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        self.0.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.0.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.encrypt(&[&[VERSION_2_MARK], plain].concat())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let plain = self.0.decrypt(cipher)?;
        plain.strip_prefix(&[VERSION_2_MARK]).map(<[u8]>::to_vec)
    }
}

/// Remembered sessions of version 2.
#[derive(Debug)]
struct Storage(Arc<dyn StoresServerSessions>);

impl Storage {
    fn key(key: &[u8]) -> Vec<u8> {
        [key, &[VERSION_2_MARK]].concat()
    }
}

impl StoresServerSessions for Storage {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.0.put(Self::key(&key), value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.get(&Self::key(key))
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.take(&Self::key(key))
    }

    fn can_cache(&self) -> bool {
        self.0.can_cache()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_can_not_fill_the_memory() {
        // Of each server's sessions eight are kept, and what group it takes.
        let sessions = Sessions::new(256);
        let of = sessions.connection(VERSION_2);
        let name = |number| ServerName::try_from(format!("host-{number}.example")).expect("a name");
        for number in 0..1000 {
            of.set_kx_hint(name(number), NamedGroup::X25519);
        }
        let known: Vec<_> = (0..1000).filter(|number| of.kx_hint(&name(*number)).is_some()).collect();
        assert_eq!(known, (968..1000).collect::<Vec<_>>());
    }
}

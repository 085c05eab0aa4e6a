//! What a client keeps of servers between connections: address tokens (NEW_TOKEN, RFC 9000 §8.1.3). Session tickets are
//! kept by its TLS settings.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;

/// Tokens kept at most, of all servers together; the oldest goes first. A token is used once, and a client has few
/// servers it comes back to within a token's life.
const TOKENS: usize = 256;

/// Tokens kept of one server: one for each of a few connections at a time.
const TOKENS_PER_SERVER: usize = 4;

/// Longest token kept, in bytes: an Initial packet must have room for more than it.
const MAX_TOKEN_LEN: usize = 512;

/// Whom a token is for: it is shown to no other server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerId {
    /// The name in its certificate.
    pub name: String,
    /// Its address.
    pub address: SocketAddr,
}

/// Address tokens by server. A new connection takes one, and is not asked to show by a Retry that it receives what is
/// sent to its address.
#[derive(Debug, Default)]
pub struct TokenStore {
    /// Oldest first.
    tokens: Mutex<VecDeque<(ServerId, Bytes)>>,
}

impl TokenStore {
    /// Takes the newest token for a server.
    pub fn take(&self, server: &ServerId) -> Option<Bytes> {
        let mut tokens = self.tokens.lock();
        let newest = tokens.iter().rposition(|(of, _)| of == server)?;
        tokens.remove(newest).map(|(_, token)| token)
    }

    fn put(&self, server: &ServerId, token: Bytes) {
        if token.len() > MAX_TOKEN_LEN {
            return;
        }
        let mut tokens = self.tokens.lock();
        if tokens.iter().filter(|(of, _)| of == server).count() >= TOKENS_PER_SERVER
            && let Some(oldest) = tokens.iter().position(|(of, _)| of == server)
        {
            tokens.remove(oldest);
        }
        if tokens.len() >= TOKENS {
            tokens.pop_front();
        }
        tokens.push_back((server.clone(), token));
    }
}

/// Where a connection puts the tokens its server gives it.
#[derive(Clone, Debug)]
pub struct TokenSink {
    /// The client's store.
    pub store: Arc<TokenStore>,
    /// The server.
    pub server: ServerId,
}

impl TokenSink {
    pub(crate) fn put(&self, token: Bytes) {
        self.store.put(&self.server, token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(store: &Arc<TokenStore>, name: &str) -> TokenSink {
        let address = "192.0.2.1:443".parse().expect("an address");
        TokenSink { store: store.clone(), server: ServerId { name: name.into(), address } }
    }

    #[test]
    fn the_newest_token_of_the_same_server_is_taken_once() {
        let store = Arc::default();
        let (one, other) = (sink(&store, "one"), sink(&store, "other"));
        one.put(Bytes::from_static(b"a"));
        one.put(Bytes::from_static(b"b"));
        assert_eq!(store.take(&other.server), None);
        assert_eq!(store.take(&one.server).as_deref(), Some(&b"b"[..]));
        assert_eq!(store.take(&one.server).as_deref(), Some(&b"a"[..]));
        assert_eq!(store.take(&one.server), None);
    }

    #[test]
    fn servers_can_not_fill_the_memory() {
        let store: Arc<TokenStore> = Arc::default();
        let greedy = sink(&store, "greedy");
        for _ in 0..1000 {
            greedy.put(Bytes::from_static(b"x"));
        }
        assert_eq!(store.tokens.lock().len(), TOKENS_PER_SERVER);
        greedy.put(Bytes::from(vec![0; MAX_TOKEN_LEN + 1]));
        for n in 0..1000 {
            sink(&store, &n.to_string()).put(Bytes::from_static(b"x"));
        }
        assert_eq!(store.tokens.lock().len(), TOKENS);
        assert_eq!(store.take(&greedy.server), None);
    }
}

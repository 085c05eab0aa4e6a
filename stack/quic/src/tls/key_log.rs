//! Secrets told to two at once.

use std::fmt::{self, Debug};
use std::sync::Arc;

use rustls::KeyLog;

/// Takes the secrets of sessions: the label (as in a TLS key log file), the client's random, the secret.
pub type KeySink = Arc<dyn Fn(&str, &[u8], &[u8]) + Send + Sync>;

/// Tells a sink what it tells the log there was before.
pub(super) struct Tee {
    pub(super) first: Arc<dyn KeyLog>,
    pub(super) sink: KeySink,
}

impl KeyLog for Tee {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        if self.first.will_log(label) {
            self.first.log(label, client_random, secret);
        }
        (self.sink)(label, client_random, secret);
    }
}

impl Debug for Tee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tee")
    }
}

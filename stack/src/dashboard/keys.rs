//! Secrets of TLS sessions, kept for captures: only where the builder opted in.

use std::{collections::VecDeque, fmt, sync::Arc};

use parking_lot::Mutex;
use wirepath_quic::tls::KeySink;

/// Bytes of secrets kept; a session has about 800. The oldest go first.
const LIMIT: usize = 4 << 20;

/// The last secrets, as lines of a TLS key log (draft-ietf-tls-keylogfile).
#[derive(Default)]
pub(crate) struct KeyRing(Mutex<(VecDeque<String>, usize)>);

/// Says nothing of what it holds.
impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyRing(..)")
    }
}

impl KeyRing {
    /// What sessions tell their secrets.
    pub(crate) fn sink(self: &Arc<Self>) -> KeySink {
        let ring = self.clone();
        Arc::new(move |label, random, secret| {
            let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let line = format!("{label} {} {}\n", hex(random), hex(secret));
            let (lines, len) = &mut *ring.0.lock();
            *len += line.len();
            lines.push_back(line);
            while *len > LIMIT {
                let Some(oldest) = lines.pop_front() else { break };
                *len -= oldest.len();
            }
        })
    }

    pub(crate) fn text(&self) -> String {
        self.0.lock().0.iter().map(String::as_str).collect()
    }
}

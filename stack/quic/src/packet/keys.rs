//! The keys of 1-RTT packets and their updates (RFC 9001 §6).
//!
//! s2n-quic-core's `KeySet` updates at the AEAD's limit only; here the application, a test or a policy may ask for it
//! too.

use s2n_quic_core::crypto::{Key, OneRttKey as _};
use s2n_quic_core::time::Timestamp;

use crate::error::TransportError;
use crate::tls::{OneRttHeaderKey, OneRttKey};

/// An update is begun this many packets before a key's confidentiality limit, so that there is time to have it
/// acknowledged.
const UPDATE_MARGIN: u64 = 100_000;

/// The keys of 1-RTT packets: those in use, those before them while late packets may come, and those after them, made
/// ahead so that a peer's update takes no longer to process than another packet (RFC 9001 §6.3).
///
/// While there are no packets they rest: the next keys go, and so do the ciphers of the others. [`wake`](Self::wake) makes
/// all of it again before a packet is looked at, so that what the first one costs does not depend on its key phase (RFC 9001
/// §9.5).
pub(crate) struct OneRttKeys {
    pub(crate) header: OneRttHeaderKey,
    previous: Option<OneRttKey>,
    current: OneRttKey,
    /// `None` at rest.
    next: Option<OneRttKey>,
    /// Key phase bit of `current`.
    phase: bool,
    /// First packet number received under `current`.
    first_received: Option<u64>,
    /// First packet number sent under `current`.
    first_sent: Option<u64>,
    /// A packet sent under `current` was acknowledged.
    acknowledged: bool,
    sent: u64,
    forged: u64,
    /// When `previous` is forgotten.
    expiry: Option<Timestamp>,
    updates: u64,
}

/// Which of the keys a received packet needs.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Previous,
    Current,
    Next,
}

/// An update that took place.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyUpdate {
    /// None.
    No,
    /// The peer has moved on, and so have we.
    ByPeer,
}

impl OneRttKeys {
    pub(crate) fn new(key: OneRttKey, header: OneRttHeaderKey) -> Self {
        let mut this = Self {
            header,
            previous: None,
            current: key,
            next: None,
            phase: false,
            first_received: None,
            first_sent: None,
            acknowledged: false,
            sent: 0,
            forged: 0,
            expiry: None,
            updates: 0,
        };
        this.wake();
        this
    }

    /// Makes all keys ready that a received packet may need, and says whether they were not. To be called before each is
    /// opened.
    #[inline]
    pub(crate) fn wake(&mut self) -> bool {
        let rested = self.is_at_rest();
        if rested {
            self.wake_now();
        }
        rested
    }

    #[cold]
    fn wake_now(&mut self) {
        let next = self.current.derive_next_key();
        next.wake();
        self.current.wake();
        self.header.wake();
        self.next = Some(next);
    }

    /// Gives memory back until the next packet. Not while old keys are kept: their time is short.
    pub(crate) fn rest(&mut self) {
        if self.previous.is_none() {
            self.next = None;
            self.current.rest();
            self.header.rest();
        }
    }

    /// Is it given back?
    #[inline]
    pub(crate) fn is_at_rest(&self) -> bool {
        self.next.is_none()
    }

    /// The key phase bit of packets to send.
    #[inline]
    pub(crate) fn phase(&self) -> bool {
        self.phase
    }

    /// The key to send with.
    #[inline]
    pub(crate) fn sealing(&mut self) -> (&OneRttHeaderKey, &mut OneRttKey) {
        (&self.header, &mut self.current)
    }

    /// Which keys a packet with this key phase bit and number needs.
    #[inline]
    pub(crate) fn select(&self, phase: bool, number: u64) -> Phase {
        if phase == self.phase {
            return Phase::Current;
        }
        // RFC 9001 §6.5: the old keys for packets sent before the update, told by their lower numbers. RFC 9001 §5.5, §6.4:
        // later ones are never tried with old keys, and dropped if they can't be opened.
        match self.first_received {
            None if self.previous.is_some() => Phase::Previous,
            Some(first) if self.previous.is_some() && number < first => Phase::Previous,
            _ => Phase::Next,
        }
    }

    #[inline]
    pub(crate) fn opening(&self, phase: Phase) -> Option<&OneRttKey> {
        match phase {
            Phase::Previous => self.previous.as_ref(),
            Phase::Current => Some(&self.current),
            Phase::Next => self.next.as_ref(),
        }
    }

    /// Is it worth telling [`on_opened`](Self::on_opened) of a packet under the current keys?
    #[inline]
    pub(crate) fn awaits_first(&self) -> bool {
        self.first_received.is_none()
    }

    /// A packet was opened with the keys of `phase`. `retain` is when late packets need no longer be expected.
    #[inline]
    pub(crate) fn on_opened(
        &mut self,
        phase: Phase,
        number: u64,
        retain: Timestamp,
    ) -> Result<KeyUpdate, TransportError> {
        match phase {
            Phase::Previous => Ok(KeyUpdate::No),
            Phase::Current => {
                if self.first_received.is_none() {
                    self.first_received = Some(number);
                    if self.previous.is_some() {
                        self.expiry = Some(retain);
                    }
                }
                Ok(KeyUpdate::No)
            }
            Phase::Next => {
                // RFC 9001 §6.2: a second update before we could have acknowledged the first.
                if self.updates > 0 && self.first_sent.is_none() {
                    return Err(TransportError::KEY_UPDATE_ERROR.with_reason("keys updated twice in a row"));
                }
                self.rotate();
                self.first_received = Some(number);
                self.expiry = Some(retain);
                Ok(KeyUpdate::ByPeer)
            }
        }
    }

    fn rotate(&mut self) {
        let next = self.next.take().unwrap_or_else(|| self.current.derive_next_key());
        self.previous = Some(std::mem::replace(&mut self.current, next));
        self.wake_now();
        self.phase = !self.phase;
        self.first_received = None;
        self.first_sent = None;
        self.acknowledged = false;
        self.sent = 0;
        self.updates += 1;
        self.expiry = None;
    }

    /// May we begin an update? The handshake must be confirmed, a packet of the current phase acknowledged (RFC 9001
    /// §6.1), and the last update's old keys forgotten (§6.5).
    pub(crate) fn can_update(&self) -> bool {
        self.acknowledged && self.previous.is_none()
    }

    /// Begins an update. The caller has checked [`can_update`](Self::can_update).
    pub(crate) fn update(&mut self) {
        self.rotate();
    }

    /// Has the current key been used so much that an update is due?
    #[inline]
    pub(crate) fn wants_update(&self, after: Option<u64>) -> bool {
        let limit = self.current.aead_confidentiality_limit().saturating_sub(UPDATE_MARGIN);
        self.sent >= after.unwrap_or(u64::MAX).min(limit)
    }

    /// RFC 9001 §6.6: no packet may be sent with the current key any more.
    #[inline]
    pub(crate) fn is_exhausted(&self) -> bool {
        self.sent >= self.current.aead_confidentiality_limit()
    }

    /// A packet was sent.
    #[inline]
    pub(crate) fn on_sent(&mut self, number: u64) {
        self.sent += 1;
        if self.first_sent.is_none() {
            self.first_sent = Some(number);
        }
    }

    /// Packets up to `largest` were acknowledged, in a packet opened with the keys of `phase`.
    #[inline]
    pub(crate) fn on_acked(&mut self, largest: u64, phase: Phase) -> Result<(), TransportError> {
        if self.first_sent.is_some_and(|first| largest >= first) {
            // RFC 9001 §6.2: whoever has read the new keys' packets must not answer under the old ones.
            if phase == Phase::Previous {
                return Err(
                    TransportError::KEY_UPDATE_ERROR.with_reason("new keys acknowledged under old ones")
                );
            }
            self.acknowledged = true;
        }
        Ok(())
    }

    /// Was a packet acknowledged that was sent with the current keys?
    #[inline]
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.acknowledged
    }

    /// A packet could not be opened. RFC 9001 §6.6: too many of them end the connection.
    pub(crate) fn on_forged(&mut self) -> Result<(), TransportError> {
        self.forged += 1;
        if self.forged >= self.current.aead_integrity_limit() {
            return Err(TransportError::AEAD_LIMIT_REACHED.with_reason("too many forged packets"));
        }
        Ok(())
    }

    /// When the old keys are to be forgotten.
    #[inline]
    pub(crate) fn timeout(&self) -> Option<Timestamp> {
        self.expiry
    }

    pub(crate) fn on_timeout(&mut self, now: Timestamp) {
        if self.expiry.is_some_and(|expiry| expiry <= now) {
            self.expiry = None;
            self.previous = None;
        }
    }
}

#[cfg(test)]
impl OneRttKeys {
    /// Sets the use of the current keys, given the confidentiality and integrity limits. Gives the latter.
    pub(crate) fn wear(&mut self, wear: impl FnOnce((u64, u64)) -> (u64, u64)) -> u64 {
        let integrity = self.current.aead_integrity_limit();
        (self.sent, self.forged) = wear((self.current.aead_confidentiality_limit(), integrity));
        integrity
    }
}

impl std::fmt::Debug for OneRttKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OneRttKeys").field("phase", &self.phase).field("updates", &self.updates).finish()
    }
}

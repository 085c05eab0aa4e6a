//! Keys of 1-RTT packets (RFC 9001 §5, §6), which can rest.
//!
//! A cipher's working state is some 600 bytes, and an idle connection has five of them. What they are made from is a
//! sixth of one. So while nothing is sent or received [`rest`](OneRttKey::rest) gives them back, and the first packet
//! makes them anew. That is for our own suites, whose secrets the session notes; those of a provider that the
//! application brought make their keys within rustls, and keep them.

use std::sync::OnceLock;

use rustls::quic;
use s2n_quic_core::crypto::{self, HeaderProtectionMask, Key, packet_protection, scatter, tls};

use crate::tls::keys::{self, HeaderKeys, PacketKeys, SAMPLE_LEN, TAG_LEN};
use crate::tls::protection::{HeaderKey, PacketKey};
use crate::tls::version_keys::{HeaderSecrets, Secrets};

/// One generation of 1-RTT keys.
pub(crate) struct OneRttKey {
    made: Made,
    suite: tls::CipherSuite,
}

/// By whom keys were made.
enum Made {
    Here(Own),
    ByRustls(Foreign),
}

/// Keys of our own suites.
struct Own {
    secrets: Box<Secrets>,
    /// Empty until the first packet is sealed, and at rest. Each connection holds the next generation in reserve: its
    /// opening key must be there, lest the time to make it shows the key phase bit to an observer (RFC 9001 §6.3), but
    /// the sealing key is not needed before the peer has been authenticated, and most connections never need it.
    sealer: OnceLock<Box<PacketKey>>,
    /// Empty at rest.
    opener: OnceLock<Box<PacketKey>>,
}

/// Keys of another provider's suites.
struct Foreign {
    /// `None` until the first packet is sealed.
    sealer: Option<Box<dyn quic::PacketKey>>,
    opener: Box<dyn quic::PacketKey>,
    /// State from which this generation's sealer is made; unused in the first one.
    own: Option<Box<quic::Secrets>>,
    /// State from which the next generation is made.
    next: Box<quic::Secrets>,
}

/// Header protection keys of 1-RTT packets. They outlive key updates (RFC 9001 §5.4).
pub(crate) enum OneRttHeaderKey {
    Here(OwnHeader),
    ByRustls(HeaderKeys),
}

/// Header protection of our own suites.
pub(crate) struct OwnHeader {
    secrets: Box<HeaderSecrets>,
    /// Empty at rest, as the other.
    sealer: OnceLock<Box<HeaderKey>>,
    opener: OnceLock<Box<HeaderKey>>,
}

impl OneRttKey {
    /// The first generation, of one of our own suites.
    pub(super) fn own(secrets: Secrets, suite: tls::CipherSuite) -> (Self, OneRttHeaderKey) {
        let header = OwnHeader {
            secrets: Box::new(secrets.header_secrets()),
            sealer: OnceLock::new(),
            opener: OnceLock::new(),
        };
        let made = Made::Here(Own::new(Box::new(secrets)));
        (Self { made, suite }, OneRttHeaderKey::Here(header))
    }

    /// The first generation, as rustls made it.
    pub(super) fn foreign(
        keys: quic::Keys,
        next: quic::Secrets,
        suite: tls::CipherSuite,
    ) -> (Self, OneRttHeaderKey) {
        let (PacketKeys { sealer, opener, suite }, header) = PacketKeys::new(keys, suite);
        let made = Foreign { sealer: Some(sealer), opener, own: None, next: Box::new(next) };
        (Self { made: Made::ByRustls(made), suite }, OneRttHeaderKey::ByRustls(header))
    }

    /// Makes what the next packet received needs, so that none takes longer than others.
    pub(crate) fn wake(&self) {
        if let Made::Here(own) = &self.made {
            own.opener();
        }
    }

    /// Gives memory back until the next packet.
    pub(crate) fn rest(&mut self) {
        if let Made::Here(own) = &mut self.made {
            (own.sealer, own.opener) = (OnceLock::new(), OnceLock::new());
        }
    }
}

impl Own {
    fn new(secrets: Box<Secrets>) -> Self {
        Self { secrets, sealer: OnceLock::new(), opener: OnceLock::new() }
    }

    #[inline]
    fn sealer(&self) -> &PacketKey {
        self.sealer.get_or_init(|| Box::new(self.secrets.local_packet_key()))
    }

    #[inline]
    fn opener(&self) -> &PacketKey {
        self.opener.get_or_init(|| Box::new(self.secrets.remote_packet_key()))
    }

    fn next(&self) -> Self {
        let mut secrets = self.secrets.clone();
        secrets.update();
        Self::new(secrets)
    }
}

impl Foreign {
    fn sealer(&mut self) -> Result<&dyn quic::PacketKey, packet_protection::Error> {
        if self.sealer.is_none() {
            let mut own = self.own.take().ok_or(packet_protection::Error::INTERNAL_ERROR)?;
            self.sealer = Some(own.next_packet_keys().local);
        }
        self.sealer.as_deref().ok_or(packet_protection::Error::INTERNAL_ERROR)
    }

    fn next(&self) -> Self {
        let own = self.next.clone();
        let mut next = self.next.clone();
        let opener = next.next_packet_keys().remote;
        Self { sealer: None, opener, own: Some(own), next }
    }
}

impl crypto::OneRttKey for OneRttKey {
    fn derive_next_key(&self) -> Self {
        let made = match &self.made {
            Made::Here(own) => Made::Here(own.next()),
            Made::ByRustls(foreign) => Made::ByRustls(foreign.next()),
        };
        Self { made, suite: self.suite }
    }
}

impl Key for OneRttKey {
    #[inline]
    fn decrypt(
        &self,
        packet_number: u64,
        header: &[u8],
        payload: &mut [u8],
    ) -> Result<(), packet_protection::Error> {
        match &self.made {
            Made::Here(own) => keys::open(own.opener(), packet_number, header, payload),
            Made::ByRustls(foreign) => keys::open(&*foreign.opener, packet_number, header, payload),
        }
    }

    #[inline]
    fn encrypt(
        &mut self,
        packet_number: u64,
        header: &[u8],
        payload: &mut scatter::Buffer<'_>,
    ) -> Result<(), packet_protection::Error> {
        match &mut self.made {
            Made::Here(own) => keys::seal(own.sealer(), packet_number, header, payload),
            Made::ByRustls(foreign) => keys::seal(foreign.sealer()?, packet_number, header, payload),
        }
    }

    #[inline]
    fn tag_len(&self) -> usize {
        TAG_LEN
    }

    #[inline]
    fn aead_confidentiality_limit(&self) -> u64 {
        // Both directions use the same AEAD.
        match &self.made {
            Made::Here(own) => own.secrets.suite().confidentiality,
            Made::ByRustls(foreign) => foreign.opener.confidentiality_limit(),
        }
    }

    #[inline]
    fn aead_integrity_limit(&self) -> u64 {
        match &self.made {
            Made::Here(own) => own.secrets.suite().integrity,
            Made::ByRustls(foreign) => foreign.opener.integrity_limit(),
        }
    }

    fn cipher_suite(&self) -> tls::CipherSuite {
        self.suite
    }
}

impl OneRttHeaderKey {
    /// Makes what the next packet received needs.
    pub(crate) fn wake(&self) {
        if let Self::Here(own) = self {
            own.opener();
        }
    }

    /// Gives memory back until the next packet.
    pub(crate) fn rest(&mut self) {
        if let Self::Here(own) = self {
            (own.sealer, own.opener) = (OnceLock::new(), OnceLock::new());
        }
    }
}

impl OwnHeader {
    #[inline]
    fn sealer(&self) -> &HeaderKey {
        self.sealer.get_or_init(|| Box::new(self.secrets.local_key()))
    }

    #[inline]
    fn opener(&self) -> &HeaderKey {
        self.opener.get_or_init(|| Box::new(self.secrets.remote_key()))
    }
}

impl crypto::HeaderKey for OneRttHeaderKey {
    #[inline]
    fn opening_header_protection_mask(&self, sample: &[u8]) -> HeaderProtectionMask {
        match self {
            Self::Here(own) => own.opener().mask_of(sample),
            Self::ByRustls(keys) => keys.opening_header_protection_mask(sample),
        }
    }

    #[inline]
    fn opening_sample_len(&self) -> usize {
        SAMPLE_LEN
    }

    #[inline]
    fn sealing_header_protection_mask(&self, sample: &[u8]) -> HeaderProtectionMask {
        match self {
            Self::Here(own) => own.sealer().mask_of(sample),
            Self::ByRustls(keys) => keys.sealing_header_protection_mask(sample),
        }
    }

    #[inline]
    fn sealing_sample_len(&self) -> usize {
        SAMPLE_LEN
    }
}

impl crypto::OneRttHeaderKey for OneRttHeaderKey {}

keys::redacted!(OneRttKey, OneRttHeaderKey);

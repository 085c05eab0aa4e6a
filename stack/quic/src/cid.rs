//! Connection IDs and the sources they come from.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::hmac;

use crate::header::{Header, classify};
use crate::reset::{RESET_TOKEN_LEN, ResetKey, fill_secret};

/// A connection ID of 0 to 20 bytes (RFC 9000 §17.2).
#[derive(Copy, Clone, PartialEq, Eq, Default)]
pub struct Cid {
    len: u8,
    // Bytes past `len` are zero: equality may look at all of them.
    bytes: [u8; Cid::MAX_LEN],
}

impl Cid {
    /// Most bytes of a connection ID in QUIC version 1 (RFC 9000 §17.2).
    pub const MAX_LEN: usize = 20;

    /// The zero-length connection ID.
    pub const EMPTY: Self = Self { len: 0, bytes: [0; Self::MAX_LEN] };

    /// A connection ID of these bytes; `None` for more than 20.
    #[inline]
    pub fn new(id: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::MAX_LEN];
        bytes.get_mut(..id.len())?.copy_from_slice(id);
        Some(Self { len: id.len() as u8, bytes })
    }

    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Number of bytes.
    #[inline]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Is this the zero-length connection ID?
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Hash for Cid {
    // Only the bytes in use: connection IDs are keys of the hot tables and mostly 8 bytes long.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.as_slice());
    }
}

impl AsRef<[u8]> for Cid {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl fmt::Debug for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("(empty)");
        }
        self.as_slice().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A CIBIR identifier: well-known bytes at one place of every connection ID of both ends, by which processes share a
/// port. Peers tell each other its length and offset in transport parameter 0x1000 and must agree; the bytes they know
/// beforehand.
#[derive(Copy, Clone, PartialEq, Eq, Hash)]
pub struct CibirId {
    offset: u8,
    id: Cid,
}

impl CibirId {
    /// Most bytes of an identifier (MsQuic's `QUIC_MAX_CIBIR_LENGTH`).
    pub const MAX_LEN: usize = 6;

    /// Random bytes of a connection ID around the identifier, at least: as many as one without it has.
    const RANDOM_LEN: usize = 8;

    /// The identifier `id` behind `offset` random bytes. `None` unless it has 1 to 6 bytes and ends within the 20 bytes
    /// of a connection ID.
    pub fn new(offset: usize, id: &[u8]) -> Option<Self> {
        let fits = (1..=Self::MAX_LEN).contains(&id.len()) && offset.checked_add(id.len())? <= Cid::MAX_LEN;
        fits.then_some(Self { offset: offset as u8, id: Cid::new(id)? })
    }

    /// Bytes of a connection ID in front of the identifier.
    pub fn offset(&self) -> usize {
        self.offset.into()
    }

    /// The identifier.
    pub fn bytes(&self) -> &[u8] {
        self.id.as_slice()
    }

    /// Bytes of a connection ID that carries the identifier.
    pub fn cid_len(&self) -> usize {
        (self.offset() + self.id.len()).max(self.id.len() + Self::RANDOM_LEN)
    }

    /// Does a connection ID carry it?
    pub fn is_in(&self, cid: &[u8]) -> bool {
        cid.get(self.offset()..).is_some_and(|rest| rest.starts_with(self.bytes()))
    }

    /// Could a connection ID carry both?
    pub fn agrees_with(&self, other: &Self) -> bool {
        let byte =
            |id: &Self, at: usize| at.checked_sub(id.offset()).and_then(|at| id.bytes().get(at).copied());
        (0..Cid::MAX_LEN).all(|at| match (byte(self, at), byte(other, at)) {
            (Some(one), Some(two)) => one == two,
            _ => true,
        })
    }

    /// Is a packet to a socket of this identifier meant for it? A long header tells by the sender's own ID, since a
    /// client makes up the other; a short header by the receiver's.
    pub fn takes(&self, datagram: &[u8]) -> bool {
        match classify(datagram, self.offset() + self.id.len()) {
            Ok(Header::Long(long)) => self.is_in(long.scid),
            Ok(Header::Short { dcid, .. }) => self.is_in(dcid),
            Err(_) => false,
        }
    }
}

impl fmt::Debug for CibirId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.offset)
    }
}

/// Where an endpoint's own connection IDs come from, and the stateless reset tokens that go with them.
///
/// All IDs of a generator have one length, since short headers don't carry it (RFC 9000 §17.3). A generator may hide
/// routing information in them: a partition number, a CIBIR prefix or the server ID of a QUIC-LB load balancer.
pub trait CidGenerator: Send + Sync + fmt::Debug {
    /// Bytes of each connection ID.
    fn len(&self) -> usize;

    /// Does this generator make zero-length connection IDs?
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A connection ID not given out before, unpredictable to others (RFC 9000 §5.1).
    fn generate(&self) -> Cid;

    /// The stateless reset token of a connection ID (RFC 9000 §10.3.2).
    fn reset_token(&self, cid: &Cid) -> [u8; RESET_TOKEN_LEN];

    /// The CIBIR identifier that all its IDs carry. Connections announce it, and refuse peers with another layout.
    fn cibir(&self) -> Option<CibirId> {
        None
    }

    /// May this be an ID that the generator made? Cheap, and never wrong when it says no.
    fn validate(&self, cid: &[u8]) -> bool {
        cid.len() == self.len()
    }
}

/// Random connection IDs, with fixed bytes in front if so wished.
#[derive(Debug)]
pub struct RandomCids {
    len: usize,
    prefix: Cid,
    cibir: Option<CibirId>,
    source: Source,
    reset_key: ResetKey,
}

#[derive(Debug)]
enum Source {
    System,
    /// For tests: a keyed function of a counter.
    Seeded {
        key: hmac::Key,
        counter: AtomicU64,
    },
}

impl RandomCids {
    /// The usual length. 64 random bits make a collision unlikely among millions of connections and an ID hard to
    /// guess, and are one machine word to the demux.
    pub const DEFAULT_LEN: usize = 8;

    /// Least random bytes after a prefix: an attacker must not guess an ID (RFC 9000 §21.11).
    pub const MIN_RANDOM_LEN: usize = 7;

    /// IDs of 8 bytes from the operating system's source; tokens by `reset_key`.
    pub fn new(reset_key: ResetKey) -> Self {
        Self { len: Self::DEFAULT_LEN, prefix: Cid::EMPTY, cibir: None, source: Source::System, reset_key }
    }

    /// A repeatable sequence of IDs, for tests only: whoever knows the seed knows them all.
    pub fn seeded(seed: u64) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &seed.to_le_bytes());
        let mut this = Self::new(ResetKey::new(&seed.to_be_bytes()));
        this.source = Source::Seeded { key, counter: AtomicU64::new(0) };
        this
    }

    /// IDs of `len` bytes, with `prefix` in front of the random ones (a partition number, a CIBIR identifier). `None`
    /// if fewer than 7 bytes stay random or `len` is over 20. Without a prefix, 0 bytes are allowed: such an
    /// endpoint tells connections apart by address only.
    pub fn with_layout(mut self, len: usize, prefix: &[u8]) -> Option<Self> {
        let random = len.checked_sub(prefix.len())?;
        let zero_length = len == 0;
        if len > Cid::MAX_LEN || random < Self::MIN_RANDOM_LEN && !zero_length {
            return None;
        }
        self.len = len;
        self.prefix = Cid::new(prefix)?;
        Some(self)
    }

    /// IDs that carry a CIBIR identifier, of the length that takes. A prefix is left out.
    pub fn with_cibir(mut self, id: CibirId) -> Self {
        self.len = id.cid_len();
        self.prefix = Cid::EMPTY;
        self.cibir = Some(id);
        self
    }
}

impl CidGenerator for RandomCids {
    fn len(&self) -> usize {
        self.len
    }

    fn generate(&self) -> Cid {
        let mut cid = Cid { len: self.len as u8, bytes: [0; Cid::MAX_LEN] };
        let (prefix, random) = cid.bytes[..self.len].split_at_mut(self.prefix.len());
        prefix.copy_from_slice(self.prefix.as_slice());
        match &self.source {
            Source::System => fill_secret(random),
            Source::Seeded { key, counter } => {
                let count = counter.fetch_add(1, Ordering::Relaxed);
                let tag = hmac::sign(key, &count.to_le_bytes());
                random.copy_from_slice(&tag.as_ref()[..random.len()]);
            }
        }
        if let Some(id) = &self.cibir {
            cid.bytes[id.offset()..id.offset() + id.bytes().len()].copy_from_slice(id.bytes());
        }
        cid
    }

    fn reset_token(&self, cid: &Cid) -> [u8; RESET_TOKEN_LEN] {
        self.reset_key.token(cid.as_slice())
    }

    fn cibir(&self) -> Option<CibirId> {
        self.cibir
    }

    fn validate(&self, cid: &[u8]) -> bool {
        cid.len() == self.len
            && cid.starts_with(self.prefix.as_slice())
            && self.cibir.is_none_or(|id| id.is_in(cid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn bytes_come_back_and_too_many_are_refused() {
        for len in 0..=Cid::MAX_LEN {
            let bytes: Vec<u8> = (1..=len as u8).collect();
            let cid = Cid::new(&bytes).unwrap();
            assert_eq!(cid.as_slice(), bytes);
            assert_eq!((cid.len(), cid.is_empty()), (len, len == 0));
        }
        assert_eq!(Cid::new(&[0; 21]), None);
    }

    #[test]
    fn length_tells_zeroes_apart() {
        let short = Cid::new(&[0; 4]).unwrap();
        let long = Cid::new(&[0; 5]).unwrap();
        assert_ne!(short, long);
        assert_ne!(short, Cid::EMPTY);
        assert_eq!(HashSet::from([short, long, Cid::EMPTY]).len(), 3);
    }

    #[test]
    fn debug_is_hex() {
        assert_eq!(format!("{:?}", Cid::new(&[0x0a, 0xff]).unwrap()), "0aff");
        assert_eq!(format!("{:?}", Cid::EMPTY), "(empty)");
    }

    #[test]
    fn generated_ids_differ_and_keep_the_layout() {
        let cids = RandomCids::new(ResetKey::random()).with_layout(12, &[7, 9]).unwrap();
        let made: HashSet<Cid> = (0..1000).map(|_| cids.generate()).collect();
        assert_eq!(made.len(), 1000);
        assert!(made.iter().all(|cid| cid.len() == 12 && cids.validate(cid.as_slice())));
        assert!(!cids.validate(&[7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
        assert!(!cids.validate(&[7, 9, 0]));
    }

    #[test]
    fn layouts_that_could_be_guessed_are_refused() {
        let cids = || RandomCids::seeded(0);
        assert!(cids().with_layout(8, &[1, 2]).is_none());
        assert!(cids().with_layout(4, &[]).is_none());
        assert!(cids().with_layout(21, &[]).is_none());
        assert!(cids().with_layout(3, &[1, 2, 3, 4]).is_none());
        assert!(cids().with_layout(0, &[]).unwrap().generate().is_empty());
        assert!(cids().with_layout(8, &[1]).is_some());
    }

    #[test]
    fn cibir_ids_are_in_every_cid_and_the_rest_is_random() {
        for (offset, id) in [(0, &[0xc1, 0xb1][..]), (2, &[1, 2, 3, 4, 5, 6]), (14, &[9; 6]), (19, &[7])] {
            let id = CibirId::new(offset, id).unwrap();
            let cids = RandomCids::new(ResetKey::random()).with_cibir(id);
            assert_eq!((cids.cibir(), cids.len()), (Some(id), id.cid_len()));
            assert!((id.bytes().len() + 8..=20).contains(&cids.len()));
            let made: HashSet<Cid> = (0..200).map(|_| cids.generate()).collect();
            assert_eq!(made.len(), 200);
            assert!(made.iter().all(|cid| id.is_in(cid.as_slice()) && cids.validate(cid.as_slice())));
        }
        assert!(CibirId::new(0, &[]).is_none() && CibirId::new(0, &[1; 7]).is_none());
        assert!(CibirId::new(15, &[1; 6]).is_none() && CibirId::new(usize::MAX, &[1]).is_none());
    }

    #[test]
    fn cibir_takes_packets_by_the_senders_id_or_the_receivers() {
        let id = CibirId::new(1, &[0xaa, 0xbb]).unwrap();
        let long = |dcid: &[u8], scid: &[u8]| {
            [&[0xc0, 0, 0, 0, 1, dcid.len() as u8], dcid, &[scid.len() as u8], scid].concat()
        };
        assert!(id.takes(&long(&[0; 8], &[0, 0xaa, 0xbb, 1])));
        assert!(!id.takes(&long(&[0, 0xaa, 0xbb, 1], &[0; 8])));
        assert!(id.takes(&[0x40, 9, 0xaa, 0xbb, 0]));
        assert!(!id.takes(&[0x40, 0xaa, 0xbb, 0]) && !id.takes(&[0x40, 9, 0xaa]) && !id.takes(&[]));
    }

    #[test]
    fn seeded_ids_repeat() {
        let (one, two) = (RandomCids::seeded(5), RandomCids::seeded(5));
        let first = one.generate();
        assert_eq!(first, two.generate());
        assert_ne!(first, one.generate());
        assert_eq!(one.reset_token(&first), two.reset_token(&first));
    }
}

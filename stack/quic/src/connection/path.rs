//! The paths to the peer: one in use, and some under test (RFC 9000 §8, §9).

use s2n_quic_core::recovery::RttEstimator;
use s2n_quic_core::time::Timestamp;

use super::Delivery;
use crate::config::TransportConfig;
use crate::ecn::EcnPath;
use crate::mtu::Mtu;
use crate::net::NetPath;
use crate::packet::SpaceId;
use crate::random::Random;
use crate::recovery::Congestion;

/// Bytes sent per byte received before the peer's address is validated (RFC 9000 §8.1).
const AMPLIFICATION: u64 = 3;

/// Paths known at a time, the one in use included. A storm of address changes replaces the oldest unproven one.
pub(crate) const MAX_PATHS: usize = 4;

/// PATH_RESPONSE frames waiting on a path. Later challenges are dropped until these are sent: answers are bounded by
/// what the peer sends, and one is enough for it.
const MAX_RESPONSES: usize = 2;

/// PATH_CHALLENGE frames sent on a path before it is given up: a path that loses half of everything still has a good
/// chance to answer one.
const MAX_CHALLENGES: u8 = 5;

/// Doublings of the time between them: in all more than the three probe timeouts of RFC 9000 §8.2.4.
const MAX_DOUBLINGS: u8 = 2;

/// Content of PATH_CHALLENGE and PATH_RESPONSE.
pub(crate) type ChallengeData = [u8; 8];

/// A path validation in progress (RFC 9000 §8.2).
#[derive(Clone, Debug)]
pub(crate) struct Challenge {
    pub(crate) data: ChallengeData,
    /// A frame with it is to be sent.
    pub(crate) wanted: bool,
    /// Frames sent so far.
    sent: u8,
    /// All of them in full-sized datagrams.
    pub(crate) padded: bool,
    /// The path is to be used once the answer comes.
    pub(crate) then_move: bool,
    /// When to send once more, or to give up.
    pub(crate) deadline: Option<Timestamp>,
}

/// One path to the peer.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    /// Its number, by which packets tell where they were sent.
    pub(crate) id: u8,
    pub(crate) net: NetPath,
    pub(crate) rtt: RttEstimator,
    pub(crate) congestion: Congestion,
    pub(crate) ecn: EcnPath,
    pub(crate) mtu: Mtu,
    /// The peer's address is not one a third party could have made us send to (RFC 9000 §8).
    pub(crate) validated: bool,
    /// Packets are known to pass both ways.
    pub(crate) proven: bool,
    /// Bytes received and sent while it was not.
    received: u64,
    sent: u64,
    /// Packets sent, and those of them declared lost.
    pub(crate) packet_sent: u64,
    pub(crate) packet_lost: u64,
    pub(crate) challenge: Option<Box<Challenge>>,
    /// The peer is to be told this address of its (draft-ietf-quic-address-discovery).
    pub(crate) address: Delivery,
    responses: u8,
    response: [ChallengeData; MAX_RESPONSES],
}

impl Path {
    pub(crate) fn new(id: u8, net: NetPath, config: &TransportConfig, validated: bool) -> Self {
        let mtu = Mtu::new(config.initial_mtu, config.max_udp_payload);
        Self {
            id,
            net,
            rtt: RttEstimator::new(config.initial_rtt),
            congestion: Congestion::new(config, mtu.current()),
            ecn: EcnPath::new(config.ecn),
            mtu,
            validated,
            proven: false,
            received: 0,
            sent: 0,
            packet_sent: 0,
            packet_lost: 0,
            challenge: None,
            address: Delivery::Wanted,
            responses: 0,
            response: Default::default(),
        }
    }

    /// A datagram of `len` bytes came from there.
    #[inline]
    pub(crate) fn on_received(&mut self, len: usize) {
        if !self.validated {
            self.received = self.received.saturating_add(len as u64);
        }
    }

    /// A datagram of `len` bytes goes there.
    #[inline]
    pub(crate) fn on_sent(&mut self, len: usize) {
        if !self.validated {
            self.sent = self.sent.saturating_add(len as u64);
        }
    }

    /// Bytes that may be sent before more comes (RFC 9000 §8.1).
    #[inline]
    pub(crate) fn allowance(&self) -> usize {
        if self.validated {
            return usize::MAX;
        }
        (self.received.saturating_mul(AMPLIFICATION).saturating_sub(self.sent)) as usize
    }

    /// Begins to validate the path, unless that is going on.
    pub(crate) fn start_challenge(&mut self, random: &mut Random) {
        if self.challenge.is_none() {
            let mut data = ChallengeData::default();
            random.fill(&mut data);
            self.challenge = Some(Box::new(Challenge {
                data,
                wanted: true,
                sent: 0,
                padded: true,
                then_move: false,
                deadline: None,
            }));
        }
    }

    /// A PATH_CHALLENGE frame went out, in a full-sized datagram or not.
    pub(crate) fn on_challenge_sent(&mut self, now: Timestamp, padded: bool) {
        if let Some(challenge) = &mut self.challenge {
            let backoff = 1 << challenge.sent.min(MAX_DOUBLINGS);
            challenge.wanted = false;
            challenge.sent += 1;
            challenge.padded &= padded;
            challenge.deadline = Some(now + self.rtt.pto_period(backoff, SpaceId::App.number_space()));
        }
    }

    /// The deadline of the challenge has passed. `false`: validation has failed.
    pub(crate) fn on_challenge_timeout(&mut self) -> bool {
        let Some(challenge) = &mut self.challenge else { return true };
        challenge.deadline = None;
        if challenge.sent < MAX_CHALLENGES {
            challenge.wanted = true;
            return true;
        }
        self.challenge = None;
        false
    }

    /// Takes a PATH_CHALLENGE to be answered on this path.
    pub(crate) fn push_response(&mut self, data: ChallengeData) {
        if usize::from(self.responses) < MAX_RESPONSES {
            self.response[usize::from(self.responses)] = data;
            self.responses += 1;
        }
    }

    /// The next answer to send.
    #[inline]
    pub(crate) fn response(&self) -> Option<ChallengeData> {
        self.response[..usize::from(self.responses)].last().copied()
    }

    /// The answer was sent.
    pub(crate) fn pop_response(&mut self) {
        self.responses = self.responses.saturating_sub(1);
    }

    /// Is there anything to send that belongs to this path alone?
    #[inline]
    pub(crate) fn wants_probe(&self) -> bool {
        self.responses > 0 || self.challenge.as_ref().is_some_and(|challenge| challenge.wanted)
    }
}

/// All paths: the one in use, and others.
#[derive(Debug)]
pub(crate) struct Paths {
    pub(crate) active: Path,
    /// Under test, or used before; oldest first.
    pub(crate) others: Vec<Path>,
    next_id: u8,
}

impl Paths {
    pub(crate) fn new(active: Path) -> Self {
        let next_id = active.id.wrapping_add(1);
        let active = Path { proven: true, ..active };
        Self { active, others: Vec::new(), next_id }
    }

    /// The path with this number, if it still exists.
    #[inline]
    pub(crate) fn by_id(&mut self, id: u8) -> Option<&mut Path> {
        if self.active.id == id {
            return Some(&mut self.active);
        }
        self.others.iter_mut().find(|path| path.id == id)
    }

    /// The number of the path between these addresses.
    #[inline]
    pub(crate) fn find(&self, net: &NetPath) -> Option<u8> {
        if self.active.net.matches(net) {
            return Some(self.active.id);
        }
        self.others.iter().find(|path| path.net.matches(net)).map(|path| path.id)
    }

    /// A number no path has.
    fn fresh_id(&mut self) -> u8 {
        while self.by_id(self.next_id).is_some() {
            self.next_id = self.next_id.wrapping_add(1);
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        id
    }

    /// Adds a path, and names the one it displaces if there are too many.
    pub(crate) fn add(&mut self, net: NetPath, config: &TransportConfig) -> (u8, Option<Path>) {
        let id = self.fresh_id();
        let displaced = (self.others.len() + 1 >= MAX_PATHS).then(|| {
            let index = self.others.iter().position(|path| !path.proven).unwrap_or(0);
            self.others.remove(index)
        });
        let mut path = Path::new(id, net, config, false);
        // What the peer told about its acknowledgements holds on every path.
        path.rtt = self.active.rtt.for_new_path(config.initial_rtt);
        self.others.push(path);
        (id, displaced)
    }

    /// Makes another path the one in use; the old one stays known.
    pub(crate) fn activate(&mut self, id: u8) {
        if let Some(index) = self.others.iter().position(|path| path.id == id) {
            std::mem::swap(&mut self.active, &mut self.others[index]);
        }
    }

    /// Takes a path out that is not in use.
    pub(crate) fn remove(&mut self, id: u8) -> Option<Path> {
        let index = self.others.iter().position(|path| path.id == id)?;
        let path = self.others.remove(index);
        if self.others.is_empty() {
            self.others = Vec::new();
        }
        Some(path)
    }

    /// All paths.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Path> {
        std::iter::once(&mut self.active).chain(&mut self.others)
    }

    /// All paths.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&self.active).chain(&self.others)
    }
}

//! Each answer and each drop made to happen.

mod connections;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use s2n_quic_core::crypto::{HeaderKey, Key};
use s2n_quic_core::time::{Clock, NoopClock};

use super::*;
use crate::cid::RandomCids;
use crate::header::{HeaderError, VERSION_1, VERSION_2};
use crate::role::Role;
use crate::tls::{initial_keys, retry_tag};

const VERSIONS: [u32; 2] = [VERSION_1, VERSION_2];
const LOCAL: &str = "192.0.2.9:443";
const CLIENT: &str = "192.0.2.1:1000";
const DCID: &[u8] = &[1, 2, 3, 4, 5, 6, 7, 8];
const SCID: &[u8] = &[9, 10, 11];

struct World {
    endpoint: Endpoint,
    now: Timestamp,
    path: NetPath,
    response: Vec<u8>,
}

fn world() -> World {
    with(EndpointSettings { token_key: Arc::new(TokenKey::new(b"tokens")), ..EndpointSettings::default() })
}

fn with(settings: EndpointSettings) -> World {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = made.signing_key.serialize_pem();
    let tls = tls::ServerConfig::new(made.cert.pem().as_bytes(), key.as_bytes()).unwrap().alpn(["test"]);
    let endpoint = Endpoint::new(Arc::default(), tls, Arc::new(RandomCids::seeded(1)));
    World {
        endpoint: endpoint.with_settings(settings).with_random(Random::from_seed([2; 32])),
        now: NoopClock.get_time() + Duration::from_secs(3600),
        path: NetPath { local: LOCAL.parse().unwrap(), remote: CLIENT.parse().unwrap() },
        response: vec![0; 1500],
    }
}

fn retrying() -> World {
    with(EndpointSettings { retry: RetryPolicy::Always, ..EndpointSettings::default() })
}

impl World {
    fn meet(&mut self, datagram: &[u8]) -> Unmatched {
        self.endpoint.on_unmatched(self.now, self.path, datagram, &mut self.response)
    }

    fn answer(&mut self, datagram: &[u8]) -> Vec<u8> {
        match self.meet(datagram) {
            Unmatched::Respond { len } => self.response[..len].to_vec(),
            other => panic!("{other:?}"),
        }
    }

    fn incoming(&mut self, datagram: &[u8]) -> Incoming {
        match self.meet(datagram) {
            Unmatched::Accept(incoming) => incoming,
            other => panic!("{other:?}"),
        }
    }

    fn cause(&mut self, datagram: &[u8]) -> DropCause {
        match self.meet(datagram) {
            Unmatched::Drop(cause) => cause,
            other => panic!("{other:?}"),
        }
    }
}

fn long(first: u8, version: u32, dcid: &[u8], scid: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    bytes.extend(version.to_be_bytes());
    for cid in [dcid, scid] {
        bytes.push(cid.len() as u8);
        bytes.extend(cid);
    }
    bytes
}

/// A client's first datagram, of 1200 bytes.
fn initial(version: u32, dcid: &[u8], token: &[u8]) -> Vec<u8> {
    let first = if version == VERSION_2 { 0xd0 } else { 0xc0 };
    let mut bytes = long(first, version, dcid, SCID);
    bytes.extend((0x4000 | token.len() as u16).to_be_bytes());
    bytes.extend(token);
    let payload = 1200 - bytes.len() - 2;
    bytes.extend((0x4000 | payload as u16).to_be_bytes());
    bytes.resize(1200, 0x77);
    bytes
}

fn short(dcid: &[u8], len: usize) -> Vec<u8> {
    let mut bytes = vec![0x40];
    bytes.extend(dcid);
    bytes.resize(len, 0x55);
    bytes
}

/// Parts of a Retry packet: its source and its token.
fn parts_of_retry(packet: &[u8], version: u32) -> (Vec<u8>, Vec<u8>) {
    let (body, tag) = packet.split_at(packet.len() - 16);
    assert_eq!(tag, retry_tag(version, DCID, body));
    let Ok(Header::Long(header)) = classify(body, 0) else { panic!() };
    assert_eq!((header.kind, header.version, header.dcid), (LongKind::Retry, version, SCID));
    (header.scid.to_vec(), header.rest.to_vec())
}

#[test]
fn a_new_client_is_let_in() {
    let mut world = world();
    let incoming = world.incoming(&initial(VERSION_1, DCID, &[]));
    assert_eq!(incoming.path(), world.path);
    assert!(!incoming.address_validated());
    assert_eq!(incoming.original_dcid.as_slice(), DCID);
    assert_eq!(incoming.initial_dcid.as_slice(), DCID);
    assert_eq!(incoming.peer_scid.as_slice(), SCID);
    assert_eq!((incoming.version, incoming.retry_scid), (VERSION_1, None));
    assert_eq!(world.endpoint.stats().half_open, 1);
    drop(incoming);
    assert_eq!(world.endpoint.stats().half_open, 0);
    assert_eq!(world.incoming(&initial(VERSION_2, DCID, &[])).version, VERSION_2);
}

#[test]
fn retry_and_back() {
    for version in VERSIONS {
        let mut world = retrying();
        let retry = world.answer(&initial(version, DCID, &[]));
        let (scid, token) = parts_of_retry(&retry, version);
        assert_eq!(scid.len(), 8);
        assert_ne!(scid, DCID);
        assert_eq!(world.endpoint.stats().half_open, 0, "nothing is kept for whom a Retry was sent");

        world.now += Duration::from_millis(50);
        let incoming = world.incoming(&initial(version, &scid, &token));
        assert!(incoming.address_validated());
        assert_eq!(incoming.original_dcid.as_slice(), DCID);
        assert_eq!(incoming.retry_scid.unwrap().as_slice(), scid);
        assert_eq!(incoming.initial_dcid.as_slice(), scid);
        assert_eq!(world.endpoint.stats().retry_sent, 1);
    }
}

#[test]
fn a_retry_token_that_is_no_good_ends_the_wait() {
    for version in VERSIONS {
        let mut world = retrying();
        let (scid, token) = parts_of_retry(&world.answer(&initial(version, DCID, &[])), version);
        world.path.remote.set_port(2000);
        let hello = initial(version, &scid, &token);
        let mut packet = world.answer(&hello);
        assert!(packet.len() < hello.len());

        // The client reads CONNECTION_CLOSE of type 0x1c with INVALID_TOKEN.
        let (key, header_key) = initial_keys(version, Role::Client, &scid);
        let Ok(Header::Long(header)) = classify(&packet, 0) else { panic!() };
        assert_eq!((header.kind, header.dcid, header.scid), (LongKind::Initial, SCID, &scid[..]));
        let number_at = packet.len() - header.rest.len() + 3;
        let mask = header_key.opening_header_protection_mask(&packet[number_at + 4..][..16]);
        packet[0] ^= mask[0] & 0x0f;
        packet[number_at] ^= mask[1];
        assert_eq!((packet[0] & 0x0f, packet[number_at]), (0, 0));
        let (header, payload) = packet.split_at_mut(number_at + 1);
        key.decrypt(0, header, payload).unwrap();
        assert_eq!(payload[..4], [0x1c, 0x0b, 0, 0]);
        assert_eq!(world.endpoint.stats().refusal_sent, 1);
    }
}

#[test]
fn a_token_of_an_earlier_connection_saves_the_retry() {
    let mut world = retrying();
    let token = world.endpoint.tokens.new_token(
        world.now,
        world.path.remote,
        VERSION_1,
        &mut Random::from_seed([3; 32]),
    );
    world.path.remote.set_port(5555);
    let incoming = world.incoming(&initial(VERSION_1, DCID, token.as_slice()));
    assert!(incoming.address_validated() && incoming.retry_scid.is_none());

    // From elsewhere it is worth as much as none.
    world.path.remote = "192.0.2.77:1000".parse().unwrap();
    parts_of_retry(&world.answer(&initial(VERSION_1, DCID, token.as_slice())), VERSION_1);
    // And so is a token of another server. Asked for anew: the same packet is answered once.
    world.path.remote.set_port(1001);
    parts_of_retry(&world.answer(&initial(VERSION_1, DCID, b"not ours")), VERSION_1);
}

#[test]
fn endpoints_with_one_key_take_each_others_tokens() {
    let settings = EndpointSettings { retry: RetryPolicy::Always, ..EndpointSettings::default() };
    let (mut one, mut two) = (with(settings.clone()), with(settings));
    let (scid, token) = parts_of_retry(&one.answer(&initial(VERSION_1, DCID, &[])), VERSION_1);
    assert!(two.incoming(&initial(VERSION_1, &scid, &token)).address_validated());
}

#[test]
fn retry_switches_on_and_off_with_the_load() {
    let limits = Limits { retry_from: 2, ..Limits::default() };
    let mut world = with(EndpointSettings { limits, ..EndpointSettings::default() });
    let hello = initial(VERSION_1, DCID, &[]);
    let (one, _two) = (world.incoming(&hello), world.incoming(&hello));
    parts_of_retry(&world.answer(&hello), VERSION_1);
    drop(one);
    world.incoming(&hello);
}

#[test]
fn handshakes_under_way_are_limited() {
    let limits = Limits { half_open: 3, half_open_per_source: 2, ..Limits::default() };
    let mut world = with(EndpointSettings { limits, ..EndpointSettings::default() });
    let hello = initial(VERSION_1, DCID, &[]);
    let _held = [world.incoming(&hello), world.incoming(&hello)];
    assert_eq!(world.cause(&hello), DropCause::SourceLimited);
    world.path.remote = "192.0.2.2:1".parse().unwrap();
    let _third = world.incoming(&hello);
    world.path.remote = "192.0.2.3:1".parse().unwrap();
    assert_eq!(world.cause(&hello), DropCause::HalfOpenLimited);
}

#[test]
fn unknown_versions_are_told_what_there_is() {
    let mut world = world();
    for (dcid, scid) in [(DCID, SCID), (&[], &[]), (&[5; 255], &[6; 255])] {
        let mut hello = long(0x80, 0x5a5a_5a5a, dcid, scid);
        hello.resize(1200, 0);
        let packet = world.answer(&hello);
        assert!(packet.len() < hello.len());
        let Ok(Header::Long(header)) = classify(&packet, 0) else { panic!() };
        assert_eq!((header.kind, header.fixed_bit), (LongKind::VersionNegotiation, true));
        // Both IDs come back, swapped (RFC 8999 §6).
        assert_eq!((header.dcid, header.scid), (scid, dcid));
        let versions: Vec<u32> =
            header.rest.chunks(4).map(|version| u32::from_be_bytes(version.try_into().unwrap())).collect();
        assert_eq!(versions[..2], VERSIONS);
        assert_eq!(versions[2] & 0x0f0f_0f0f, 0x0a0a_0a0a);
        assert_eq!(versions.len(), 3);
        hello.truncate(1199);
        assert_eq!(world.cause(&hello), DropCause::VersionUnsupported);
    }
    assert_eq!(world.endpoint.stats().negotiation_sent, 3);
}

#[test]
fn leftovers_are_reset() {
    let mut world = world();
    let cid = world.endpoint.cids.generate();
    let mut lengths = BTreeSet::new();
    for len in [22, 30, 43, 44, 200, 1500] {
        world.now += Duration::from_millis(100);
        let packet = world.answer(&short(cid.as_slice(), len));
        assert!(packet.len() < len && packet.len() >= MIN_RESET_LEN);
        assert_eq!(packet[0] & 0xc0, 0x40);
        assert_eq!(packet[packet.len() - 16..], world.endpoint.cids.reset_token(&cid));
        lengths.insert(packet.len());
    }
    assert!(lengths.len() > 1);
    for len in 9..=21 {
        assert_eq!(world.cause(&short(cid.as_slice(), len)), DropCause::ResetUndersized);
    }
    assert_eq!(world.endpoint.stats().reset_sent, 6);
}

#[test]
fn two_endpoints_that_reset_each_other_stop() {
    let (mut one, mut two) = (world(), world());
    let cid = one.endpoint.cids.generate();
    let mut packet = short(cid.as_slice(), 1200);
    let mut turns = 0;
    loop {
        match one.meet(&packet) {
            Unmatched::Respond { len } => packet = one.response[..len].to_vec(),
            Unmatched::Drop(DropCause::ResetUndersized) => break,
            other => panic!("{other:?}"),
        }
        std::mem::swap(&mut one, &mut two);
        turns += 1;
    }
    assert!(turns <= 24, "{turns}");
}

#[test]
fn ids_of_foreign_make_are_not_reset() {
    let prefixed = RandomCids::seeded(1).with_layout(10, &[0xab, 0xcd]).unwrap();
    let mut world = world();
    world.endpoint.cids = Arc::new(prefixed);
    assert_eq!(world.cause(&short(&[0; 10], 1200)), DropCause::CidUnknown);
    world.answer(&short(&[0xab, 0xcd, 0, 0, 0, 0, 0, 0, 0, 0], 1200));
    world.endpoint.cids = Arc::new(RandomCids::seeded(1).with_layout(0, &[]).unwrap());
    assert_eq!(world.cause(&short(&[], 1200)), DropCause::CidUnknown);
}

#[test]
fn answers_are_limited_in_rate() {
    let limits = Limits {
        responses_per_second: 100,
        responses_per_source: 100,
        resets_per_second: 100,
        resets_per_source: 100,
        repeat_after: Duration::ZERO,
        ..Limits::default()
    };
    let mut world =
        with(EndpointSettings { limits, retry: RetryPolicy::Always, ..EndpointSettings::default() });
    let hello = initial(VERSION_1, DCID, &[]);
    let leftover = short(world.endpoint.cids.generate().as_slice(), 1200);
    let mut foreign = long(0x80, 0x5a5a_5a5a, DCID, SCID);
    foreign.resize(1200, 0);
    for (datagram, limited) in [(&hello, DropCause::ResponseLimited), (&leftover, DropCause::ResetLimited)] {
        let answered =
            (0..100).take_while(|_| matches!(world.meet(datagram), Unmatched::Respond { .. })).count();
        assert_eq!(answered, 11);
        assert_eq!(world.cause(datagram), limited);
    }
    assert_eq!(world.cause(&foreign), DropCause::ResponseLimited);
    world.now += Duration::from_secs(1);
    world.answer(&foreign);
    world.answer(&leftover);
}

#[test]
fn what_comes_twice_is_answered_once() {
    let mut world = retrying();
    let hello = initial(VERSION_1, DCID, &[]);
    let leftover = short(world.endpoint.cids.generate().as_slice(), 1200);
    let mut foreign = long(0x80, 0x5a5a_5a5a, SCID, DCID);
    foreign.resize(1200, 0);
    for datagram in [&hello, &leftover, &foreign] {
        world.answer(datagram);
        (0..50).for_each(|_| assert_eq!(world.cause(datagram), DropCause::ResponseRepeated));
    }
    // Another client behind the same address is not concerned.
    world.answer(&initial(VERSION_1, &[7; 8], &[]));
    world.now += Duration::from_secs(1);
    world.answer(&hello);
}

#[test]
fn small_and_malformed_initials() {
    let mut world = world();
    let hello = initial(VERSION_1, DCID, &[]);
    assert_eq!(world.cause(&hello[..1199]), DropCause::InitialUndersized);
    assert_eq!(world.cause(&initial(VERSION_1, &DCID[..7], &[])), DropCause::DcidUndersized);
    assert_eq!(world.cause(&initial(VERSION_1, &[], &[])), DropCause::DcidUndersized);
    let mut overlong = hello.clone();
    let length_at = 1 + 4 + 9 + 4 + 2;
    overlong[length_at] = 0x7f;
    assert_eq!(world.cause(&overlong), DropCause::InitialMalformed);
    let mut endless_token = hello;
    endless_token[length_at - 2] = 0x7f;
    assert_eq!(world.cause(&endless_token), DropCause::InitialMalformed);

    let mut world = retrying();
    assert_eq!(world.cause(&initial(VERSION_1, &DCID[..7], &[])), DropCause::DcidUndersized);
}

#[test]
fn other_packets_of_no_connection() {
    let mut world = world();
    let cause = |world: &mut World, first, version| {
        let mut datagram = long(first, version, DCID, SCID);
        datagram.resize(1200, 0);
        world.cause(&datagram)
    };
    assert_eq!(cause(&mut world, 0xd0, VERSION_1), DropCause::ZeroRttUnmatched);
    assert_eq!(cause(&mut world, 0xe0, VERSION_1), DropCause::HandshakeUnmatched);
    assert_eq!(cause(&mut world, 0xf0, VERSION_1), DropCause::RetryUnmatched);
    assert_eq!(cause(&mut world, 0x80, 0), DropCause::NegotiationUnmatched);
    assert_eq!(world.cause(&[]), DropCause::Header(HeaderError::Truncated));
    assert_eq!(world.cause(&[0x40, 1]), DropCause::Header(HeaderError::Truncated));
    assert_eq!(
        world.cause(&long(0xc0, VERSION_1, &[0; 21], &[])),
        DropCause::Header(HeaderError::CidTooLong)
    );
}

#[test]
fn the_fixed_bit_matters_unless_it_is_greased() {
    let mut world = world();
    let mut hello = initial(VERSION_1, DCID, &[]);
    hello[0] &= !0x40;
    let mut leftover = short(DCID, 1200);
    leftover[0] &= !0x40;
    world.incoming(&hello);
    world.answer(&leftover);
    world.endpoint.transport = Arc::new(TransportConfig::default().grease(false));
    assert_eq!(world.cause(&hello), DropCause::FixedBitCleared);
    assert_eq!(world.cause(&leftover), DropCause::FixedBitCleared);
}

#[test]
fn an_endpoint_of_clients_accepts_nobody() {
    let mut world = world();
    world.endpoint = Endpoint::of_clients(Arc::default(), Arc::new(RandomCids::seeded(1)));
    assert_eq!(world.cause(&initial(VERSION_1, DCID, &[])), DropCause::ListenerMissing);
    assert_eq!(world.cause(&initial(0x5a5a_5a5a, DCID, &[])), DropCause::ListenerMissing);
    world.answer(&short(DCID, 100));
}

#[test]
fn small_response_buffers_make_no_answer() {
    let mut world = retrying();
    let hello = initial(VERSION_1, DCID, &[]);
    let (scid, token) = parts_of_retry(&world.answer(&hello), VERSION_1);
    let mut foreign = long(0x80, 0x5a5a_5a5a, DCID, SCID);
    foreign.resize(1200, 0);
    for (port, datagram) in (1..).zip([hello, foreign, short(DCID, 1200), initial(VERSION_1, &scid, &token)])
    {
        world.path.remote.set_port(port);
        let needed = world.answer(&datagram).len().min(MIN_RESET_LEN);
        for room in 0..needed {
            world.now += Duration::from_secs(1);
            let mut response = vec![0; room];
            let unmatched = world.endpoint.on_unmatched(world.now, world.path, &datagram, &mut response);
            assert!(matches!(unmatched, Unmatched::Drop(DropCause::ResponseOutsized)), "{unmatched:?}");
        }
    }
}

#[test]
fn any_bytes_are_judged_without_a_panic_and_never_amplified() {
    let mut random = Random::from_seed([8; 32]);
    let mut world = retrying();
    let template = initial(VERSION_1, DCID, &[]);
    let mut answered = 0;
    for round in 0..20_000 {
        world.now += Duration::from_millis(10);
        let mut bytes = template.clone();
        let flips = round % 12;
        for _ in 0..flips {
            let at = random.u64() as usize % 40;
            bytes[at] = random.u64() as u8;
        }
        if random.u64().is_multiple_of(3) {
            bytes.truncate(random.u64() as usize % bytes.len());
        }
        if let Unmatched::Respond { len } = world.meet(&bytes) {
            assert!(len < bytes.len());
            answered += 1;
        }
    }
    assert!(answered > 1000);
}

#[test]
fn names_are_distinct() {
    use DropCause::*;
    let causes = [
        Header(HeaderError::Truncated),
        Header(HeaderError::CidTooLong),
        FixedBitCleared,
        CidUnknown,
        ResetUndersized,
        ResetLimited,
        ResponseLimited,
        ResponseRepeated,
        ResponseOutsized,
        NegotiationUnmatched,
        RetryUnmatched,
        HandshakeUnmatched,
        ZeroRttUnmatched,
        VersionUnsupported,
        ListenerMissing,
        InitialUndersized,
        InitialMalformed,
        DcidUndersized,
        HalfOpenLimited,
        SourceLimited,
    ];
    let names: BTreeSet<&str> = causes.iter().map(|cause| cause.name()).collect();
    assert_eq!(names.len(), causes.len());
}

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use wirepath_quic::CibirId;

use super::*;
use crate::tables::Carriers;

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A short header with this connection ID.
fn short(cid: &[u8]) -> Vec<u8> {
    [&[0x40], cid, &[0; 20]].concat()
}

fn find(pool: &SocketPool, local: &str, remote: &str, carrier: Carrier, datagram: &[u8]) -> Option<Claim> {
    let arrival = Arrival { local: addr(local), remote: addr(remote), carrier, datagram };
    pool.find(&arrival).map(|socket| socket.claim)
}

fn udp(pool: &SocketPool, local: &str) -> Option<SocketAddr> {
    find(pool, local, "192.0.2.1:1", Carrier::Udp, &short(&[0; 8])).map(|claim| claim.local)
}

fn pool(claims: &[Claim]) -> (SocketPool, Vec<Arc<Socket>>) {
    let pool = SocketPool::default();
    let sockets: Vec<_> = claims.iter().map(|claim| Arc::new(Socket::new(*claim))).collect();
    for socket in &sockets {
        assert!(pool.insert(socket.clone()));
    }
    (pool, sockets)
}

fn plain(addresses: &[&str]) -> (SocketPool, Vec<Arc<Socket>>) {
    pool(&addresses.iter().map(|text| Claim::udp(addr(text))).collect::<Vec<_>>())
}

#[test]
fn a_specific_address_comes_before_a_wildcard_whatever_the_order() {
    for order in [["0.0.0.0:443", "10.0.0.1:443"], ["10.0.0.1:443", "0.0.0.0:443"]] {
        let (pool, _) = plain(&order);
        assert_eq!(udp(&pool, "10.0.0.1:443"), Some(addr("10.0.0.1:443")));
        assert_eq!(udp(&pool, "10.0.0.2:443"), Some(addr("0.0.0.0:443")));
    }
}

#[test]
fn other_ports_and_other_addresses_find_nothing() {
    let (pool, _) = plain(&["10.0.0.1:443"]);
    assert_eq!(udp(&pool, "10.0.0.1:444"), None);
    assert_eq!(udp(&pool, "10.0.0.2:443"), None);
}

#[test]
fn an_ipv6_wildcard_takes_both_families_and_an_ipv4_one_its_own() {
    let (v6, _) = plain(&["[::]:443"]);
    assert!(udp(&v6, "10.0.0.1:443").is_some() && udp(&v6, "[fd00::1]:443").is_some());
    let (v4, _) = plain(&["0.0.0.0:443"]);
    assert!(udp(&v4, "10.0.0.1:443").is_some() && udp(&v4, "[fd00::1]:443").is_none());
}

#[test]
fn removing_one_of_two_leaves_the_other() {
    let (pool, sockets) = plain(&["10.0.0.1:443", "0.0.0.0:443"]);
    pool.remove(&sockets[0]);
    assert_eq!(udp(&pool, "10.0.0.1:443"), Some(addr("0.0.0.0:443")));
    pool.remove(&sockets[1]);
    assert_eq!(udp(&pool, "10.0.0.1:443"), None);
}

#[test]
fn udp_and_qtip_share_a_port_as_one_socket_or_as_two() {
    let local = addr("10.0.0.1:443");
    let of = |carriers| Claim { carriers, ..Claim::udp(local) };
    let (two, _) = pool(&[of(Carriers::UDP), of(Carriers::TCP)]);
    let (one, _) = pool(&[of(Carriers::BOTH)]);
    for carrier in [Carrier::Udp, Carrier::Tcp] {
        let found = find(&two, "10.0.0.1:443", "192.0.2.1:1", carrier, &[]).expect("bound");
        assert!(found.carriers.has(carrier) && found != of(Carriers::BOTH));
        assert!(find(&one, "10.0.0.1:443", "192.0.2.1:1", carrier, &[]).is_some());
    }
    assert!(!one.insert(Arc::new(Socket::new(of(Carriers::TCP)))));
    let (only, _) = pool(&[of(Carriers::UDP)]);
    assert_eq!(find(&only, "10.0.0.1:443", "192.0.2.1:1", Carrier::Tcp, &[]), None);
}

#[test]
fn a_connected_socket_comes_before_all_and_takes_its_remote_only() {
    let open = Claim::udp(addr("10.0.0.1:443"));
    let connected = Claim { remote: Some(addr("192.0.2.1:1")), ..Claim::udp(addr("0.0.0.0:443")) };
    let (pool, _) = pool(&[open, connected]);
    let from = |remote| find(&pool, "10.0.0.1:443", remote, Carrier::Udp, &[]);
    assert_eq!((from("192.0.2.1:1"), from("192.0.2.1:2")), (Some(connected), Some(open)));
}

#[test]
fn cibir_sockets_share_a_port_by_identifier_and_may_not_be_mixed_up() {
    let local = addr("10.0.0.1:443");
    let of = |offset, id: &[u8]| Claim { cibir: CibirId::new(offset, id), ..Claim::udp(local) };
    let (one, two, none) = (of(0, &[1, 1]), of(0, &[2, 2]), Claim::udp(local));
    let (pool, _) = pool(&[none, one, two]);
    let to = |cid: &[u8]| find(&pool, "10.0.0.1:443", "192.0.2.1:1", Carrier::Udp, &short(cid));
    assert_eq!((to(&[1, 1, 9]), to(&[2, 2, 9]), to(&[3, 3, 9])), (Some(one), Some(two), Some(none)));
    for mixed in [of(0, &[1, 1]), of(0, &[1]), of(0, &[1, 1, 1]), of(1, &[1]), of(2, &[5])] {
        assert!(!pool.insert(Arc::new(Socket::new(mixed))), "{mixed:?}");
    }
    assert!(pool.insert(Arc::new(Socket::new(of(0, &[1, 2])))));
}

/// A small world, so that claims collide and overlap often.
fn random_claim(random: &mut SmallRng) -> Claim {
    const LOCALS: [&str; 5] = ["0.0.0.0", "[::]", "10.0.0.1", "10.0.0.2", "[fd00::1]"];
    let port = random.random_range(1..=8);
    let local = addr(&format!("{}:{port}", LOCALS[random.random_range(0..LOCALS.len())]));
    let remote = random.random_bool(0.2).then(|| random_remote(random));
    let carriers = [Carriers::UDP, Carriers::TCP, Carriers::BOTH][random.random_range(0..3)];
    let id = [random.random_range(0..3), random.random_range(0..3)];
    let cibir = random.random_bool(0.3).then(|| CibirId::new(random.random_range(0..2), &id)).flatten();
    Claim { local, remote, carriers, cibir, server: None }
}

fn random_remote(random: &mut SmallRng) -> SocketAddr {
    addr(&format!("192.0.2.{}:7", random.random_range(1..4)))
}

/// What the pool must answer, from a plain list and the words of the brief.
fn expected(claims: &[Claim], arrival: &Arrival<'_>) -> Option<Claim> {
    let is_candidate = |claim: &&Claim| {
        let address = match (claim.local.ip().is_unspecified(), claim.local.is_ipv6()) {
            (false, _) => claim.local.ip() == arrival.local.ip(),
            (true, false) => arrival.local.is_ipv4(),
            (true, true) => true,
        };
        let carrier = match arrival.carrier {
            Carrier::Udp => claim.carriers.udp,
            Carrier::Tcp => claim.carriers.tcp,
        };
        let identifier = claim.cibir.is_none_or(|id| {
            let cid = &arrival.datagram[1..];
            cid[id.offset()..][..id.bytes().len()] == *id.bytes()
        });
        claim.local.port() == arrival.local.port()
            && address
            && carrier
            && identifier
            && claim.remote.is_none_or(|remote| remote == arrival.remote)
    };
    let worth = |claim: &&Claim| {
        8 * u8::from(claim.remote.is_some())
            + 4 * u8::from(!claim.local.ip().is_unspecified())
            + 2 * u8::from(claim.cibir.is_some())
            + u8::from(claim.local.is_ipv4())
    };
    claims.iter().filter(is_candidate).max_by_key(worth).copied()
}

#[test]
fn a_hundred_thousand_random_steps_equal_a_plain_map() {
    const LOCALS: [&str; 4] = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "[fd00::1]"];
    let mut random = SmallRng::seed_from_u64(3);
    let pool = SocketPool::default();
    let mut bound: Vec<Arc<Socket>> = Vec::new();
    let (mut binds, mut refusals, mut hits) = (0, 0, 0);
    for step in 0..100_000 {
        match random.random_range(0..4) {
            0 => {
                let claim = random_claim(&mut random);
                let socket = Arc::new(Socket::new(claim));
                let taken = bound.iter().any(|other| other.claim.conflicts(&claim));
                assert_eq!(pool.is_taken(&claim), taken, "step {step}");
                assert_eq!(pool.insert(socket.clone()), !taken, "step {step}");
                if taken {
                    refusals += 1;
                } else {
                    bound.push(socket);
                    binds += 1;
                }
            }
            1 if !bound.is_empty() => {
                let socket = bound.swap_remove(random.random_range(0..bound.len()));
                pool.remove(&socket);
            }
            _ => {
                let local = addr(&format!(
                    "{}:{}",
                    LOCALS[random.random_range(0..LOCALS.len())],
                    random.random_range(1..=8)
                ));
                let cid: [u8; 8] = std::array::from_fn(|_| random.random_range(0..3));
                let datagram = short(&cid);
                let carrier = if random.random() { Carrier::Udp } else { Carrier::Tcp };
                let arrival =
                    Arrival { local, remote: random_remote(&mut random), carrier, datagram: &datagram };
                let claims: Vec<_> = bound.iter().map(|socket| socket.claim).collect();
                let found = pool.find(&arrival).map(|socket| socket.claim);
                assert_eq!(found, expected(&claims, &arrival), "step {step}: {arrival:?} among {claims:?}");
                hits += usize::from(found.is_some());
            }
        }
    }
    assert!(binds > 10_000 && refusals > 1_000 && hits > 10_000, "{binds} {refusals} {hits}");
    assert_eq!(pool.all().len(), bound.len());
}

#[test]
fn look_ups_are_not_disturbed_by_changes_beside_them() {
    let stays = Claim::udp(addr("10.0.0.1:443"));
    let (pool, _) = pool(&[stays]);
    let ended = AtomicBool::new(false);
    let looked_up = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut count = 0_u32;
            while !ended.load(Relaxed) || count == 0 {
                let found = find(&pool, "10.0.0.1:443", "192.0.2.1:1", Carrier::Udp, &short(&[9; 8]));
                assert_eq!(found, Some(stays));
                count += 1;
            }
            count
        });
        for round in 0..5_000_u16 {
            // On the same port, worse claims and claims on other datagrams; and other ports.
            let beside = [
                Claim::udp(addr("0.0.0.0:443")),
                Claim { carriers: Carriers::TCP, ..stays },
                Claim { cibir: CibirId::new(0, &[1, 2]), ..stays },
                Claim { remote: Some(addr("192.0.2.9:1")), ..stays },
                Claim::udp(SocketAddr::new(stays.local.ip(), 1000 + round % 50)),
            ];
            let sockets = beside.map(|claim| Arc::new(Socket::new(claim)));
            assert!(sockets.iter().all(|socket| pool.insert(socket.clone())));
            sockets.iter().for_each(|socket| pool.remove(socket));
        }
        ended.store(true, Relaxed);
        looking.join().expect("no look-up failed")
    });
    assert!(looked_up > 0);
    assert_eq!(pool.all().len(), 1);
}

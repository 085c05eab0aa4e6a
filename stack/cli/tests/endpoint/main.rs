//! `wirepath interop` as programs: each case against itself, and against quinn, s2n-quic and quiche, over OS UDP on loopback and
//! over AF_XDP between two hosts.

mod others;
mod programs;
mod proofs;
mod quiche;
mod relay;

use std::{fs, net::SocketAddrV4, path::Path, time::Duration};

use integration_tests::{
    impair::{Direction, Impairment},
    needs,
    world::{Family, INTERFACE, Link, Pair, World},
};

use programs::{
    DEADLINE, Folder, LOOPBACK, Place, Server, contents, ended, loopback, run_client, sizes, start_client,
};

/// Ours against ours, on loopback.
fn alone(test: &str) {
    let folder = Folder::of(test);
    let names = folder.files(&sizes(test));
    let at = if test == "ipv6" { "[::1]:0".parse().unwrap() } else { loopback() };
    let server = Server::start(LOOPBACK, &folder, at, test, "hq-interop");
    run_client(LOOPBACK, &folder, server.address, test, &names);
    folder.check(&names);
    assert_eq!(server.end(), Ok(()), "{test}");
    folder.check_logs();
    folder.check_secrets();
    if test == "connectionmigration" {
        assert!(folder.server_logged("connectivity:path_updated"), "the server saw no move");
    }
}

macro_rules! alone {
    ($($name:ident: $test:literal;)+) => {
        $(#[test]
        fn $name() {
            alone($test);
        })+
    };
}

alone! {
    handshake: "handshake";
    transfer: "transfer";
    longrtt: "longrtt";
    chacha20: "chacha20";
    multiplexing: "multiplexing";
    retry: "retry";
    resumption: "resumption";
    zerortt: "zerortt";
    keyupdate: "keyupdate";
    ecn: "ecn";
    amplificationlimit: "amplificationlimit";
    v2: "v2";
    blackhole: "blackhole";
    multiconnect: "multiconnect";
    connectionmigration: "connectionmigration";
    ipv6: "ipv6";
    versionnegotiation: "versionnegotiation";
}

#[test]
fn echoes_come_back_by_stream_and_by_datagram() {
    let folder = Folder::new();
    let sent = folder.path("www/sent");
    fs::write(&sent, contents(7, 5000)).unwrap();
    for test in ["transfer", "datagram"] {
        let server = Server::start(LOOPBACK, &folder, loopback(), test, "hq-interop,echo");
        let output =
            ended(start_client(LOOPBACK, &folder, server.address, test, "echo", std::slice::from_ref(&sent)));
        assert!(output.status.success(), "{test}: {}", String::from_utf8_lossy(&output.stderr));
        folder.check(&["sent".to_owned()]);
        fs::remove_file(folder.path("downloads/sent")).unwrap();
    }
}

#[test]
fn a_case_that_is_not_played_ends_in_127_and_other_failures_in_a_line() {
    let folder = Folder::new();
    folder.files(&[10]);
    let to = loopback();
    let unknown = ended(start_client(LOOPBACK, &folder, to, "http3", "hq-interop", &["file0".into()]));
    assert_eq!(unknown.status.code(), Some(127));
    let server = Server::start(LOOPBACK, &folder, loopback(), "transfer", "hq-interop");
    for path in ["missing", "../cert.pem", "/../key.pem", "a/../../key.pem"] {
        let output =
            ended(start_client(LOOPBACK, &folder, server.address, "transfer", "hq-interop", &[path.into()]));
        let cause = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{path}: {cause}");
        assert!(cause.trim_end().lines().count() == 1 && cause.contains("reset"), "{cause:?}");
    }
    assert_eq!(fs::read_dir(folder.path("downloads")).unwrap().count(), 0);
    // A server that does not do what the case is about.
    for (test, cause) in [("retry", "no Retry"), ("zerortt", "early data"), ("v2", "version 2")] {
        let output =
            ended(start_client(LOOPBACK, &folder, server.address, test, "hq-interop", &["file0".into()]));
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && told.contains(cause), "{test}: {told}");
    }
}

/// Both ends over AF_XDP.
fn across(world: &Pair, family: Family, test: &str, meanwhile: impl FnOnce(&Path)) {
    let folder = Folder::of(test);
    let names = folder.files(&sizes(test));
    let at = world.server.socket(family, 4433);
    let server = Server::start(Place::ours(Some(&world.server.namespace)), &folder, at, test, "hq-interop");
    let client = start_client(
        Place::ours(Some(&world.client.namespace)),
        &folder,
        server.address,
        test,
        "hq-interop",
        &names,
    );
    meanwhile(&folder.0);
    let output = ended(client);
    assert!(output.status.success(), "{test}: {}", String::from_utf8_lossy(&output.stderr));
    folder.check(&names);
    assert_eq!(server.end(), Ok(()), "{test}");
}

macro_rules! across {
    ($($name:ident: $test:literal, $family:ident;)+) => {
        $(#[test]
        fn $name() {
            needs!(Xdp);
            across(&World::pair(1500, 1).unwrap(), Family::$family, $test, |_| {});
        })+
    };
}

across! {
    xdp_handshake: "handshake", V4;
    xdp_transfer: "transfer", V4;
    xdp_chacha20: "chacha20", V4;
    xdp_multiplexing: "multiplexing", V4;
    xdp_retry: "retry", V4;
    xdp_resumption: "resumption", V4;
    xdp_zerortt: "zerortt", V4;
    xdp_keyupdate: "keyupdate", V4;
    xdp_ecn: "ecn", V4;
    xdp_ecn_v6: "ecn", V6;
    xdp_amplificationlimit: "amplificationlimit", V4;
    xdp_v2: "v2", V4;
    xdp_multiconnect: "multiconnect", V4;
    xdp_versionnegotiation: "versionnegotiation", V4;
    xdp_connectionmigration: "connectionmigration", V4;
    xdp_connectionmigration_v6: "connectionmigration", V6;
    xdp_ipv6: "ipv6", V6;
}

const DELAY: Duration = Duration::from_millis(15);

macro_rules! impaired {
    ($($name:ident: $test:literal, $rule:expr;)+) => {
        $(#[test]
        fn $name() {
            needs!(Xdp);
            across(&World::impaired(Link::default(), $rule).unwrap(), Family::V4, $test, |_| {});
        })+
    };
}

impaired! {
    slow_xdp_transferloss: "transferloss", Impairment { delay: DELAY, ..Impairment::losing(0.02, 1) };
    slow_xdp_transfercorruption: "transfercorruption",
        Impairment { delay: DELAY, corruption: 0.02, forgery: 0.02, ..Impairment::NONE };
    slow_xdp_handshakeloss: "handshakeloss", Impairment { delay: DELAY, ..Impairment::losing(0.2, 2) };
    slow_xdp_handshakecorruption: "handshakecorruption",
        Impairment { delay: DELAY, corruption: 0.1, forgery: 0.1, ..Impairment::NONE };
    slow_xdp_longrtt: "longrtt", Impairment { delay: Duration::from_millis(300), ..Impairment::NONE };
}

#[test]
fn xdp_blackhole() {
    needs!(Xdp);
    let rule = Impairment { rate: Some(1_500_000), delay: Duration::from_millis(5), ..Impairment::NONE };
    let world = World::impaired(Link::default(), rule).unwrap();
    let middlebox = world.middlebox();
    across(&world, Family::V4, "blackhole", |_| {
        middlebox.wait(DEADLINE, |it| it.counts(Direction::ToClient).forwarded >= 300);
        middlebox.set(Impairment { loss: 1.0, ..rule });
        // The rest of the window, and at least one probe after it from either end.
        middlebox.wait(DEADLINE, |it| it.counts(Direction::ToClient).lost >= 5);
        middlebox.wait(DEADLINE, |it| it.counts(Direction::ToServer).lost >= 1);
        middlebox.set(rule);
    });
}

/// A NAT that forgets its mapping in the middle of a transfer: the client's port changes, or its address.
fn rebinding(test: &str, outside: &[&str]) {
    // Slow enough that the transfer outlasts what happens to it.
    let rule = Impairment { rate: Some(1_500_000), delay: Duration::from_millis(5), ..Impairment::NONE };
    let world = World::impaired(Link::default(), rule).unwrap();
    world.client.namespace.ip(&[&format!("addr add 10.77.0.77/24 dev {INTERFACE}")]).unwrap();
    let middlebox = world.middlebox();
    across(&world, Family::V4, test, |_| {
        for to in outside {
            // So many packets that the transfer is well under way, and not yet near its end.
            let before = middlebox.counts(Direction::ToClient).forwarded;
            middlebox.wait(DEADLINE, |it| it.counts(Direction::ToClient).forwarded >= before + 300);
            middlebox.rebind(to.parse::<SocketAddrV4>().unwrap());
        }
    });
}

#[test]
fn xdp_rebind_port() {
    needs!(Xdp);
    rebinding("rebind-port", &["10.77.0.1:50001", "10.77.0.1:50002"]);
}

#[test]
fn xdp_rebind_addr() {
    needs!(Xdp);
    rebinding("rebind-addr", &["10.77.0.77:50001", "10.77.0.1:50002"]);
}

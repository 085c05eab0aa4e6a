//! `wirepath interop` as programs: each case against itself, and against quinn and s2n-quic, over OS UDP on loopback and
//! over AF_XDP between two hosts.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use integration_tests::{
    cert::{Identity, SERVER_NAME},
    hq,
    impair::{Direction, Impairment},
    needs,
    netns::{Namespace, Task},
    peers::{Endpoint, Quinn, S2n, Setting, Tuning},
    world::{Family, INTERFACE, Link, Pair, World},
};

const DEADLINE: Duration = Duration::from_secs(100);

static IDENTITY: LazyLock<Identity> = LazyLock::new(Identity::new);

/// A folder of the test's own with certificates, files to serve and room for what comes; gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("wirepath-interop-{}-{number}", std::process::id()));
        for folder in ["www", "downloads"] {
            fs::create_dir_all(path.join(folder)).unwrap();
        }
        fs::write(path.join("cert.pem"), &IDENTITY.certificate).unwrap();
        fs::write(path.join("key.pem"), &IDENTITY.key).unwrap();
        Self(path)
    }

    /// Makes files of these sizes to be served.
    fn files(&self, sizes: &[usize]) -> Vec<String> {
        let names = sizes.iter().enumerate().map(|(number, size)| {
            let name = format!("file{number}");
            fs::write(self.0.join("www").join(&name), contents(number, *size)).unwrap();
            name
        });
        names.collect()
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// Checks that these files have come, whole.
    fn check(&self, names: &[String]) {
        for name in names {
            let come = fs::read(self.0.join("downloads").join(name))
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(come == fs::read(self.0.join("www").join(name)).unwrap(), "{name} came changed");
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn contents(number: usize, size: usize) -> Vec<u8> {
    (0..size).map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ number.wrapping_mul(101)) as u8).collect()
}

/// Where a program runs: in the test's own namespace over OS UDP, or in a host's over AF_XDP.
#[derive(Clone, Copy)]
struct Place<'a>(Option<&'a Namespace>);

impl Place<'_> {
    fn spawn(&self, arguments: &[String]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wirepath"));
        command
            .arg("interop")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        match self.0 {
            Some(namespace) => {
                command.args(["--xdp", INTERFACE]);
                namespace.run(|| command.spawn())
            }
            None => command.spawn(),
        }
        .expect("the program starts")
    }
}

/// A server that listens.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(place: Place<'_>, folder: &Folder, at: SocketAddr, test: &str, alpn: &str) -> Self {
        let arguments = [
            "server",
            "--listen",
            &at.to_string(),
            "--cert",
            &folder.path("cert.pem"),
            "--key",
            &folder.path("key.pem"),
            "--root",
            &folder.path("www"),
            "--alpn",
            alpn,
            "--test",
            test,
        ];
        let mut child = place.spawn(&arguments.map(str::to_owned));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address =
            line.strip_prefix("listening on ").and_then(|rest| rest.split(',').next()?.parse().ok());
        let Some(address) = address else {
            child.kill().unwrap();
            panic!("{line:?} {:?}", child.wait_with_output())
        };
        Self { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn start_client(
    place: Place<'_>,
    folder: &Folder,
    to: SocketAddr,
    test: &str,
    alpn: &str,
    paths: &[String],
) -> Child {
    let arguments = [
        "client",
        "--connect",
        &to.to_string(),
        "--ca",
        &folder.path("cert.pem"),
        "--out",
        &folder.path("downloads"),
        "--alpn",
        alpn,
        "--test",
        test,
    ];
    place.spawn(&[&arguments.map(str::to_owned), paths].concat())
}

fn ended(child: Child) -> Output {
    Task::start("client".into(), move || child.wait_with_output().unwrap()).join(DEADLINE)
}

fn run_client(place: Place<'_>, folder: &Folder, to: SocketAddr, test: &str, paths: &[String]) {
    let output = ended(start_client(place, folder, to, test, "hq-interop", paths));
    assert!(output.status.success(), "{test}: {}", String::from_utf8_lossy(&output.stderr));
}

const LOOPBACK: Place<'static> = Place(None);

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Files that suit a case.
fn sizes(test: &str) -> Vec<usize> {
    match test {
        "multiplexing" => vec![32; 2000],
        "zerortt" => vec![32; 40],
        "transfer" | "blackhole" | "rebind-port" | "rebind-addr" => vec![2 << 20, 1 << 20, 0],
        "chacha20" | "keyupdate" | "connectionmigration" => vec![3 << 20],
        "multiconnect" | "handshakeloss" | "handshakecorruption" => vec![1024; 20],
        _ => vec![1024, 10_240],
    }
}

/// Ours against ours, on loopback.
fn alone(test: &str) {
    let folder = Folder::new();
    let names = folder.files(&sizes(test));
    let at = if test == "ipv6" { "[::1]:0".parse().unwrap() } else { loopback() };
    let server = Server::start(LOOPBACK, &folder, at, test, "hq-interop");
    run_client(LOOPBACK, &folder, server.address, test, &names);
    folder.check(&names);
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

fn setting() -> Setting {
    Setting { identity: IDENTITY.clone(), interface: None, alpn: hq::ALPN, tuning: Tuning::default() }
}

/// Another stack's client against our server.
fn visited<E: Endpoint>(test: &str) {
    let folder = Folder::new();
    let names = folder.files(&sizes(test));
    let server = Server::start(LOOPBACK, &folder, loopback(), test, "hq-interop");
    let (to, wanted) = (server.address, names.clone());
    let fetched = Task::runtime("client".into(), async move || {
        let endpoint = E::client(loopback(), &setting()).await.unwrap();
        hq::fetch(endpoint, to, SERVER_NAME, wanted).await
    });
    let files = fetched.join(DEADLINE).unwrap_or_else(|fault| panic!("{test}: {fault}"));
    for (number, name) in names.iter().enumerate() {
        assert!(files[name] == contents(number, sizes(test)[number]), "{test}: {name} came changed");
    }
}

/// Our client against another stack's server.
fn visiting<E: Endpoint>(test: &str) {
    let folder = Folder::new();
    let names = folder.files(&sizes(test));
    let files = names
        .iter()
        .enumerate()
        .map(|(number, name)| (name.clone(), Bytes::from(contents(number, sizes(test)[number]))));
    let files: hq::Files = files.collect();
    let (started, listening) = std::sync::mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = Task::runtime("server".into(), async move || {
        let endpoint = E::server(loopback(), &setting()).await.unwrap();
        started.send(endpoint.local_addr().unwrap()).unwrap();
        tokio::select! {
            () = hq::serve(endpoint, files) => {}
            _ = stopped => {}
        }
    });
    let to = listening.recv_timeout(DEADLINE).expect("it listens");
    run_client(LOOPBACK, &folder, to, test, &names);
    folder.check(&names);
    drop(stop);
    served.join(DEADLINE);
}

macro_rules! others {
    ($($module:ident: $stack:ty, visited by [$($visited:ident: $v:literal),*], visiting [$($visiting:ident: $w:literal),*];)+) => {
        $(mod $module {
            use super::*;
            $(#[test]
            fn $visited() {
                visited::<$stack>($v);
            })*
            $(#[test]
            fn $visiting() {
                visiting::<$stack>($w);
            })*
        })+
    };
}

others! {
    quinn: Quinn,
        visited by [
            comes_for_a_handshake: "handshake", comes_for_a_transfer: "transfer", comes_for_2000_files: "multiplexing",
            follows_a_retry: "retry", speaks_chacha20: "chacha20", meets_a_preferred_address: "connectionmigration",
            keeps_to_version_1: "v2"
        ],
        visiting [
            is_asked_for_a_handshake: "handshake", is_asked_for_a_transfer: "transfer",
            is_asked_for_2000_files: "multiplexing", is_asked_in_chacha20: "chacha20", follows_a_key_update: "keyupdate",
            continues_a_session: "resumption", has_a_connection_for_each_file: "multiconnect",
            follows_a_move: "connectionmigration", negotiates_versions: "versionnegotiation"
        ];
    s2n: S2n,
        visited by [
            comes_for_a_handshake: "handshake", comes_for_a_transfer: "transfer", comes_for_2000_files: "multiplexing",
            follows_a_retry: "retry", speaks_chacha20: "chacha20", meets_a_preferred_address: "connectionmigration",
            keeps_to_version_1: "v2"
        ],
        visiting [
            is_asked_for_a_handshake: "handshake", is_asked_for_a_transfer: "transfer",
            is_asked_for_2000_files: "multiplexing", is_asked_in_chacha20: "chacha20", follows_a_key_update: "keyupdate",
            has_a_connection_for_each_file: "multiconnect", follows_a_move: "connectionmigration",
            negotiates_versions: "versionnegotiation"
        ];
}

/// Both ends over AF_XDP.
fn across(world: &Pair, family: Family, test: &str, meanwhile: impl FnOnce(&Path)) {
    let folder = Folder::new();
    let names = folder.files(&sizes(test));
    let at = world.server.socket(family, 4433);
    let server = Server::start(Place(Some(&world.server.namespace)), &folder, at, test, "hq-interop");
    let client = start_client(
        Place(Some(&world.client.namespace)),
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

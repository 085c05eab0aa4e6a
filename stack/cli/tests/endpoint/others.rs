//! Our program against quinn and s2n-quic, on loopback and with ours over AF_XDP.

use std::{net::SocketAddr, sync::mpsc};

use bytes::Bytes;
use integration_tests::{
    cert::SERVER_NAME,
    echo, hq, needs,
    netns::{Namespace, Task},
    peers::{Datagrams, Early, Endpoint, Quinn, S2n, Setting, Tuning},
    world::{Family, Pair, World},
};
use tokio::sync::oneshot;

use crate::programs::{
    DEADLINE, Folder, IDENTITY, Place, Server, contents, ended, loopback, run_client, sizes, start_client,
};

fn setting(alpn: &'static [u8]) -> Setting {
    Setting { identity: IDENTITY.clone(), interface: None, alpn, tuning: Tuning::default() }
}

/// Where two ends meet: on loopback, or on a link with ours over AF_XDP.
struct Meeting<'a> {
    world: Option<&'a Pair>,
}

impl Meeting<'_> {
    fn server_place(&self) -> Place<'_> {
        Place::ours(self.world.map(|world| &world.server.namespace))
    }

    fn client_place(&self) -> Place<'_> {
        Place::ours(self.world.map(|world| &world.client.namespace))
    }

    fn server_at(&self) -> SocketAddr {
        self.world.map_or_else(loopback, |world| world.server.socket(Family::V4, 4433))
    }

    fn client_at(&self) -> SocketAddr {
        self.world.map_or_else(loopback, |world| world.client.socket(Family::V4, 0))
    }

    /// Runs the other stack's end.
    fn other<R: Send + 'static>(
        &self,
        namespace: impl Fn(&Pair) -> &Namespace,
        work: impl AsyncFnOnce() -> R + Send + 'static,
    ) -> Task<R> {
        match self.world {
            Some(world) => namespace(world).runtime(work),
            None => Task::runtime("other".into(), work),
        }
    }
}

/// Another stack's server, until it is told to end.
struct Served {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: Task<()>,
}

impl Served {
    fn new<E: Endpoint>(
        meeting: &Meeting<'_>,
        alpn: &'static [u8],
        serve: impl AsyncFnOnce(E) + Send + 'static,
    ) -> Self {
        let (started, listening) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let at = meeting.server_at();
        let task = meeting.other(
            |world| &world.server.namespace,
            async move || {
                let endpoint = E::server(at, &setting(alpn)).await.unwrap();
                started.send(endpoint.local_addr().unwrap()).unwrap();
                tokio::select! {
                    () = serve(endpoint) => {}
                    _ = stopped => {}
                }
            },
        );
        Self { address: listening.recv_timeout(DEADLINE).expect("it listens"), stop, task }
    }

    fn end(self) {
        drop(self.stop);
        self.task.join(DEADLINE);
    }
}

/// Another stack's client against our server.
fn visited<E: Endpoint>(world: Option<&Pair>, test: &str) {
    let meeting = Meeting { world };
    let folder = Folder::new();
    let names = folder.files(&sizes(test));
    let server = Server::start(meeting.server_place(), &folder, meeting.server_at(), test, "hq-interop");
    let (from, to, wanted) = (meeting.client_at(), server.address, names.clone());
    let fetched = meeting.other(
        |world| &world.client.namespace,
        async move || {
            let endpoint = E::client(from, &setting(hq::ALPN)).await.unwrap();
            hq::fetch(endpoint, to, SERVER_NAME, wanted).await
        },
    );
    let files = fetched.join(DEADLINE).unwrap_or_else(|fault| panic!("{test}: {fault}"));
    for (number, name) in names.iter().enumerate() {
        assert!(files[name] == contents(number, sizes(test)[number]), "{test}: {name} came changed");
    }
    assert_eq!(server.end(), Ok(()), "{test}");
}

/// Our client against another stack's server.
fn visiting<E: Endpoint>(world: Option<&Pair>, test: &str) {
    let meeting = Meeting { world };
    let folder = Folder::new();
    let names = folder.files(&sizes(test));
    let files = names
        .iter()
        .enumerate()
        .map(|(number, name)| (name.clone(), Bytes::from(contents(number, sizes(test)[number]))));
    let files: hq::Files = files.collect();
    let served = Served::new(&meeting, hq::ALPN, async move |endpoint: E| hq::serve(endpoint, files).await);
    run_client(meeting.client_place(), &folder, served.address, test, &names);
    folder.check(&names);
    served.end();
}

/// Another stack's client comes back to our server, and asks early.
fn visited_early<E: Early>(world: Option<&Pair>) {
    let meeting = Meeting { world };
    let folder = Folder::new();
    let names = folder.files(&sizes("zerortt"));
    let server = Server::start(meeting.server_place(), &folder, meeting.server_at(), "zerortt", "hq-interop");
    let (from, to, wanted) = (meeting.client_at(), server.address, names.clone());
    let fetched = meeting.other(
        |world| &world.client.namespace,
        async move || {
            let endpoint = E::client(from, &setting(hq::ALPN)).await.unwrap();
            hq::fetch_early(endpoint, to, SERVER_NAME, wanted).await
        },
    );
    let (files, accepted) = fetched.join(DEADLINE).unwrap_or_else(|fault| panic!("{fault}"));
    assert!(accepted, "our server refused what was early");
    for (number, name) in names.iter().enumerate() {
        assert!(files[name] == contents(number, sizes("zerortt")[number]), "{name} came changed");
    }
    assert_eq!(server.end(), Ok(()));
    assert!(folder.server_logged(r#""packet_type":"0RTT""#), "nothing came early");
}

/// Datagrams of another stack's client come back from our server.
fn visited_by_datagrams<E: Endpoint<Connection: Datagrams>>(world: Option<&Pair>) {
    let meeting = Meeting { world };
    let folder = Folder::new();
    let server = Server::start(meeting.server_place(), &folder, meeting.server_at(), "datagram", "echo");
    let (from, to) = (meeting.client_at(), server.address);
    let datagrams = (0..20).map(|number| contents(number, 1 + 50 * number).into()).collect();
    let exchanged = meeting.other(
        |world| &world.client.namespace,
        async move || {
            let endpoint = E::client(from, &setting(echo::ALPN)).await.unwrap();
            echo::exchange(endpoint, to, SERVER_NAME, datagrams).await
        },
    );
    exchanged.join(DEADLINE).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(server.end(), Ok(()));
}

/// Our client's datagrams come back from another stack's server.
fn visiting_with_datagrams<E: Endpoint<Connection: Datagrams>>(world: Option<&Pair>) {
    let meeting = Meeting { world };
    let folder = Folder::new();
    let sent = folder.path("www/sent");
    std::fs::write(&sent, contents(7, 20_000)).unwrap();
    let served = Served::new(&meeting, echo::ALPN, echo::serve::<E>);
    let output =
        ended(start_client(meeting.client_place(), &folder, served.address, "datagram", "echo", &[sent]));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder.check(&["sent".to_owned()]);
    served.end();
}

macro_rules! datagrams {
    ($($stack:ty: $comes:ident, $is_asked:ident, $xdp:ident;)+) => {
        $(#[test]
        fn $comes() {
            visited_by_datagrams::<$stack>(None);
        }

        #[test]
        fn $is_asked() {
            visiting_with_datagrams::<$stack>(None);
        }

        #[test]
        fn $xdp() {
            needs!(Xdp);
            let world = World::pair(1500, 1).unwrap();
            visited_by_datagrams::<$stack>(Some(&world));
            visiting_with_datagrams::<$stack>(Some(&world));
        })+
    };
}

datagrams! {
    Quinn: quinn_comes_with_datagrams, quinn_echoes_datagrams, xdp_quinn_datagrams;
    S2n: s2n_comes_with_datagrams, s2n_echoes_datagrams, xdp_s2n_datagrams;
}

#[test]
fn quinn_asks_early() {
    visited_early::<Quinn>(None);
}

#[test]
fn xdp_quinn_asks_early() {
    needs!(Xdp);
    visited_early::<Quinn>(Some(&World::pair(1500, 1).unwrap()));
}

macro_rules! others {
    ($($module:ident: $stack:ty, visited by [$($visited:ident: $v:literal),*], visiting [$($visiting:ident: $w:literal),*];)+) => {
        $(mod $module {
            use super::*;
            $(#[test]
            fn $visited() {
                visited::<$stack>(None, $v);
            })*
            $(#[test]
            fn $visiting() {
                visiting::<$stack>(None, $w);
            })*

            #[test]
            fn xdp_comes() {
                needs!(Xdp);
                let world = World::pair(1500, 1).unwrap();
                for test in [$($v),*] {
                    visited::<$stack>(Some(&world), test);
                }
            }

            #[test]
            fn xdp_is_asked() {
                needs!(Xdp);
                let world = World::pair(1500, 1).unwrap();
                for test in [$($w),*] {
                    visiting::<$stack>(Some(&world), test);
                }
            }
        })+
    };
}

others! {
    quinn: Quinn,
        visited by [
            comes_for_a_handshake: "handshake", comes_for_a_transfer: "transfer", comes_for_2000_files: "multiplexing",
            follows_a_retry: "retry", speaks_chacha20: "chacha20", meets_a_preferred_address: "connectionmigration",
            keeps_to_version_1: "v2", marks_its_packets: "ecn"
        ],
        visiting [
            is_asked_for_a_handshake: "handshake", is_asked_for_a_transfer: "transfer",
            is_asked_for_2000_files: "multiplexing", is_asked_in_chacha20: "chacha20", follows_a_key_update: "keyupdate",
            continues_a_session: "resumption", is_asked_early: "zerortt", has_a_connection_for_each_file: "multiconnect",
            follows_a_move: "connectionmigration", negotiates_versions: "versionnegotiation", hears_marks: "ecn"
        ];
    s2n: S2n,
        visited by [
            comes_for_a_handshake: "handshake", comes_for_a_transfer: "transfer", comes_for_2000_files: "multiplexing",
            follows_a_retry: "retry", speaks_chacha20: "chacha20", meets_a_preferred_address: "connectionmigration",
            keeps_to_version_1: "v2", marks_its_packets: "ecn"
        ],
        visiting [
            is_asked_for_a_handshake: "handshake", is_asked_for_a_transfer: "transfer",
            is_asked_for_2000_files: "multiplexing", is_asked_in_chacha20: "chacha20", follows_a_key_update: "keyupdate",
            has_a_connection_for_each_file: "multiconnect", follows_a_move: "connectionmigration",
            negotiates_versions: "versionnegotiation", hears_marks: "ecn"
        ];
}

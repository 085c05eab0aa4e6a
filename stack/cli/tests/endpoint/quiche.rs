//! Our program against quiche's, on loopback and with ours over AF_XDP. `make test-quiche` builds it: BoringSSL takes
//! minutes.

use std::fs;

use integration_tests::{
    needs,
    world::{Family, Pair, World},
};

use crate::programs::{Folder, Place, Program, Server, contents, ended, loopback, sizes, start_client};

/// Plays a case, with quiche at one end.
fn play(world: Option<&Pair>, serving: Program, test: &str) {
    let folder = Folder::new();
    let (alpn, paths, names) = match test {
        "datagram" => {
            let sent = folder.path("www/sent");
            fs::write(&sent, contents(7, 20_000)).unwrap();
            ("echo", vec![sent], vec!["sent".to_owned()])
        }
        _ => {
            let names = folder.files(&sizes(test));
            ("hq-interop", names.clone(), names)
        }
    };
    let asking = if serving == Program::Ours { Program::Quiche } else { Program::Ours };
    let at = world.map_or_else(loopback, |world| world.server.socket(Family::V4, 4433));
    let server = Place { namespace: world.map(|world| &world.server.namespace), program: serving };
    let client = Place { namespace: world.map(|world| &world.client.namespace), program: asking };
    let server = Server::start(server, &folder, at, test, alpn);
    let output = ended(start_client(client, &folder, server.address, test, alpn, &paths));
    assert!(output.status.success(), "{test}: {}", String::from_utf8_lossy(&output.stderr));
    folder.check(&names);
    if serving == Program::Ours {
        assert_eq!(server.end(), Ok(()), "{test}");
        let early = folder.server_logged(r#""packet_type":"0RTT""#);
        assert_eq!(early, test == "zerortt", "{test}: early data");
    }
}

const CASES: [&str; 7] =
    ["handshake", "transfer", "multiplexing", "retry", "resumption", "zerortt", "datagram"];

#[test]
fn slow_quiche_comes() {
    needs!(Quiche);
    CASES.iter().for_each(|test| play(None, Program::Ours, test));
}

#[test]
fn slow_quiche_is_asked() {
    needs!(Quiche);
    CASES.iter().for_each(|test| play(None, Program::Quiche, test));
}

#[test]
fn slow_xdp_quiche_comes() {
    needs!(Quiche);
    needs!(Xdp);
    let world = World::pair(1500, 1).unwrap();
    CASES.iter().for_each(|test| play(Some(&world), Program::Ours, test));
}

#[test]
fn slow_xdp_quiche_is_asked() {
    needs!(Quiche);
    needs!(Xdp);
    let world = World::pair(1500, 1).unwrap();
    CASES.iter().for_each(|test| play(Some(&world), Program::Quiche, test));
}

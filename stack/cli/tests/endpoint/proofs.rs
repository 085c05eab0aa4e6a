//! That cases are about what they say, seen by a relay between both ends.

use std::net::Ipv4Addr;

use crate::{
    programs::{Folder, LOOPBACK, Server, ended, loopback, sizes, start_client},
    relay::{Relay, Relayed, Trick},
};

/// Plays a case through a relay; gives what the client and the server said at their ends.
fn relayed(test: &str, trick: Trick) -> (Result<(), String>, Result<(), String>, Relayed) {
    let folder = Folder::of(test);
    let names = folder.files(&sizes(test));
    let server = Server::start(LOOPBACK, &folder, loopback(), test, "hq-interop");
    let relay = Relay::start(server.address, trick);
    let output = ended(start_client(LOOPBACK, &folder, relay.address, test, "hq-interop", &names));
    let client = match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    };
    folder.check(&names);
    (client, server.end(), relay.end())
}

#[test]
fn a_server_waits_for_its_clients_address_after_three_times_the_bytes() {
    let (client, server, relayed) = relayed("amplificationlimit", Trick::HoldBack);
    assert_eq!((client, server), (Ok(()), Ok(())));
    let (sent, received) = relayed.at_silence.expect("it waited");
    // RFC 9000 §8.1; and it would have sent more: a datagram had no room.
    assert!(sent <= 3 * received && sent + 1200 > 3 * received, "{relayed:?}");
    assert!(relayed.from_server > 3 * received + 1200, "{relayed:?}");
}

#[test]
fn a_server_with_few_certificates_fails_the_case_of_the_limit() {
    let folder = Folder::new();
    let names = folder.files(&[1024]);
    let server = Server::start(LOOPBACK, &folder, loopback(), "amplificationlimit", "hq-interop");
    let output =
        ended(start_client(LOOPBACK, &folder, server.address, "amplificationlimit", "hq-interop", &names));
    assert!(output.status.success());
    let told = server.end().unwrap_err();
    assert!(told.contains("anti-amplification limit") && told.trim_end().lines().count() == 1, "{told}");
}

#[test]
fn marks_that_are_taken_away_fail_the_case_of_ecn_at_both_ends() {
    let (client, server, _) = relayed("ecn", Trick::None);
    for told in [client.unwrap_err(), server.unwrap_err()] {
        assert!(told.contains("ECN marks") && told.trim_end().lines().count() == 1, "{told}");
    }
}

/// A NAT forgets its mapping twice. The runner gives both ends the case `transfer` then, and looks at what the server does.
fn rebinding(test: &str, addresses: &'static [Ipv4Addr]) {
    let folder = Folder::new();
    let names = folder.files(&[300_000, 0]);
    let server = Server::start(LOOPBACK, &folder, loopback(), test, "hq-interop");
    let server_port = server.address.port();
    let relay = Relay::start(server.address, Trick::Rebind(addresses));
    let output = ended(start_client(LOOPBACK, &folder, relay.address, test, "hq-interop", &names));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder.check(&names);
    assert_eq!(server.end(), Ok(()));
    let Relayed { seen_at, .. } = relay.end();
    assert_eq!(seen_at.len(), 1 + addresses.len(), "{seen_at:?}");
    for address in &seen_at[1..] {
        let told = format!(
            r#""dst_ip":"{}","src_port":{},"dst_port":{}"#,
            address.ip(),
            server_port,
            address.port()
        );
        assert!(folder.server_logged(&told), "the server did not follow to {address}");
    }
    assert!(!folder.client_logged("connectivity:path_updated"), "the client has no part in it");
}

#[test]
fn rebind_port() {
    rebinding("rebind-port", &[Ipv4Addr::LOCALHOST; 2]);
}

#[test]
fn rebind_addr() {
    const ADDRESSES: &[Ipv4Addr] = &[Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];
    rebinding("rebind-addr", ADDRESSES);
}

//! XDP rules that steer by the server ID in connection IDs, in the program itself.
#![allow(missing_docs)]

mod support;

use wirepath::{
    CibirId, Stack,
    quic_lb::{self, QuicLb},
    rules::{Rules, RulesBuilder, Verdict},
};
use wirepath_drivers::{DriverError, XdpProgram};
use wirepath_quic::{Cid, CidGenerator, cid::RandomCids, quic_lb::QuicLbCids, reset::ResetKey};
use wirepath_trace::Direction;
use wirepath_wire::{Link, MacAddr, UdpHeaders, write_udp};

const PORT: u16 = 443;
const KEY: [u8; 16] = [7; 16];

fn frame(dst: &str, port: u16, payload: &[u8]) -> Vec<u8> {
    let (dst, src) = (
        std::net::SocketAddr::new(dst.parse().unwrap(), port),
        if dst.contains(':') { "[fd00::1]:9" } else { "10.0.0.1:9" },
    );
    let link = Link { src: MacAddr([2, 0, 0, 0, 0, 1]), dst: MacAddr([2, 0, 0, 0, 0, 2]), vlan: None };
    let headers = UdpHeaders::new(link);
    let mut frame = vec![0; headers.len_for(dst.ip())];
    write_udp(&mut frame, &headers, src.parse().unwrap(), dst, payload).unwrap();
    frame.extend_from_slice(payload);
    frame
}

/// A packet of an established connection, and one of a handshake, to a connection ID.
fn packets(cid: &[u8]) -> [Vec<u8>; 2] {
    let long = [&[0xe0, 0, 0, 0, 1, cid.len() as u8], cid, &[8], &[0xcc; 8], &[0; 40]].concat();
    [[&[0x40], cid, &[0; 40]].concat(), long]
}

fn cids(server: &QuicLb) -> QuicLbCids {
    QuicLbCids::new(server.clone(), ResetKey::random())
}

#[test]
fn xdp_rules_steer_by_server_ids_in_the_clear() {
    let program = match XdpProgram::load(false) {
        Ok(program) => program,
        Err(error @ DriverError::MissingRights { .. }) => {
            println!("SKIPPED xdp_rules_steer_by_server_ids_in_the_clear: {error}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    // The same server ID in another configuration is another server.
    let servers = [(2, [0xa1, 0xb2]), (2, [0xa1, 0xb3]), (3, [0xa1, 0xb2])]
        .map(|(config, id)| QuicLb::plain(config, &id, 8).unwrap());
    let add = |list: RulesBuilder, at: usize| {
        let patterns = quic_lb::patterns(PORT, &servers[at]).unwrap();
        patterns.into_iter().fold(list, |list, pattern| match at {
            0 => list.drop().quic_flow(pattern),
            _ => list.l2fwd().quic_flow(pattern),
        })
    };
    let rules = add(add(Rules::builder(), 0), 1).build().unwrap();
    program.set_rules(&rules).unwrap();
    let check = |cid: &[u8], port: u16, expected: Verdict| {
        for (packet, dst) in packets(cid).iter().zip(["10.0.0.2", "fd00::2"].iter().cycle()) {
            let frame = frame(dst, port, packet);
            assert_eq!(program.test_run(&frame).unwrap(), expected, "{cid:02x?} to {dst}:{port}");
            assert_eq!(rules.verdict(&frame, 0), expected);
        }
    };
    for _ in 0..100 {
        for (server, expected) in servers.iter().zip([Verdict::Drop, Verdict::L2Forward, Verdict::Pass]) {
            check(cids(server).generate().as_slice(), PORT, expected);
        }
        check(cids(&servers[0]).generate().as_slice(), PORT + 1, Verdict::Pass);
        // What a client makes up is for the rules behind. Three bytes hit by chance once in 16 million.
        let made_up = RandomCids::new(ResetKey::random()).with_layout(9, &[0xff]).unwrap();
        check(made_up.generate().as_slice(), PORT, Verdict::Pass);
    }
    assert!(program.hits().unwrap().iter().all(|hits| *hits == 100), "{:?}", program.hits());
}

/// Each connection ID that clients use once they have learnt one is the listener's by its server ID.
#[tokio::test]
async fn listeners_give_out_ids_of_their_configuration() {
    let plain = QuicLb::plain(1, &[0xa1, 0xb2, 0xc3], 8).unwrap();
    let long = QuicLb::encrypted(5, &[0xa1; 7], 12, &KEY).unwrap();
    let block = QuicLb::encrypted(2, &[0xa1; 8], 8, &KEY).unwrap();
    for server in [plain, long, block] {
        let stack = Stack::builder().trace_one_in(1).build().await.unwrap();
        let config = support::server_config().quic_lb(server.clone());
        let listener = stack.listen("127.0.0.1:0".parse().unwrap(), config).await.unwrap();
        let client = Stack::builder().build().await.unwrap();
        let at = listener.local_addr();
        let (connection, accepted) =
            tokio::join!(client.connect(at, "localhost", support::client_config()), listener.accept());
        let (connection, accepted) = (connection.unwrap(), accepted.unwrap());
        accepted.spawn(support::echo(accepted.clone()));
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_finish(support::pattern(200_000, 1)).await.unwrap();
        assert_eq!(receive.read_to_end(200_000).await.unwrap(), support::pattern(200_000, 1));
        let (records, _) = stack.tracer().read(0, usize::MAX);
        let received = records.iter().filter(|record| record.direction == Direction::Rx);
        let cids: Vec<_> = received.map(|record| record.cid().to_vec()).collect();
        let learnt = cids.iter().filter(|cid| server.decode(cid) == Cid::new(server.server_id())).count();
        assert!(learnt > 0 && learnt + 2 >= cids.len(), "all but the first flight's: {cids:02x?}");
    }
}

#[tokio::test]
async fn what_can_not_be_steered_is_refused() {
    let plain = QuicLb::plain(1, &[0xa1, 0xb2], 8).unwrap();
    let encrypted = QuicLb::encrypted(1, &[0xa1, 0xb2], 8, &KEY).unwrap();
    let cibir = CibirId::new(0, &[1, 2]).unwrap();
    let config = support::server_config;
    let stack = Stack::builder().build().await.unwrap();
    let at = "127.0.0.1:4433".parse().unwrap();
    for (config, words) in [
        (config().quic_lb(plain.clone()).cibir(cibir), "choose one"),
        (config().quic_lb(encrypted).share_port(true), "QuicLb::plain"),
        (config().share_port(true), "set quic_lb or cibir"),
        (config().quic_lb(plain).share_port(true), "build the stack on an interface"),
    ] {
        let error = stack.listen(at, config).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn encrypted_server_ids_give_no_rule() {
    let server = QuicLb::encrypted(0, &[0xa1, 0xb2], 8, &KEY).unwrap();
    assert_eq!(quic_lb::patterns(PORT, &server), None);
    let firsts: std::collections::HashSet<_> =
        (0..50).map(|_| cids(&server).generate().as_slice()[1..3].to_vec()).collect();
    assert!(firsts.len() > 40, "no two alike, but for chance");
}

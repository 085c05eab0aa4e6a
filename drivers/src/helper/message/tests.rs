//! What is written reads back the same, and no bytes at all make a reader panic.

use rand::{Rng, RngCore, SeedableRng, rngs::SmallRng};

use super::*;

fn rules() -> Rules {
    let lines = [
        "redirect udp dst ports 443,8000-8100",
        "drop udp from 10.0.0.1:5000 to 10.0.0.2:443",
        "pass to fd00::/16",
        "redirect tcp control 443",
        "redirect quic dst port 443 long-source 0:a1b2",
        "l2fwd all",
    ];
    lines
        .iter()
        .map(|line| line.parse().expect("a rule"))
        .fold(Rules::builder().vlan(VlanPolicy::Id(7)), RulesBuilder::rule)
        .local_addresses(["10.77.0.1".parse().expect("v4"), "fd77::1".parse().expect("v6")])
        .build()
        .expect("rules")
}

fn wish() -> XskWish {
    XskWish {
        queue: 3,
        rings: RingSizes { fill: 2048, rx: 1024, tx: 512, completion: 256 },
        frame_count: 6144,
        huge_pages: true,
        copy_mode: CopyMode::Copy,
        shape: Shape { frame_size: FrameSize::FourKib, multi_buffer: true, tx_metadata: false },
    }
}

fn requests() -> Vec<Request> {
    let options = XdpOptions { mode: XdpModeWish::Skb, multi_buffer: MultiBuffer::On };
    vec![
        Request::Attach { interface: "eth0".into(), index: 7, options, queues: 2..4 },
        Request::OpenXsk(wish()),
        Request::Register { queue: u32::MAX },
        Request::Transmitter { queue: 3 },
        Request::SetRules(rules()),
        Request::SetRules(Rules::default()),
        Request::ReadCounters,
        Request::FindNeighbour { ip: "fe80::1".parse().expect("v6"), anew: true },
        Request::FindNeighbour { ip: "10.0.0.1".parse().expect("v4"), anew: false },
    ]
}

fn replies() -> Vec<Reply> {
    let attachment = XdpAttachment {
        interface: "eth0".into(),
        ifindex: 7,
        mode: XdpMode::Driver,
        multi_buffer: false,
        reason: "ä".into(),
    };
    vec![
        Reply::Welcome { version: 2 },
        Reply::Attached { attachment, queues: 1..4 },
        Reply::Opened { zero_copy: true, pages: Pages::Huge },
        Reply::Opened { zero_copy: false, pages: Pages::Fallback("none".into()) },
        Reply::Transmitter,
        Reply::Done,
        Reply::Counters { hits: vec![1, u64::MAX], events: vec![] },
        Reply::Refused(Refusal::NoInterface("eth1".into())),
        Reply::Refused(Refusal::ProgramPresent("eth0".into())),
        Reply::Refused(Refusal::Other(String::new())),
        Reply::Lost("gone".into()),
    ]
}

#[test]
fn messages_read_back_as_written() {
    for request in requests() {
        assert_eq!(Request::decode(&request.encode()).expect("whole"), request);
    }
    for reply in replies() {
        assert_eq!(Reply::decode(&reply.encode()).expect("whole"), reply);
    }
}

#[test]
fn a_message_cut_short_or_with_more_behind_it_is_none() {
    let whole = requests().iter().map(Request::encode).collect::<Vec<_>>();
    for message in &whole {
        for len in 0..message.len() {
            assert_eq!(Request::decode(&message[..len]), Err(Malformed), "{len} of {message:?}");
        }
        assert_eq!(Request::decode(&[message, &[0][..]].concat()), Err(Malformed));
    }
    for message in replies().iter().map(Reply::encode) {
        for len in 0..message.len() {
            assert_eq!(Reply::decode(&message[..len]), Err(Malformed));
        }
        assert_eq!(Reply::decode(&[&message[..], &[0]].concat()), Err(Malformed));
    }
}

/// Noise, and messages with a few bytes changed: what is understood at all is written back the same.
#[test]
fn hostile_bytes_are_refused_or_understood_and_never_panic() {
    let mut random = SmallRng::seed_from_u64(3);
    let seeds: Vec<_> =
        requests().iter().map(Request::encode).chain(replies().iter().map(Reply::encode)).collect();
    let mut understood = 0;
    for turn in 0..200_000 {
        let mut bytes = if turn % 4 == 0 {
            let mut noise = vec![0; random.random_range(0..200)];
            random.fill_bytes(&mut noise);
            noise
        } else {
            seeds[random.random_range(0..seeds.len())].clone()
        };
        for _ in 0..random.random_range(0..4) {
            if !bytes.is_empty() {
                let at = random.random_range(0..bytes.len());
                bytes[at] = random.random();
            }
        }
        if let Ok(request) = Request::decode(&bytes) {
            understood += 1;
            assert_eq!(Request::decode(&request.encode()), Ok(request));
        }
        if let Ok(reply) = Reply::decode(&bytes) {
            understood += 1;
            assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
        }
    }
    assert!(understood > 10_000, "the noise is too loud: {understood}");
}

#[test]
fn a_list_that_claims_to_be_long_reserves_nothing() {
    let mut bytes = vec![4];
    bytes.extend(u32::MAX.to_le_bytes());
    assert_eq!(Reply::decode(&bytes), Err(Malformed));
}

#[test]
fn texts_are_cut_where_a_character_ends() {
    let long = "ä".repeat(40_000);
    let Ok(Reply::Lost(text)) = Reply::decode(&Reply::Lost(long).encode()) else { panic!("whole") };
    assert_eq!(text.len(), 65_534);
}

use wirepath_drivers::{Ecn, PacketBuf, TcpSegment, TxDatagram};
use wirepath_quic::NetPath;
use wirepath_wire::{
    Tcp,
    tcp::{ACK, FIN, PSH, RST, SYN},
};

use super::{flow::Flow, *};

const MSS: u16 = 1440;
const SECOND: u64 = 1_000_000_000;

/// A client and a server, and what a segment of either looks like to the other.
struct Pair {
    client: Flows,
    server: Flows,
    path: NetPath,
    now: u64,
}

fn pair() -> Pair {
    let path = NetPath {
        local: "10.0.0.1:5000".parse().expect("an address"),
        remote: "10.0.0.2:443".parse().expect("an address"),
    };
    let pair = Pair { client: Flows::default(), server: Flows::default(), path, now: 5 * SECOND };
    assert!(pair.client.open(pair.now, &path));
    pair
}

fn datagram(from: &NetPath, len: usize) -> TxDatagram {
    TxDatagram {
        local: from.local,
        remote: from.remote,
        ecn: Ecn::NotEct,
        segment_size: None,
        tcp: None,
        buf: PacketBuf::heap(len),
    }
}

fn header(segment: &TcpSegment, payload: usize) -> (Tcp, Vec<u8>) {
    let options = segment.options.map_or_else(Vec::new, |it| {
        [&[2, 4], &it.mss.to_be_bytes()[..], &[1, 3, 3, it.window_scale]].concat()
    });
    let len = 20 + options.len();
    let tcp = Tcp {
        src_port: 0,
        dst_port: 0,
        sequence: segment.sequence,
        acknowledgement: segment.acknowledgement,
        flags: segment.flags,
        window: segment.window,
        checksum: 0,
        options: 20..len,
        payload: len..len + payload,
    };
    (tcp, options)
}

/// Judges a segment; the preview of it must have said the same.
fn judged(
    flows: &Flows,
    (now, path): (u64, &NetPath),
    (tcp, options): (&Tcp, &[u8]),
    listening: bool,
) -> Verdict {
    let preview = flows.preview(now, path, tcp, options, listening);
    let verdict = flows.on_segment(now, path, tcp, options, (listening, MSS));
    match (&preview, &verdict) {
        (_, Verdict::Drop("qtip_reset_limited_dropped" | "qtip_flow_limited_dropped"))
        | (Ok(Outlook::Delivers), Verdict::Deliver)
        | (Ok(Outlook::Does(_)), Verdict::Noted | Verdict::Answer(_) | Verdict::Opened(..)) => {}
        (Err(cause), Verdict::Drop(name) | Verdict::Refuse(_, name)) => assert_eq!(cause, name),
        _ => panic!("{preview:?} of {verdict:?}"),
    }
    verdict
}

impl Pair {
    fn back(&self) -> NetPath {
        NetPath { local: self.path.remote, remote: self.path.local }
    }

    fn client_sends(&self, len: usize) -> Sent {
        self.client.on_transmit(self.now, MSS, datagram(&self.path, len))
    }

    fn server_sends(&self, len: usize) -> Sent {
        self.server.on_transmit(self.now, MSS, datagram(&self.back(), len))
    }

    fn to_server(&self, segment: &TcpSegment, payload: usize) -> Verdict {
        let (tcp, options) = header(segment, payload);
        judged(&self.server, (self.now, &self.back()), (&tcp, &options), true)
    }

    fn to_client(&self, segment: &TcpSegment, payload: usize) -> Verdict {
        let (tcp, options) = header(segment, payload);
        judged(&self.client, (self.now, &self.path), (&tcp, &options), false)
    }

    /// Sends a first datagram of 1200 bytes through the whole handshake.
    fn open(&self) {
        let Sent::Waits(Some(syn)) = self.client_sends(1200) else { panic!("no SYN") };
        assert_eq!((syn.flags, syn.options.expect("options").mss), (SYN, MSS));
        let Verdict::Answer(syn_ack) = self.to_server(&syn, 0) else { panic!("no SYN/ACK") };
        assert_eq!((syn_ack.flags, syn_ack.acknowledgement), (SYN | ACK, syn.sequence.wrapping_add(1)));
        assert!(self.server.is_empty(), "nothing is kept for a SYN");
        let Verdict::Opened(ack, released) = self.to_client(&syn_ack, 0) else { panic!("not opened") };
        assert_eq!((ack.flags, ack.sequence), (ACK, syn_ack.acknowledgement));
        assert!(matches!(self.to_server(&ack, 0), Verdict::Noted));
        assert_eq!(released.len(), 1);
        let first = released[0].tcp.expect("a header");
        assert_eq!((first.flags, first.sequence), (ACK, ack.sequence));
        assert!(matches!(self.to_server(&first, 1200), Verdict::Deliver));
        assert_eq!(self.server.len(), 1);
    }
}

fn sent(outcome: Sent) -> TcpSegment {
    match outcome {
        Sent::Now(datagram) => datagram.tcp.expect("a header"),
        other => panic!("{other:?}"),
    }
}

fn dropped(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Drop(cause) | Verdict::Refuse(_, cause) => cause,
        other => panic!("{other:?}"),
    }
}

#[test]
fn numbers_advance_by_what_is_sent_and_follow_what_comes() {
    let pair = pair();
    pair.open();
    let (one, two) = (sent(pair.client_sends(1000)), sent(pair.client_sends(900)));
    assert_eq!(two.sequence, one.sequence.wrapping_add(1000));
    // The first is lost: the second still counts, and is acknowledged.
    assert!(matches!(pair.to_server(&two, 900), Verdict::Deliver));
    let answer = sent(pair.server_sends(50));
    assert_eq!(answer.acknowledgement, two.sequence.wrapping_add(900));
    // It comes late: delivered all the same, and nothing goes back.
    assert!(matches!(pair.to_server(&one, 1000), Verdict::Deliver));
    assert_eq!(sent(pair.server_sends(50)).acknowledgement, answer.acknowledgement);
    assert!(matches!(pair.to_client(&answer, 50), Verdict::Deliver));
    assert_eq!(sent(pair.client_sends(1)).acknowledgement, answer.sequence.wrapping_add(50));
}

#[test]
fn five_gigabytes_wrap_around() {
    let (mut one, mut two) = (Flow::of_server(0, 7, 9, 1440), Flow::of_server(0, 9, 7, 1440));
    for n in 0..5_000_000_000_u64 / 1400 {
        let segment = one.segment(ACK, 1400);
        assert!(two.is_near(segment.sequence));
        // A thousand are lost for each that arrives: the gaps stay far below the window.
        if n % 1000 == 0 {
            two.advance(n, segment.sequence.wrapping_add(1400));
            assert_eq!(two.segment(ACK, 0).acknowledgement, one.next);
        }
    }
}

#[test]
fn a_lost_handshake_is_begun_again_at_quics_pace() {
    let mut pair = pair();
    let Sent::Waits(Some(syn)) = pair.client_sends(1200) else { panic!() };
    assert!(matches!(pair.client_sends(1200), Sent::Waits(None)), "not at once");
    pair.now += SYN_RETRY;
    let Sent::Waits(Some(again)) = pair.client_sends(1200) else { panic!("again") };
    assert_eq!(again, syn);
    for _ in 3..MAX_WAITING {
        assert!(matches!(pair.client_sends(1200), Sent::Waits(None)));
    }
    assert!(matches!(pair.client_sends(1200), Sent::Dropped("qtip_waiting_full_dropped")));
    let Verdict::Answer(syn_ack) = pair.to_server(&again, 0) else { panic!() };
    let Verdict::Opened(_, released) = pair.to_client(&syn_ack, 0) else { panic!() };
    assert_eq!(released.len(), MAX_WAITING);
    // The ACK and the first datagrams are lost: a later one opens the flow as well.
    let last = released.last().and_then(|datagram| datagram.tcp).expect("a header");
    assert!(matches!(pair.to_server(&last, 1200), Verdict::Deliver));
    assert_eq!(dropped(pair.to_client(&syn_ack, 0)), "qtip_syn_ack_unexpected_dropped");
}

#[test]
fn either_end_closes_with_rst_and_the_client_may_begin_anew() {
    let pair = pair();
    pair.open();
    let reset = pair.server.close(&pair.back()).expect("open");
    assert_eq!(reset.flags, RST | ACK);
    assert!(pair.server.is_empty() && pair.server.close(&pair.back()).is_none());
    assert!(matches!(pair.server_sends(10), Sent::Dropped("qtip_flow_missing_dropped")));
    assert!(matches!(pair.to_client(&reset, 0), Verdict::Noted));
    pair.open();
    let reset = pair.client.close(&pair.path).expect("open");
    assert!(matches!(pair.to_server(&reset, 0), Verdict::Noted));
    assert!(pair.server.is_empty() && pair.client.is_empty());
    assert_eq!(dropped(pair.to_server(&reset, 0)), "qtip_reset_unmatched_dropped");
}

#[test]
fn a_forgotten_flow_is_refused_with_rst_and_opened_anew() {
    let mut pair = pair();
    pair.open();
    pair.server = Flows::default();
    let segment = sent(pair.client_sends(1000));
    let Verdict::Refuse(reset, "qtip_flow_unknown_dropped") = pair.to_server(&segment, 1000) else {
        panic!()
    };
    assert_eq!((reset.flags, reset.sequence), (RST, segment.acknowledgement));
    assert!(matches!(pair.to_client(&reset, 0), Verdict::Noted));
    pair.open();
}

#[test]
fn a_client_that_begins_anew_is_believed_once_it_shows_the_cookie() {
    let pair = pair();
    pair.open();
    pair.client.close(&pair.path);
    assert!(pair.client.open(pair.now, &pair.path));
    pair.open_again();
    let segment = sent(pair.client_sends(700));
    assert!(matches!(pair.to_server(&segment, 700), Verdict::Deliver));
    assert_eq!(sent(pair.server_sends(1)).acknowledgement, segment.sequence.wrapping_add(700));
}

#[test]
fn a_client_that_is_not_answered_begins_anew() {
    let mut pair = pair();
    pair.open();
    let Verdict::Deliver = pair.to_client(&sent(pair.server_sends(9)), 9) else { panic!() };
    pair.now += 60 * SECOND;
    // However long it was silent before: it has to be unanswered.
    for _ in 0..RENEW_SEGMENTS - 1 {
        sent(pair.client_sends(100));
    }
    let Verdict::Deliver = pair.to_client(&sent(pair.server_sends(9)), 9) else { panic!() };
    for _ in 0..100 {
        sent(pair.client_sends(100));
    }
    pair.now += RENEW_AFTER;
    let Sent::Waits(Some(syn)) = pair.client_sends(100) else { panic!("no SYN") };
    assert_eq!(syn.flags, SYN);
    let Verdict::Answer(syn_ack) = pair.to_server(&syn, 0) else { panic!("no SYN/ACK") };
    let Verdict::Opened(_, released) = pair.to_client(&syn_ack, 0) else { panic!("not opened") };
    let first = released[0].tcp.expect("a header");
    assert!(matches!(pair.to_server(&first, 100), Verdict::Deliver));
    assert_eq!(sent(pair.server_sends(1)).acknowledgement, first.sequence.wrapping_add(100));
}

impl Pair {
    fn open_again(&self) {
        let Sent::Waits(Some(syn)) = self.client_sends(1200) else { panic!("no SYN") };
        let Verdict::Answer(syn_ack) = self.to_server(&syn, 0) else { panic!("no SYN/ACK") };
        let Verdict::Opened(ack, _) = self.to_client(&syn_ack, 0) else { panic!("not opened") };
        assert!(matches!(self.to_server(&ack, 0), Verdict::Noted));
    }
}

#[test]
fn what_makes_no_sense_is_dropped_by_name() {
    let pair = pair();
    let raw = |flags| TcpSegment { sequence: 7, acknowledgement: 9, flags, window: 1, options: None };
    for flags in
        [0, FIN, SYN | FIN, SYN | RST, SYN | ACK | RST, FIN | RST, FIN | SYN | RST | ACK, PSH, 0x20 | ACK]
    {
        assert_eq!(dropped(pair.to_server(&raw(flags), 0)), "tcp_flags_invalid_dropped", "{flags:#x}");
    }
    assert_eq!(dropped(pair.to_client(&raw(SYN), 0)), "qtip_syn_unexpected_dropped");
    assert_eq!(dropped(pair.to_client(&raw(SYN | ACK), 0)), "qtip_syn_ack_unexpected_dropped");
    assert_eq!(dropped(pair.to_client(&raw(ACK), 5)), "qtip_state_mismatched_dropped");
    assert_eq!(dropped(pair.to_server(&raw(ACK), 5)), "qtip_flow_unknown_dropped");
    assert_eq!(dropped(pair.to_server(&raw(FIN | ACK), 0)), "qtip_flow_unknown_dropped");
    assert_eq!(dropped(pair.to_server(&raw(RST), 0)), "qtip_reset_unmatched_dropped");
    assert_eq!(dropped(pair.to_client(&raw(RST), 0)), "qtip_reset_out_of_window_dropped");
    let small =
        TcpSegment { options: Some(wirepath_drivers::SynOptions { mss: 1199, window_scale: 0 }), ..raw(SYN) };
    assert_eq!(dropped(pair.to_server(&small, 0)), "qtip_mss_undersized_dropped");

    pair.open();
    let mut far = sent(pair.client_sends(10));
    far.sequence = far.sequence.wrapping_add(WINDOW + 5000);
    assert_eq!(dropped(pair.to_server(&far, 10)), "qtip_sequence_out_of_window_dropped");
    far.flags = RST;
    assert_eq!(dropped(pair.to_server(&far, 0)), "qtip_reset_out_of_window_dropped");
    assert_eq!(pair.server.len(), 1);
    assert!(matches!(pair.client_sends(2000), Sent::Dropped("qtip_mss_exceeded_dropped")));
}

#[test]
fn a_tcp_client_that_says_fin_is_let_go() {
    let pair = pair();
    pair.open();
    let mut fin = sent(pair.client_sends(0));
    fin.flags = FIN | ACK | PSH;
    let Verdict::Answer(reset) = pair.to_server(&fin, 0) else { panic!() };
    assert_eq!((reset.flags, reset.acknowledgement), (RST | ACK, fin.sequence.wrapping_add(1)));
    assert!(pair.server.is_empty());
}

#[test]
fn numbers_as_msquic_sends_them_are_taken() {
    let pair = pair();
    let syn = TcpSegment { sequence: 99, acknowledgement: 0, flags: SYN, window: 0xffff, options: None };
    let Verdict::Answer(syn_ack) = pair.to_server(&syn, 0) else { panic!() };
    let ack =
        TcpSegment { sequence: 100, acknowledgement: syn_ack.sequence.wrapping_add(1), flags: ACK, ..syn };
    assert!(matches!(pair.to_server(&ack, 0), Verdict::Noted));
    // The same numbers each time: one above the ACK's, and acknowledging nothing new.
    let data = TcpSegment { sequence: 101, ..ack };
    for _ in 0..1000 {
        assert!(matches!(pair.to_server(&data, 1200), Verdict::Deliver));
        sent(pair.server_sends(1200));
    }
}

#[test]
fn a_flood_of_syns_leaves_nothing_and_one_of_strangers_is_answered_at_a_bounded_rate() {
    let mut pair = pair();
    let raw = |flags, n| TcpSegment { sequence: n, acknowledgement: n, flags, window: 1, options: None };
    let mut refused = 0;
    for n in 0..100_000_u32 {
        pair.path.local.set_port((n % 60_000) as u16 + 1);
        assert!(matches!(pair.to_server(&raw(SYN, n), 0), Verdict::Answer(_)));
        refused += u64::from(matches!(pair.to_server(&raw(ACK, n), 9), Verdict::Refuse(..)));
    }
    assert!(pair.server.len() <= 1, "a cookie is guessed once in 2^28 times");
    assert!(refused <= RESETS_PER_SECOND / 10 + 1, "{refused}");
}

#[test]
fn established_flows_are_bounded_and_the_silent_make_room() {
    let mut pair = pair();
    let mut opened = 0;
    let open = |pair: &mut Pair, n: usize| {
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + n as u32);
        pair.path.local = std::net::SocketAddr::new(address.into(), 5000);
        let syn = TcpSegment { sequence: 1, acknowledgement: 0, flags: SYN, window: 1, options: None };
        let Verdict::Answer(answer) = pair.to_server(&syn, 0) else { panic!() };
        let acknowledgement = answer.sequence.wrapping_add(1);
        let ack = TcpSegment { sequence: 2, acknowledgement, flags: ACK, ..syn };
        pair.to_server(&ack, 0)
    };
    for n in 0..2 * MAX_FLOWS {
        match open(&mut pair, n) {
            Verdict::Noted => opened += 1,
            other => assert_eq!(dropped(other), "qtip_flow_limited_dropped"),
        }
    }
    assert!(opened <= MAX_FLOWS && opened > MAX_FLOWS / 2, "{opened}");
    assert_eq!(pair.server.len(), opened);
    pair.now += EVICT_AFTER;
    for n in 0..1000 {
        assert!(matches!(open(&mut pair, 3 * MAX_FLOWS + n), Verdict::Noted));
    }
    assert!(pair.server.len() <= MAX_FLOWS);
}

#[test]
fn cookies_bring_the_segment_size_back_and_grow_old() {
    let (cookies, path) = (Cookies::default(), pair().path);
    let now = 1000 * SECOND;
    for (told, kept) in
        [(1200, 1200), (1219, 1200), (1440, 1440), (1459, 1440), (9000, 1460), (u16::MAX, u16::MAX)]
    {
        let number = cookies.make(now, &path, told);
        assert_eq!(cookies.check(now, &path, number), Some(kept));
        assert_eq!(cookies.check(now + 64 * SECOND, &path, number), Some(kept));
        assert_eq!(cookies.check(now + 128 * SECOND, &path, number), None);
        assert_eq!(cookies.check(now, &path, number ^ 0x100), None);
        let other = NetPath { local: path.remote, remote: path.local };
        assert_eq!(cookies.check(now, &other, number), None);
    }
}

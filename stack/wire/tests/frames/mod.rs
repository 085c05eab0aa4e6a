//! Seeded frames and rule lists that hit the interesting places: lawful, nearly lawful, and hostile.
//! Shared by the tests of the parsers and those of the XDP program.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use wirepath_wire::rules::{
    Action, CidField, CidPattern, IpPrefix, Match, PortSet, Rule, Rules, RulesError, VlanPolicy,
};

/// SplitMix64: a seed gives the same sequence everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub(crate) fn one<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[self.below(choice.len() as u64) as usize]
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// Few ports, so that rules and frames meet.
    fn port(&mut self) -> u16 {
        match self.below(10) {
            0 => self.next() as u16,
            1 => self.one(&[0, 1, 65_535]),
            _ => self.one(&[42, 43, 443, 444]),
        }
    }

    fn v4(&mut self) -> Ipv4Addr {
        match self.below(10) {
            0 => Ipv4Addr::from_bits(self.next() as u32),
            1 => Ipv4Addr::from_bits(self.one(&[0, u32::MAX])),
            _ => Ipv4Addr::new(10, self.below(2) as u8, 0, self.below(4) as u8),
        }
    }

    fn v6(&mut self) -> Ipv6Addr {
        match self.below(10) {
            0 => Ipv6Addr::from_bits(u128::from(self.next()) << 64 | u128::from(self.next())),
            1 => Ipv6Addr::from_bits(self.one(&[0, u128::MAX])),
            _ => Ipv6Addr::new(0xfd00, self.below(2) as u16, 0, 0, 0, 0, 0, self.below(4) as u16),
        }
    }

    /// Two letters, so that prefixes meet.
    fn cid_bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| 0xa0 + self.below(2) as u8).collect()
    }
}

/// One frame. Most are lawful up to some layer; one in thirty is noise.
pub(crate) fn frame(random: &mut Random) -> Vec<u8> {
    if random.percent(3) {
        let len = random.below(100) as usize;
        return random.bytes(len);
    }
    let mut frame = random.bytes(12);
    let v6 = random.percent(45);
    let tags = match random.below(20) {
        0..=2 => 1,
        3 => 2,
        _ => 0,
    };
    for _ in 0..tags {
        let tpid: u16 = random.one(&[0x8100, 0x88a8]);
        let tci = random.one(&[0, 0xe000, 5, 0x2005, 7, 0x0fff]);
        frame.extend_from_slice(&tpid.to_be_bytes());
        frame.extend_from_slice(&u16::to_be_bytes(tci));
    }
    let ether_type = match random.below(40) {
        0 => random.next() as u16,
        1 => random.one(&[0x0806, 0x0800, 0x86dd]),
        _ if v6 => 0x86dd,
        _ => 0x0800,
    };
    frame.extend_from_slice(&ether_type.to_be_bytes());
    let protocol = match random.below(20) {
        0..=11 => 17,
        12..=16 => 6,
        17 => random.one(&[1, 58, 50, 47]),
        18 => random.one(&[0, 43, 44, 51, 59, 60, 135, 139, 140]),
        _ => random.next() as u8,
    };
    let transport = match protocol {
        17 => udp(random),
        6 => tcp(random),
        _ => {
            let len = random.below(40) as usize;
            random.bytes(len)
        }
    };
    if v6 {
        ipv6(random, &mut frame, protocol, &transport)
    } else {
        ipv4(random, &mut frame, protocol, &transport)
    }
    damage(random, &mut frame);
    frame
}

fn damage(random: &mut Random, frame: &mut Vec<u8>) {
    match random.below(20) {
        0 => frame.truncate(random.below(frame.len() as u64 + 1) as usize),
        1 | 2 => frame.extend_from_slice(&[0; 46][..random.below(46) as usize]),
        3 => {
            for _ in 0..=random.below(3) {
                let at = random.below(frame.len() as u64) as usize;
                frame[at] ^= 1 << random.below(8);
            }
        }
        _ => {}
    }
}

fn nearly(random: &mut Random, right: usize) -> u16 {
    match random.below(30) {
        0 => random.next() as u16,
        1 => (right as u16).wrapping_add(1),
        2 => (right as u16).wrapping_sub(1),
        _ => right as u16,
    }
}

fn ipv4(random: &mut Random, frame: &mut Vec<u8>, protocol: u8, payload: &[u8]) {
    let options = if random.percent(4) { random.below(11) as usize * 4 } else { 0 };
    let start = frame.len();
    frame.push(if random.percent(1) { random.next() as u8 } else { 0x45 + (options / 4) as u8 });
    frame.push(random.next() as u8);
    let total_len = nearly(random, 20 + options + payload.len());
    frame.extend_from_slice(&total_len.to_be_bytes());
    frame.extend_from_slice(&random.bytes(2));
    let fragment: u16 = match random.below(20) {
        0 => 0x2000,
        1 => random.next() as u16 & 0x1fff,
        2 => 0x8000,
        _ => random.one(&[0x4000, 0]),
    };
    frame.extend_from_slice(&fragment.to_be_bytes());
    frame.extend_from_slice(&[64, protocol, 0, 0]);
    frame.extend_from_slice(&random.v4().octets());
    frame.extend_from_slice(&random.v4().octets());
    let options = random.bytes(options);
    frame.extend_from_slice(&options);
    if !random.percent(3) {
        let sum = wirepath_wire::checksum::of(&frame[start..]);
        frame[start + 10..start + 12].copy_from_slice(&sum.to_be_bytes());
    }
    frame.extend_from_slice(payload);
}

fn ipv6(random: &mut Random, frame: &mut Vec<u8>, protocol: u8, payload: &[u8]) {
    let mut extensions = Vec::new();
    let mut first = protocol;
    while random.percent(4) {
        let kind = random.one(&[0u8, 43, 44, 60]);
        let header =
            [first, if kind == 44 { 0 } else { random.below(2) as u8 }, 0, random.below(2) as u8, 0, 0, 0, 0];
        extensions.splice(0..0, header);
        first = kind;
    }
    let version = if random.percent(1) { random.next() as u8 } else { 0x60 | random.below(16) as u8 };
    frame.push(version);
    frame.extend_from_slice(&random.bytes(3));
    let len = nearly(random, extensions.len() + payload.len());
    frame.extend_from_slice(&len.to_be_bytes());
    frame.extend_from_slice(&[first, 64]);
    frame.extend_from_slice(&random.v6().octets());
    frame.extend_from_slice(&random.v6().octets());
    frame.extend_from_slice(&extensions);
    frame.extend_from_slice(payload);
}

fn udp(random: &mut Random) -> Vec<u8> {
    let payload = quic(random);
    let mut datagram = Vec::new();
    datagram.extend_from_slice(&random.port().to_be_bytes());
    datagram.extend_from_slice(&random.port().to_be_bytes());
    let len = nearly(random, 8 + payload.len());
    datagram.extend_from_slice(&len.to_be_bytes());
    datagram.extend_from_slice(&random.bytes(2));
    datagram.extend_from_slice(&payload);
    datagram
}

fn tcp(random: &mut Random) -> Vec<u8> {
    let payload = quic(random);
    let options = if random.percent(20) { random.below(11) as usize * 4 } else { 0 };
    let mut segment = Vec::new();
    segment.extend_from_slice(&random.port().to_be_bytes());
    segment.extend_from_slice(&random.port().to_be_bytes());
    segment.extend_from_slice(&random.bytes(8));
    segment.push(if random.percent(4) { random.next() as u8 } else { (((20 + options) / 4) << 4) as u8 });
    let flags =
        if random.percent(20) { random.next() as u8 } else { random.one(&[0x10, 0x18, 0x02, 0x14, 0x11]) };
    segment.push(flags);
    segment.extend_from_slice(&random.bytes(6 + options));
    segment.extend_from_slice(&payload);
    segment
}

fn quic(random: &mut Random) -> Vec<u8> {
    let mut packet = Vec::new();
    match random.below(5) {
        0 | 1 => {
            packet.push(0x80 | random.next() as u8);
            packet.extend_from_slice(&random.one(&[0u32, 1, 0x6b33_43cf]).to_be_bytes());
            for _ in 0..2 {
                let len = if random.percent(3) { random.below(256) } else { random.below(21) } as usize;
                packet.push(len as u8);
                let cut = if random.percent(5) { random.below(len as u64 + 1) as usize } else { len };
                let cid = random.cid_bytes(cut);
                packet.extend_from_slice(&cid);
            }
        }
        2 | 3 => {
            packet.push(0x40 | random.next() as u8 & 0x7f);
            let len = random.below(21) as usize;
            let cid = random.cid_bytes(len);
            packet.extend_from_slice(&cid);
        }
        _ => {}
    }
    let more = random.below(12) as usize;
    let more = random.bytes(more);
    packet.extend_from_slice(&more);
    packet
}

/// One rule list. Ports, addresses and CIDs are of the same few values as those of [`frame`].
pub(crate) fn rules(random: &mut Random) -> Rules {
    let count = random.one(&[1, 5, 20, 60, 150]);
    let mut list = Rules::builder().vlan(random.one(&[
        VlanPolicy::Untagged,
        VlanPolicy::Untagged,
        VlanPolicy::Untagged,
        VlanPolicy::Any,
        VlanPolicy::Any,
        VlanPolicy::Id(5),
    ]));
    if random.percent(30) {
        let addresses: Vec<IpAddr> = (0..random.below(6)).map(|_| address(random)).collect();
        list = list.local_addresses(addresses);
    }
    for _ in 0..count {
        let next = list.clone().rule(rule(random));
        match next.clone().build() {
            Ok(_) => list = next,
            // One shape too many: leave that rule out.
            Err(RulesError::TooManyCidShapes) => {}
            Err(error) => panic!("{error}"),
        }
    }
    list.build().expect("checked rule by rule")
}

fn address(random: &mut Random) -> IpAddr {
    if random.percent(50) { random.v4().into() } else { random.v6().into() }
}

fn rule(random: &mut Random) -> Rule {
    let action =
        random.one(&[Action::Pass, Action::Drop, Action::Redirect, Action::Redirect, Action::L2Forward]);
    let matching = match random.below(25) {
        0 if random.percent(20) => Match::All,
        1 if random.percent(20) => Match::Udp,
        2..=4 => Match::UdpDstPort(random.port()),
        5 | 6 => Match::UdpPortSet(ports(random)),
        7..=9 => {
            let v6 = random.percent(50);
            let mut end = || {
                let ip: IpAddr = if v6 { random.v6().into() } else { random.v4().into() };
                SocketAddr::new(ip, random.port())
            };
            Match::UdpTuple { src: end(), dst: end() }
        }
        10..=12 => {
            let address = address(random);
            let bits = if address.is_ipv4() { 33 } else { 129 };
            let len = if random.percent(10) { random.below(bits) } else { bits - 1 - random.below(4) };
            Match::IpDst(IpPrefix::new(address, len as u8).expect("within the address"))
        }
        13 => Match::IpNextHeader(random.one(&[6, 17, 1, 58, 50, 255, 44, 0])),
        14 | 15 => Match::TcpDstPort(random.port()),
        16 => Match::TcpPortSet(ports(random)),
        17 | 18 => Match::TcpControl(random.port()),
        19..=21 => Match::QuicFlow(pattern(random)),
        _ => Match::TcpQuicFlow(pattern(random)),
    };
    Rule { matching, action }
}

fn ports(random: &mut Random) -> PortSet {
    (0..random.below(4)).map(|_| random.port()).collect()
}

fn pattern(random: &mut Random) -> CidPattern {
    let field = random.one(&[CidField::LongSource, CidField::LongDestination, CidField::ShortDestination]);
    let offset = random.one(&[0, 0, 1, 3, 19]);
    let len = random.one(&[1, 2, 1, 20 - offset]);
    let bytes = random.cid_bytes(len.min(20 - offset));
    let port = random.port();
    CidPattern::new(port, field, offset, &bytes).expect("within 20 bytes")
}

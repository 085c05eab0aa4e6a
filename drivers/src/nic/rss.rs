//! Receive-side scaling: which queue a flow arrives at.
#![allow(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

use super::Request;

/// `linux/ethtool.h`.
const ETHTOOL_GRXFH: u32 = 0x29;
const ETHTOOL_GRSSH: u32 = 0x46;
const ETH_RSS_HASH_TOEPLITZ: u8 = 1;
/// Source and destination, addresses and ports.
const RXH_ALL: u64 = 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7;
/// Flow types, by transport and address family.
const TCP_V4_FLOW: u32 = 0x01;
const UDP_V4_FLOW: u32 = 0x02;
const TCP_V6_FLOW: u32 = 0x05;
const UDP_V6_FLOW: u32 = 0x06;

/// Words of the largest table and key that are read: 4096 places and 256 bytes, more than any driver has.
const CONFIG_WORDS: usize = 4096 + 64;

/// How an interface spreads flows over its queues: a Toeplitz hash of addresses and ports, and a table of queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rss {
    key: Vec<u8>,
    table: Vec<u32>,
    /// Whether ports count, for UDP and TCP over IPv4 and IPv6.
    ports: [[bool; 2]; 2],
}

/// `struct ethtool_rxfh` with room behind it.
#[repr(C)]
struct Rxfh {
    cmd: u32,
    rss_context: u32,
    indir_size: u32,
    key_size: u32,
    hfunc: u8,
    input_xfrm: u8,
    rsvd8: [u8; 2],
    rsvd32: u32,
    config: [u32; CONFIG_WORDS],
}

/// The part of `struct ethtool_rxnfc` that `ETHTOOL_GRXFH` uses.
#[repr(C)]
struct Fields {
    cmd: u32,
    flow_type: u32,
    data: u64,
}

impl Rss {
    /// Asks the driver. `None` where it has no such hash, or does not tell.
    pub(super) fn of(request: &Request) -> Option<Self> {
        let mut rxfh = Rxfh {
            cmd: ETHTOOL_GRSSH,
            rss_context: 0,
            indir_size: 0,
            key_size: 0,
            hfunc: 0,
            input_xfrm: 0,
            rsvd8: [0; 2],
            rsvd32: 0,
            config: [0; CONFIG_WORDS],
        };
        // First the sizes, then what is of those sizes.
        for _ in 0..2 {
            // SAFETY: the structure of this command, as `linux/ethtool.h` lays it out; the kernel writes no more behind
            // it than the sizes in it allow: nothing, then what was checked to fit.
            unsafe { request.ethtool(&mut rxfh) }.ok()?;
            if rxfh.indir_size as usize * 4 + rxfh.key_size as usize > CONFIG_WORDS * 4 {
                return None;
            }
        }
        if rxfh.hfunc != ETH_RSS_HASH_TOEPLITZ || rxfh.input_xfrm != 0 || rxfh.indir_size == 0 {
            return None;
        }
        let (table, rest) = rxfh.config.split_at(rxfh.indir_size as usize);
        let key = rest.iter().flat_map(|word| word.to_ne_bytes()).take(rxfh.key_size as usize).collect();
        let ports = [[UDP_V4_FLOW, UDP_V6_FLOW], [TCP_V4_FLOW, TCP_V6_FLOW]];
        let ports = ports.map(|families| families.map(|flow_type| counts_ports(request, flow_type)));
        Some(Self { key, table: table.to_vec(), ports })
    }

    /// The queue at which packets from `src` to `dst` arrive, by UDP or by TCP. `None` if ports don't count, so that
    /// none can be chosen to get elsewhere.
    pub fn queue(&self, src: SocketAddr, dst: SocketAddr, tcp: bool) -> Option<u32> {
        if !self.ports[usize::from(tcp)][usize::from(src.is_ipv6())] {
            return None;
        }
        let hash = toeplitz(&self.key, &input(src, dst)) as usize;
        self.table.get(hash % self.table.len().max(1)).copied()
    }
}

fn counts_ports(request: &Request, flow_type: u32) -> bool {
    let mut fields = Fields { cmd: ETHTOOL_GRXFH, flow_type, data: 0 };
    // SAFETY: the structure of this command: for it the kernel reads and writes these fields alone.
    unsafe { request.ethtool(&mut fields) }.is_ok() && fields.data & RXH_ALL == RXH_ALL
}

/// What is hashed: addresses and ports, as they lie in the packet.
fn input(src: SocketAddr, dst: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(36);
    for end in [src, dst] {
        match end.ip() {
            IpAddr::V4(ip) => bytes.extend(ip.octets()),
            IpAddr::V6(ip) => bytes.extend(ip.octets()),
        }
    }
    bytes.extend(src.port().to_be_bytes());
    bytes.extend(dst.port().to_be_bytes());
    bytes
}

/// The Toeplitz hash as NICs compute it: for each bit of the input that is set, the 32 bits of the key that start there.
fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
    let bit = |at: usize| key.get(at / 8).is_some_and(|byte| byte >> (7 - at % 8) & 1 == 1);
    let window = |at: usize| (at..at + 32).fold(0_u32, |word, at| word << 1 | u32::from(bit(at)));
    let set = (0..input.len() * 8).filter(|at| input[at / 8] >> (7 - at % 8) & 1 == 1);
    set.fold(0, |hash, at| hash ^ window(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of Microsoft's "Verifying the RSS Hash Calculation".
    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0,
        0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42,
        0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn hashes_are_those_of_the_published_table() {
        for (src, dst, hash) in [
            ("66.9.149.187:2794", "161.142.100.80:1766", 0x51cc_c178),
            ("199.92.111.2:14230", "65.69.140.83:4739", 0xc626_b0ea),
            ("24.19.198.95:12898", "12.22.207.184:38024", 0x5c2b_394a),
            ("[3ffe:2501:200:1fff::7]:2794", "[3ffe:2501:200:3::1]:1766", 0x4020_7d3d),
        ] {
            assert_eq!(toeplitz(&KEY, &input(addr(src), addr(dst))), hash, "{src} {dst}");
        }
    }

    #[test]
    fn a_source_port_can_be_found_for_every_queue() {
        let table = (0..128).map(|place| place % 8).collect();
        let rss = Rss { key: KEY.to_vec(), table, ports: [[true, true], [false, true]] };
        let (server, ours) = (addr("10.0.0.2:443"), addr("10.0.0.1:0"));
        for queue in 0..8 {
            let lands = |port: &u16| {
                let ours = SocketAddr::new(ours.ip(), *port);
                rss.queue(server, ours, false) == Some(queue)
            };
            let found = (32_768..33_000).filter(lands).count();
            assert!(found >= 10, "{found} of 232 for queue {queue}");
        }
        assert_eq!(rss.queue(server, addr("10.0.0.1:5"), true), None);
    }
}

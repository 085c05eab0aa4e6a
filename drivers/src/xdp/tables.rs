//! A rule list compiled into the tables the program reads (`drivers/bpf/tables.h` lays out the same bytes).
//!
//! Every table answers with the lowest index of a rule that matches, in a number of steps that does not grow
//! with the rules; the least of the answers is the rule that comes first.
#![allow(unsafe_code, reason = "plain data in the layout of the XDP program")]

use std::{mem::offset_of, net::IpAddr, ops::Range};

use wirepath_wire::{
    protocol,
    rules::{Action, CidField, CidPattern, MAX_RULES, Match, Rule, Rules, VlanPolicy},
};

use super::{
    exact::{EXACT_BUCKETS, EXACT_SLOTS, ExactEntry, ExactKey, ExactTable},
    prefixes::{PREFIX_SLOTS, intervals},
};

/// No rule matches.
pub(super) const NO_RULE: u16 = u16::MAX;
const PORTS: usize = 65_536;
const CID_SHAPES: usize = wirepath_wire::rules::MAX_CID_SHAPES;

const FEATURE_PREFIX_V4: u32 = 1 << 0;
const FEATURE_PREFIX_V6: u32 = 1 << 1;
const FEATURE_TUPLE: u32 = 1 << 2;
const FEATURE_CID: u32 = 1 << 3;
const FEATURE_LOCAL: u32 = 1 << 4;

const VLAN_ANY: u32 = 0xffff;

/// Where in the word of its action a rule's owner is.
const OWNER_SHIFT: u32 = 16;

/// `struct rule_tables`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct RuleTables {
    features: u32,
    vlan: u32,
    pub(super) action: [RuleAction; MAX_RULES],
    pub(super) protocol: [u16; 256],
    pub(super) udp_port: [u16; PORTS],
    pub(super) tcp_port: [u16; PORTS],
    pub(super) tcp_control_port: [u16; PORTS],
    prefix_v4_start: [u32; PREFIX_SLOTS],
    prefix_v4_rule: [u16; PREFIX_SLOTS],
    prefix_v6_start: [Address6; PREFIX_SLOTS],
    prefix_v6_rule: [u16; PREFIX_SLOTS],
    exact_seed: u64,
    exact_displacement: [u16; EXACT_BUCKETS],
    exact: [ExactEntry; EXACT_SLOTS],
    cid: [CidShapes; 4],
}

/// `struct rule_action`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub(super) struct RuleAction {
    pub(super) action: u32,
    pub(super) counter: u32,
}

#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Address6 {
    high: u64,
    low: u64,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
struct CidShape {
    field: u8,
    offset: u8,
    len: u8,
    zero: u8,
}

#[derive(Clone, Copy, Default)]
#[repr(C)]
struct CidShapes {
    count: u32,
    shape: [CidShape; CID_SHAPES],
}

// The layout has no padding: what is compared and handed over as bytes is all of it.
const _: () = assert!(
    size_of::<RuleTables>()
        == 8 + MAX_RULES * 8
            + 512
            + 3 * 2 * PORTS
            + PREFIX_SLOTS * (4 + 2 + 16 + 2)
            + 8
            + EXACT_BUCKETS * 2
            + EXACT_SLOTS * 48
            + 4 * (4 + 4 * CID_SHAPES)
);

impl RuleTables {
    /// Compiles `rules`; rule `i` counts its hits in counter `counters[i]` and redirects to sockets of `owners[i]`, or of
    /// owner 0 where that ends.
    pub(super) fn compile(rules: &Rules, counters: &[u32], owners: &[u16]) -> Box<Self> {
        // SAFETY: zero bytes are a valid value of integers. Made in place: half a megabyte is no stack frame.
        let mut tables = unsafe { Box::<Self>::new_zeroed().assume_init() };
        tables.vlan = match rules.vlan() {
            VlanPolicy::Untagged => 0,
            VlanPolicy::Id(id) => id.into(),
            VlanPolicy::Any => VLAN_ANY,
        };
        let owners = owners.iter().copied().chain(std::iter::repeat(0));
        let rules_of = rules.as_slice().iter().zip(owners);
        for (slot, ((rule, owner), counter)) in tables.action.iter_mut().zip(rules_of.zip(counters)) {
            let action = action_number(rule.action) | u32::from(owner) << OWNER_SHIFT;
            *slot = RuleAction { action, counter: *counter };
        }
        tables.fill_ports(rules.as_slice());
        tables.fill_prefixes(rules.as_slice());
        tables.fill_exact(rules);
        tables
    }

    /// What holds for all packets.
    pub(super) fn settings(&self) -> (u32, u32) {
        (self.features, self.vlan)
    }

    /// What the rules do, by their position.
    pub(super) fn actions(&self) -> &[RuleAction; MAX_RULES] {
        &self.action
    }

    /// The tables of which a packet reads one entry.
    pub(super) fn ports(&self) -> [&[u16]; 4] {
        [&self.udp_port, &self.tcp_port, &self.tcp_control_port, &self.protocol]
    }

    /// The tables of which a packet reads several entries, as bytes.
    pub(super) fn search_bytes(&self) -> &[u8] {
        let start = offset_of!(Self, prefix_v4_start);
        // SAFETY: from that field to the end of the value, which is initialised and without padding.
        unsafe {
            std::slice::from_raw_parts((&raw const *self).cast::<u8>().add(start), size_of::<Self>() - start)
        }
    }

    /// Takes over what a patch changes.
    pub(super) fn copy_ports_and_actions(&mut self, from: &Self, actions: Range<usize>) {
        self.action[actions.clone()].copy_from_slice(&from.action[actions]);
        self.protocol = from.protocol;
        self.udp_port.copy_from_slice(&from.udp_port);
        self.tcp_port.copy_from_slice(&from.tcp_port);
        self.tcp_control_port.copy_from_slice(&from.tcp_control_port);
    }

    /// The rules that depend on protocol and destination port alone. Written last to first, so that what is
    /// first in the list stands in the end.
    fn fill_ports(&mut self, rules: &[Rule]) {
        self.protocol.fill(NO_RULE);
        self.udp_port.fill(NO_RULE);
        self.tcp_port.fill(NO_RULE);
        self.tcp_control_port.fill(NO_RULE);
        for (at, rule) in rules.iter().enumerate().rev() {
            let at = at as u16;
            match &rule.matching {
                Match::All => {
                    self.protocol.fill(at);
                    self.udp_port.fill(at);
                    self.tcp_port.fill(at);
                    self.tcp_control_port.fill(at);
                }
                Match::Udp | Match::IpNextHeader(protocol::UDP) => self.udp_port.fill(at),
                Match::IpNextHeader(protocol::TCP) => {
                    self.tcp_port.fill(at);
                    self.tcp_control_port.fill(at);
                }
                Match::IpNextHeader(number) => self.protocol[usize::from(*number)] = at,
                Match::UdpDstPort(port) => self.udp_port[usize::from(*port)] = at,
                Match::UdpPortSet(ports) => {
                    ports.iter().for_each(|port| self.udp_port[usize::from(port)] = at);
                }
                Match::TcpDstPort(port) => self.put_tcp(*port, at),
                Match::TcpPortSet(ports) => ports.iter().for_each(|port| self.put_tcp(port, at)),
                Match::TcpControl(port) => self.tcp_control_port[usize::from(*port)] = at,
                Match::UdpTuple { .. } | Match::IpDst(_) | Match::QuicFlow(_) | Match::TcpQuicFlow(_) => {}
            }
        }
    }

    fn put_tcp(&mut self, port: u16, at: u16) {
        self.tcp_port[usize::from(port)] = at;
        self.tcp_control_port[usize::from(port)] = at;
    }

    fn fill_prefixes(&mut self, rules: &[Rule]) {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (at, rule) in rules.iter().enumerate() {
            let Match::IpDst(prefix) = &rule.matching else { continue };
            let len = u32::from(prefix.prefix_len());
            match prefix.address() {
                IpAddr::V4(address) => {
                    let first = u128::from(address.to_bits());
                    v4.push((first, first | u128::from(u32::MAX.checked_shr(len).unwrap_or(0)), at as u16));
                }
                IpAddr::V6(address) => {
                    let first = address.to_bits();
                    v6.push((first, first | u128::MAX.checked_shr(len).unwrap_or(0), at as u16));
                }
            }
        }
        if !v4.is_empty() {
            self.features |= FEATURE_PREFIX_V4;
            for (at, (start, rule)) in intervals(&v4, u32::MAX.into()).into_iter().enumerate() {
                self.prefix_v4_start[at] = start as u32;
                self.prefix_v4_rule[at] = rule;
            }
        }
        if !v6.is_empty() {
            self.features |= FEATURE_PREFIX_V6;
            for (at, (start, rule)) in intervals(&v6, u128::MAX).into_iter().enumerate() {
                self.prefix_v6_start[at] = Address6 { high: (start >> 64) as u64, low: start as u64 };
                self.prefix_v6_rule[at] = rule;
            }
        }
    }

    fn fill_exact(&mut self, rules: &Rules) {
        let mut keys = Vec::new();
        if let Some(addresses) = rules.local_addresses() {
            self.features |= FEATURE_LOCAL;
            keys.extend(addresses.iter().map(|address| (ExactKey::local(*address), 0)));
        }
        for (at, rule) in rules.as_slice().iter().enumerate() {
            let at = at as u16;
            match &rule.matching {
                Match::UdpTuple { src, dst } => {
                    self.features |= FEATURE_TUPLE;
                    keys.push((ExactKey::tuple(*src, *dst), at));
                }
                Match::QuicFlow(pattern) => {
                    self.add_shape(pattern, false);
                    keys.push((ExactKey::cid(pattern, false), at));
                }
                Match::TcpQuicFlow(pattern) => {
                    self.add_shape(pattern, true);
                    keys.push((ExactKey::cid(pattern, true), at));
                }
                _ => {}
            }
        }
        if keys.is_empty() {
            return;
        }
        let table = ExactTable::of(keys);
        self.exact_seed = table.seed;
        self.exact_displacement = *table.displacement;
        self.exact.copy_from_slice(&table.entries);
    }

    fn add_shape(&mut self, pattern: &CidPattern, tcp: bool) {
        self.features |= FEATURE_CID;
        let short = pattern.field() == CidField::ShortDestination;
        let shape = CidShape {
            field: field_number(pattern.field()),
            offset: pattern.offset() as u8,
            len: pattern.bytes().len() as u8,
            zero: 0,
        };
        let shapes = &mut self.cid[usize::from(tcp) * 2 + usize::from(short)];
        let count = shapes.count as usize;
        // `Rules` holds no more shapes than there are places.
        if !shapes.shape[..count].contains(&shape) && count < CID_SHAPES {
            shapes.shape[count] = shape;
            shapes.count += 1;
        }
    }
}

fn action_number(action: Action) -> u32 {
    match action {
        Action::Pass => 0,
        Action::Drop => 1,
        Action::Redirect => 2,
        Action::L2Forward => 3,
    }
}

/// `enum cid_field`.
pub(super) fn field_number(field: CidField) -> u8 {
    match field {
        CidField::LongSource => 0,
        CidField::LongDestination => 1,
        CidField::ShortDestination => 2,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use wirepath_wire::rules::{IpPrefix, PortSet};

    use super::*;

    /// The tables a packet is looked up in: what the program branches on, and how often it asks the hash table for a
    /// connection ID. All else in the program is of fixed length.
    fn look_ups(kind: &dyn Fn(u16) -> Match, count: u16) -> (u32, [u32; 4]) {
        let rules = (0..count).map(|n| Rule { matching: kind(n), action: Action::Drop });
        let rules = Rules::new(rules).unwrap();
        let counters: Vec<u32> = (0..count.into()).collect();
        let tables = RuleTables::compile(&rules, &counters, &[]);
        (tables.features, tables.cid.map(|shapes| shapes.count))
    }

    /// A kind of rule, as the nth of its kind; the features it takes, and how many look-ups of connection IDs.
    type Kind<'a> = (&'a dyn Fn(u16) -> Match, u32, u32);

    /// A packet costs the same number of look-ups with 255 rules of a kind as with one.
    #[test]
    fn look_ups_do_not_grow_with_rules_of_a_kind() {
        let tuple = |src: &str, dst: &str| {
            let (src, dst): (SocketAddr, SocketAddr) = (src.parse().unwrap(), dst.parse().unwrap());
            move |n| Match::UdpTuple { src, dst: SocketAddr::new(dst.ip(), n) }
        };
        let cid = |field| move |n: u16| CidPattern::new(443, field, 1, &n.to_be_bytes()).unwrap();
        let [source, destination, short] =
            [CidField::LongSource, CidField::LongDestination, CidField::ShortDestination].map(cid);
        let v6 = |n: u16| IpAddr::from([0xfd00, n, 0, 0, 0, 0, 0, 0]);
        let kinds: [Kind<'_>; 18] = [
            (&|_| Match::All, 0, 0),
            (&|_| Match::Udp, 0, 0),
            (&Match::UdpDstPort, 0, 0),
            (&|n| Match::UdpPortSet(PortSet::from_iter([n, n + 1000])), 0, 0),
            (&tuple("10.0.0.1:1", "10.0.0.2:1"), FEATURE_TUPLE, 0),
            (&tuple("[fd00::1]:1", "[fd00::2]:1"), FEATURE_TUPLE, 0),
            (&|n| Match::IpDst(IpPrefix::new([10, n as u8, 0, 0].into(), 16).unwrap()), FEATURE_PREFIX_V4, 0),
            (&|n| Match::IpDst(IpPrefix::new(v6(n), 32).unwrap()), FEATURE_PREFIX_V6, 0),
            (&|n| Match::IpNextHeader(n as u8), 0, 0),
            (&Match::TcpDstPort, 0, 0),
            (&|n| Match::TcpPortSet(PortSet::from_iter([n, n + 1000])), 0, 0),
            (&Match::TcpControl, 0, 0),
            (&|n| Match::QuicFlow(source(n)), FEATURE_CID, 1),
            (&|n| Match::QuicFlow(destination(n)), FEATURE_CID, 1),
            (&|n| Match::QuicFlow(short(n)), FEATURE_CID, 1),
            (&|n| Match::TcpQuicFlow(source(n)), FEATURE_CID, 1),
            (&|n| Match::TcpQuicFlow(destination(n)), FEATURE_CID, 1),
            (&|n| Match::TcpQuicFlow(short(n)), FEATURE_CID, 1),
        ];
        for (at, (kind, features, cids)) in kinds.into_iter().enumerate() {
            let one = look_ups(kind, 1);
            assert_eq!((one.0, one.1.iter().sum::<u32>()), (features, cids), "kind {at}");
            assert_eq!(look_ups(kind, 255), one, "kind {at}");
        }
    }
}

//! Writing rules down, in the order they apply.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
};

use super::{
    Action, CidField, CidPattern, IpPrefix, MAX_CID_SHAPES, MAX_EXACT_KEYS, MAX_PREFIX_RULES, MAX_RULES,
    Match, PortSet, Rule, Rules, VlanPolicy,
};

/// Why a list of rules is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RulesError {
    /// More than [`MAX_RULES`].
    TooMany,
    /// More than [`MAX_PREFIX_RULES`] of one address family.
    TooManyPrefixes,
    /// More than [`MAX_EXACT_KEYS`] tuples, CID patterns and local addresses.
    TooManyExact,
    /// More than [`MAX_CID_SHAPES`] different offsets and lengths of CID patterns.
    TooManyCidShapes,
    /// A tuple of an IPv4 and an IPv6 address.
    TupleFamilies,
    /// A prefix that is none: no address, or more bits than the address has.
    PrefixLength,
    /// A CID pattern without bytes, or beyond the 20 bytes of a connection ID.
    CidPattern,
    /// A VLAN id of 0 or above 4094.
    VlanId,
}

impl std::fmt::Display for RulesError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooMany => write!(f, "more than {MAX_RULES} rules"),
            Self::TooManyPrefixes => {
                write!(f, "more than {MAX_PREFIX_RULES} address prefixes of one family")
            }
            Self::TooManyExact => {
                write!(f, "more than {MAX_EXACT_KEYS} tuples, CID patterns and local addresses")
            }
            Self::TooManyCidShapes => write!(
                f,
                "more than {MAX_CID_SHAPES} different offsets and lengths of CID patterns for one kind of header"
            ),
            Self::TupleFamilies => f.write_str("a tuple of an IPv4 and an IPv6 address"),
            Self::PrefixLength => f.write_str("not an address prefix; write 10.0.0.0/8 or fd00::/16"),
            Self::CidPattern => f.write_str("a CID pattern is 1 to 20 bytes and ends within 20 bytes"),
            Self::VlanId => f.write_str("a VLAN id is 1 to 4094"),
        }
    }
}

impl std::error::Error for RulesError {}

/// A list in the making: name an action, then what it applies to, then the next rule or
/// [`build`](RulesBuilder::build).
#[derive(Clone, Debug, Default)]
pub struct RulesBuilder {
    rules: Rules,
}

/// A rule in the making: its action is known, what it applies to is not.
#[derive(Clone, Debug)]
#[must_use = "a rule is complete once it says what it applies to"]
pub struct RuleBuilder {
    list: RulesBuilder,
    action: Action,
}

impl RulesBuilder {
    /// To the kernel.
    pub fn pass(self) -> RuleBuilder {
        self.act(Action::Pass)
    }

    /// Away.
    pub fn drop(self) -> RuleBuilder {
        self.act(Action::Drop)
    }

    /// To the AF_XDP socket of the queue.
    pub fn redirect(self) -> RuleBuilder {
        self.act(Action::Redirect)
    }

    /// Back out of the interface.
    pub fn l2fwd(self) -> RuleBuilder {
        self.act(Action::L2Forward)
    }

    /// The action given as a value.
    pub fn act(self, action: Action) -> RuleBuilder {
        RuleBuilder { list: self, action }
    }

    /// Appends a ready rule.
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.list.push(rule);
        self
    }

    /// Looks at frames of this VLAN only; by default at those of none.
    pub fn vlan(mut self, vlan: VlanPolicy) -> Self {
        self.rules.vlan = vlan;
        self
    }

    /// Lets redirect take only what is sent to one of these addresses, so that a host that forwards packets
    /// for others goes on doing so.
    pub fn local_addresses(mut self, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut addresses: Vec<_> = addresses.into_iter().collect();
        addresses.sort_unstable();
        addresses.dedup();
        self.rules.local = Some(addresses);
        self
    }

    /// Checks the list and hands it over.
    ///
    /// # Errors
    /// [`RulesError`] when it exceeds a limit of the XDP program.
    pub fn build(self) -> Result<Rules, RulesError> {
        check(&self.rules)?;
        Ok(self.rules)
    }
}

impl RuleBuilder {
    /// Every IP packet that is understood.
    pub fn all(self) -> RulesBuilder {
        self.on(Match::All)
    }

    /// All UDP.
    pub fn udp(self) -> RulesBuilder {
        self.on(Match::Udp)
    }

    /// UDP to this port.
    pub fn udp_dst_port(self, port: u16) -> RulesBuilder {
        self.on(Match::UdpDstPort(port))
    }

    /// UDP to any of these ports.
    pub fn udp_ports(self, ports: impl IntoIterator<Item = u16>) -> RulesBuilder {
        self.on(Match::UdpPortSet(PortSet::from_iter(ports)))
    }

    /// UDP of exactly these addresses and ports.
    pub fn udp_tuple(self, src: SocketAddr, dst: SocketAddr) -> RulesBuilder {
        self.on(Match::UdpTuple { src, dst })
    }

    /// IP to an address of this prefix.
    pub fn ip_dst(self, prefix: impl Into<IpPrefix>) -> RulesBuilder {
        self.on(Match::IpDst(prefix.into()))
    }

    /// IP of this protocol or next header.
    pub fn ip_next_header(self, number: u8) -> RulesBuilder {
        self.on(Match::IpNextHeader(number))
    }

    /// TCP to this port.
    pub fn tcp_dst_port(self, port: u16) -> RulesBuilder {
        self.on(Match::TcpDstPort(port))
    }

    /// TCP to any of these ports.
    pub fn tcp_ports(self, ports: impl IntoIterator<Item = u16>) -> RulesBuilder {
        self.on(Match::TcpPortSet(PortSet::from_iter(ports)))
    }

    /// TCP segments with SYN, FIN or RST to this port.
    pub fn tcp_control(self, port: u16) -> RulesBuilder {
        self.on(Match::TcpControl(port))
    }

    /// QUIC in UDP, by bytes of a connection ID.
    pub fn quic_flow(self, pattern: CidPattern) -> RulesBuilder {
        self.on(Match::QuicFlow(pattern))
    }

    /// QUIC in TCP segments, by bytes of a connection ID.
    pub fn tcp_quic_flow(self, pattern: CidPattern) -> RulesBuilder {
        self.on(Match::TcpQuicFlow(pattern))
    }

    /// The condition given as a value.
    pub fn on(self, matching: Match) -> RulesBuilder {
        self.list.rule(Rule { matching, action: self.action })
    }
}

fn check(rules: &Rules) -> Result<(), RulesError> {
    if rules.list.len() > MAX_RULES {
        return Err(RulesError::TooMany);
    }
    if matches!(rules.vlan, VlanPolicy::Id(id) if id == 0 || id > 4094) {
        return Err(RulesError::VlanId);
    }
    let (mut v4, mut v6) = (0, 0);
    let mut exact = rules.local.as_ref().map_or(0, Vec::len);
    let mut shapes: [HashSet<(CidField, usize, usize)>; 4] = Default::default();
    for rule in &rules.list {
        match &rule.matching {
            Match::IpDst(prefix) if prefix.address().is_ipv4() => v4 += 1,
            Match::IpDst(_) => v6 += 1,
            Match::UdpTuple { src, dst } if src.is_ipv4() != dst.is_ipv4() => {
                return Err(RulesError::TupleFamilies);
            }
            Match::UdpTuple { .. } => exact += 1,
            Match::QuicFlow(pattern) | Match::TcpQuicFlow(pattern) => {
                exact += 1;
                let tcp = matches!(rule.matching, Match::TcpQuicFlow(_));
                let short = pattern.field() == CidField::ShortDestination;
                shapes[usize::from(tcp) * 2 + usize::from(short)].insert((
                    pattern.field(),
                    pattern.offset(),
                    pattern.bytes().len(),
                ));
            }
            _ => {}
        }
    }
    if v4 > MAX_PREFIX_RULES || v6 > MAX_PREFIX_RULES {
        return Err(RulesError::TooManyPrefixes);
    }
    if exact > MAX_EXACT_KEYS {
        return Err(RulesError::TooManyExact);
    }
    if shapes.iter().any(|shapes| shapes.len() > MAX_CID_SHAPES) {
        return Err(RulesError::TooManyCidShapes);
    }
    Ok(())
}

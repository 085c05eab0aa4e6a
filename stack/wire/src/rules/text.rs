//! Rules as one line of text each, for the command line and for logs.
//!
//! | line | condition |
//! |---|---|
//! | `drop all` | every IP packet that is understood |
//! | `drop udp` | all UDP |
//! | `drop udp port 42` | UDP destination port |
//! | `redirect udp ports 443,8000-8100` | UDP port set |
//! | `redirect udp from 10.0.0.1:5000 to 10.0.0.2:443` | UDP tuple |
//! | `pass to 10.0.0.0/8` | destination prefix |
//! | `drop protocol 1` | IP protocol or next header |
//! | `redirect tcp port 443`, `redirect tcp ports 443,4433` | TCP destination port, port set |
//! | `redirect tcp control 443` | SYN, FIN or RST to a port |
//! | `redirect quic port 443 long-source 0:a1b2` | QUIC in UDP whose CID holds bytes at an offset; also `long-destination`, `short-destination` |
//! | `redirect tcp-quic port 443 short-destination 0:a1b2` | the same in TCP |
//!
//! `l2fwd` is the fourth action. `dst` may stand in front of `port` and `ports`: all of these are destination ports.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use super::{Action, CidField, CidPattern, Match, PortSet, Rule, RulesError, VlanPolicy};

/// Why a line is no rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleTextError {
    /// The line does not start with an action.
    Action(String),
    /// The words after the action are no condition.
    Condition(String),
    /// A number, port, address or CID that can't be read.
    Value(String),
    /// A value that is read but not lawful.
    Rules(RulesError),
}

impl fmt::Display for RuleTextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Action(word) => {
                write!(f, "a rule starts with pass, drop, redirect or l2fwd, not with {word:?}")
            }
            Self::Condition(rest) if rest.is_empty() => f.write_str(
                "no condition behind the action; a rule is one argument, in quotes: 'drop udp port 42'",
            ),
            Self::Condition(rest) => {
                write!(f, "{rest:?} is no condition; for example: udp port 42, or to 10.0.0.0/8")
            }
            Self::Value(word) => write!(f, "{word:?} is too large, or not what can stand here"),
            Self::Rules(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RuleTextError {}

impl From<RulesError> for RuleTextError {
    fn from(error: RulesError) -> Self {
        Self::Rules(error)
    }
}

impl FromStr for Rule {
    type Err = RuleTextError;

    fn from_str(line: &str) -> Result<Self, RuleTextError> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (action, condition) = words.split_first().ok_or(RuleTextError::Action(String::new()))?;
        // `udp dst port 42` is `udp port 42`.
        let condition: Vec<&str> = match condition {
            [protocol, "dst", ports @ ("port" | "ports"), rest @ ..] => [&[*protocol, ports], rest].concat(),
            as_it_is => as_it_is.to_vec(),
        };
        Ok(Self { action: action.parse()?, matching: read_match(&condition)? })
    }
}

impl FromStr for Action {
    type Err = RuleTextError;

    fn from_str(word: &str) -> Result<Self, RuleTextError> {
        match word {
            "pass" => Ok(Self::Pass),
            "drop" => Ok(Self::Drop),
            "redirect" => Ok(Self::Redirect),
            "l2fwd" => Ok(Self::L2Forward),
            _ => Err(RuleTextError::Action(word.to_owned())),
        }
    }
}

impl FromStr for VlanPolicy {
    type Err = RuleTextError;

    /// Reads `untagged`, `any`, or a VLAN id.
    fn from_str(word: &str) -> Result<Self, RuleTextError> {
        match word {
            "untagged" => Ok(Self::Untagged),
            "any" => Ok(Self::Any),
            id => match value(id)? {
                id @ 1..=4094 => Ok(Self::Id(id)),
                _ => Err(RulesError::VlanId.into()),
            },
        }
    }
}

fn read_match(words: &[&str]) -> Result<Match, RuleTextError> {
    Ok(match words {
        ["all"] => Match::All,
        ["udp"] => Match::Udp,
        ["udp", "port", port] => Match::UdpDstPort(value(port)?),
        ["udp", "ports", ports] => Match::UdpPortSet(ports.parse()?),
        ["udp", "from", src, "to", dst] => Match::UdpTuple { src: value(src)?, dst: value(dst)? },
        ["to", prefix] => Match::IpDst(prefix.parse()?),
        ["protocol", number] => Match::IpNextHeader(value(number)?),
        ["tcp", "port", port] => Match::TcpDstPort(value(port)?),
        ["tcp", "ports", ports] => Match::TcpPortSet(ports.parse()?),
        ["tcp", "control", port] => Match::TcpControl(value(port)?),
        ["quic", "port", port, field, cid] => Match::QuicFlow(pattern(port, field, cid)?),
        ["tcp-quic", "port", port, field, cid] => Match::TcpQuicFlow(pattern(port, field, cid)?),
        _ => return Err(RuleTextError::Condition(words.join(" "))),
    })
}

fn value<T: FromStr>(word: &str) -> Result<T, RuleTextError> {
    word.parse().map_err(|_| RuleTextError::Value(word.to_owned()))
}

impl FromStr for PortSet {
    type Err = RuleTextError;

    /// Reads ports and ranges of them: `443,8000-8100`.
    fn from_str(word: &str) -> Result<Self, RuleTextError> {
        let mut set = Self::new();
        for part in word.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            set.extend(value::<u16>(first)?..=value::<u16>(last)?);
        }
        Ok(set)
    }
}

fn pattern(port: &str, field: &str, cid: &str) -> Result<CidPattern, RuleTextError> {
    let field = match field {
        "long-source" => CidField::LongSource,
        "long-destination" => CidField::LongDestination,
        "short-destination" => CidField::ShortDestination,
        _ => return Err(RuleTextError::Condition(field.to_owned())),
    };
    let refused = || RuleTextError::Value(cid.to_owned());
    let (offset, hex) = cid.split_once(':').ok_or_else(refused)?;
    if hex.len() % 2 != 0 || !hex.is_ascii() {
        return Err(refused());
    }
    let bytes: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16))
        .collect::<Result<_, _>>()
        .map_err(|_| refused())?;
    Ok(CidPattern::new(value(port)?, field, value(offset)?, &bytes)?)
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.action, self.matching)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
            Self::Redirect => "redirect",
            Self::L2Forward => "l2fwd",
        })
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Udp => f.write_str("udp"),
            Self::UdpDstPort(port) => write!(f, "udp port {port}"),
            Self::UdpPortSet(ports) => write!(f, "udp ports {ports}"),
            Self::UdpTuple { src, dst } => write!(f, "udp from {src} to {dst}"),
            Self::IpDst(prefix) => write!(f, "to {prefix}"),
            Self::IpNextHeader(number) => write!(f, "protocol {number}"),
            Self::TcpDstPort(port) => write!(f, "tcp port {port}"),
            Self::TcpPortSet(ports) => write!(f, "tcp ports {ports}"),
            Self::TcpControl(port) => write!(f, "tcp control {port}"),
            Self::QuicFlow(pattern) => write!(f, "quic {pattern}"),
            Self::TcpQuicFlow(pattern) => write!(f, "tcp-quic {pattern}"),
        }
    }
}

impl fmt::Display for PortSet {
    /// `80,443,8000-8100`; nothing for the empty set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for range in self.ranges() {
            let (first, last): (u16, u16) = RangeInclusive::into_inner(range);
            write!(f, "{comma}{first}")?;
            if last > first {
                write!(f, "-{last}")?;
            }
            comma = ",";
        }
        Ok(())
    }
}

impl fmt::Display for CidPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = match self.field() {
            CidField::LongSource => "long-source",
            CidField::LongDestination => "long-destination",
            CidField::ShortDestination => "short-destination",
        };
        write!(f, "port {} {field} {}:", self.port(), self.offset())?;
        self.bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

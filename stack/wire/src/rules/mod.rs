//! XDP rules: an ordered list, first match wins; and the matcher that defines what they mean.
//!
//! ```
//! use wirepath_wire::rules::Rules;
//!
//! // Drop all packets with a UDP header and destination port 42.
//! let rules = Rules::builder().drop().udp_dst_port(42).build()?;
//! # let _ = rules;
//! # Ok::<(), wirepath_wire::rules::RulesError>(())
//! ```
//!
//! The XDP program in `drivers/bpf` decides in the kernel; [`Rules::verdict`] here is the reference it is tested
//! against, written to be evidently right rather than fast.
//!
//! A rule sees whole packets only. Frames that are not understood in full match nothing and pass to the kernel,
//! whatever the rules say: other protocols than IP, fragments, IPv4 options, IPv6 extension headers, a second
//! VLAN tag, lengths that contradict each other. Checksums are left to whoever takes the packet.

mod builder;
mod cid;
mod flow;
mod matching;
mod ports;
mod prefix;
#[cfg(test)]
mod tests;
mod text;

pub use builder::{RuleBuilder, RulesBuilder, RulesError};
pub use cid::{CidField, CidPattern};
pub use flow::{Flow, Transport};
pub use matching::Match;
pub use ports::PortSet;
pub use prefix::IpPrefix;
pub use text::RuleTextError;

use std::net::IpAddr;

/// Rules in one list. The XDP program's tables have this many places.
pub const MAX_RULES: usize = 1024;
/// Address prefixes in one list, for each of IPv4 and IPv6: their intervals fill the program's 512 places.
pub const MAX_PREFIX_RULES: usize = 255;
/// UDP tuples, CID patterns and local addresses in one list, together: they half fill the program's hash table.
pub const MAX_EXACT_KEYS: usize = 1024;
/// Different (field, offset, length) of CID patterns for each of UDP and TCP, long and short headers. Patterns
/// of the same shape cost one look-up together; each shape costs one.
pub const MAX_CID_SHAPES: usize = 4;

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// To the kernel, as if there were no rules.
    Pass,
    /// Away.
    Drop,
    /// To the AF_XDP socket of the queue it came in on; to the kernel where that queue has none.
    Redirect,
    /// Back out of the interface, Ethernet addresses swapped.
    L2Forward,
}

/// What the rules say of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// To the kernel.
    Pass,
    /// Away.
    Drop,
    /// To the AF_XDP socket of this queue.
    Redirect(u32),
    /// Back out of the interface.
    L2Forward,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// What it looks for.
    pub matching: Match,
    /// What it does with what it finds.
    pub action: Action,
}

/// Which frames the rules look at, by VLAN. The others pass. A NIC that strips tags (`ethtool -K … rxvlan off`
/// ends it) hides them from the XDP program, which then sees no VLAN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum VlanPolicy {
    /// Those of no VLAN: untagged, or tagged with id 0, which is a priority only.
    #[default]
    Untagged,
    /// Those of this VLAN.
    Id(u16),
    /// All with at most one tag.
    Any,
}

/// An ordered list of rules, checked against the limits of the XDP program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    list: Vec<Rule>,
    vlan: VlanPolicy,
    local: Option<Vec<IpAddr>>,
}

impl Rules {
    /// Starts a list.
    pub fn builder() -> RulesBuilder {
        RulesBuilder::default()
    }

    /// Makes a list of ready rules.
    ///
    /// # Errors
    /// [`RulesError`] when it exceeds a limit.
    pub fn new(list: impl IntoIterator<Item = Rule>) -> Result<Self, RulesError> {
        list.into_iter().fold(Self::builder(), RulesBuilder::rule).build()
    }

    /// The rules, in order.
    pub fn as_slice(&self) -> &[Rule] {
        &self.list
    }

    /// Which VLAN the rules look at.
    pub fn vlan(&self) -> VlanPolicy {
        self.vlan
    }

    /// The addresses that a packet must be sent to for redirect to take it; `None` where any will do.
    pub fn local_addresses(&self) -> Option<&[IpAddr]> {
        self.local.as_deref()
    }

    /// What happens to a frame that arrives on `queue`.
    pub fn verdict(&self, frame: &[u8], queue: u32) -> Verdict {
        match self.decisive(frame).map(|at| self.list[at].action) {
            None | Some(Action::Pass) => Verdict::Pass,
            Some(Action::Drop) => Verdict::Drop,
            Some(Action::Redirect) => Verdict::Redirect(queue),
            Some(Action::L2Forward) => Verdict::L2Forward,
        }
    }

    /// The position of the rule that decides about the frame, and counts it as a hit.
    pub fn decisive(&self, frame: &[u8]) -> Option<usize> {
        let flow = Flow::of(frame)?;
        let seen = match self.vlan {
            VlanPolicy::Untagged => flow.vlan == 0,
            VlanPolicy::Id(id) => flow.vlan == id,
            VlanPolicy::Any => true,
        };
        if !seen {
            return None;
        }
        let at = self.list.iter().position(|rule| rule.matching.matches(&flow))?;
        let foreign = self.local.as_ref().is_some_and(|local| !local.contains(&flow.dst));
        (self.list[at].action != Action::Redirect || !foreign).then_some(at)
    }
}

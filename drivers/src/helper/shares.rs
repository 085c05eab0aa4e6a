//! Several clients on one interface: each has queues of its own, and one program has the rules of all.
//!
//! A rule redirects to XSKs of its own client only. What it would redirect on a queue of somebody else's passes to the
//! kernel, and so to the socket that holds the port: slower, and not lost.

use std::{collections::BTreeSet, ops::Range};

use wirepath_wire::rules::{Action, Match, Rules, RulesBuilder, VlanPolicy};

use super::peer::Peer;

/// One client's part of an interface.
#[derive(Clone, Debug)]
pub(super) struct Share {
    pub(super) owner: u16,
    pub(super) peer: Peer,
    pub(super) queues: Range<u32>,
    pub(super) rules: Rules,
}

impl Share {
    pub(super) fn overlaps(&self, queues: &Range<u32>) -> bool {
        self.queues.start < queues.end && queues.start < self.queues.end
    }
}

/// The rules of all, those of the first first, and whose each is.
///
/// # Errors
/// What in the rules of `newest` does not go together with whose.
pub(super) fn merge(shares: &[Share], newest: u16) -> Result<(Vec<u16>, Rules), String> {
    let with_rules: Vec<&Share> = shares.iter().filter(|share| !share.rules.as_slice().is_empty()).collect();
    let Some(first) = with_rules.first() else { return Ok((Vec::new(), Rules::default())) };
    let (vlan, is_limited) = (first.rules.vlan(), first.rules.local_addresses().is_some());
    if let Some(own) = with_rules.iter().find(|share| share.owner == newest) {
        for other in with_rules.iter().filter(|share| share.owner != newest) {
            agree(own, other)?;
        }
    }
    let mut builder = Rules::builder().vlan(vlan);
    if is_limited {
        let addresses = with_rules.iter().filter_map(|share| share.rules.local_addresses()).flatten();
        builder = builder.local_addresses(addresses.copied().collect::<BTreeSet<_>>());
    }
    let mut owners = Vec::new();
    for share in with_rules {
        owners.extend(std::iter::repeat_n(share.owner, share.rules.as_slice().len()));
        builder = share.rules.as_slice().iter().cloned().fold(builder, RulesBuilder::rule);
    }
    let rules = builder.build().map_err(|error| format!("the rules of all its clients together: {error}"))?;
    Ok((owners, rules))
}

fn agree(own: &Share, other: &Share) -> Result<(), String> {
    let Share { peer, rules, .. } = other;
    if own.rules.vlan() != rules.vlan() {
        let told = |vlan| match vlan {
            VlanPolicy::Untagged => "untagged packets".to_owned(),
            VlanPolicy::Id(id) => format!("VLAN {id}"),
            VlanPolicy::Any => "any VLAN".to_owned(),
        };
        return Err(format!(
            "the interface's rules are for {}, as {peer} has them, not for {}",
            told(rules.vlan()),
            told(own.rules.vlan())
        ));
    }
    if own.rules.local_addresses().is_some() != rules.local_addresses().is_some() {
        return Err(format!(
            "redirecting is limited to local addresses for both or for neither of it and {peer}"
        ));
    }
    let (mine, theirs) = (redirected(&own.rules), redirected(rules));
    match mine.intersection(&theirs).next() {
        Some((false, port)) => Err(format!("UDP port {port} is redirected to {peer} already")),
        Some((true, port)) => Err(format!("TCP port {port} is redirected to {peer} already")),
        None => Ok(()),
    }
}

/// The ports all of whose packets are redirected: whether of TCP, and which.
fn redirected(rules: &Rules) -> BTreeSet<(bool, u16)> {
    let mut ports = BTreeSet::new();
    for rule in rules.as_slice().iter().filter(|rule| rule.action == Action::Redirect) {
        match &rule.matching {
            Match::UdpDstPort(port) => drop(ports.insert((false, *port))),
            Match::UdpPortSet(set) => ports.extend(set.iter().map(|port| (false, port))),
            Match::TcpDstPort(port) => drop(ports.insert((true, *port))),
            Match::TcpPortSet(set) => ports.extend(set.iter().map(|port| (true, port))),
            // Parts of a port, which others may have other parts of; or more than ports, which takes --any-rules.
            _ => {}
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(owner: u16, lines: &[&str], local: &str) -> Share {
        let builder =
            lines.iter().map(|line| line.parse().unwrap()).fold(Rules::builder(), RulesBuilder::rule);
        let rules = builder.local_addresses([local.parse().unwrap()]).build().unwrap();
        let (owner_id, queue) = (u32::from(owner), u32::from(owner));
        let peer = Peer { pid: owner_id as i32 + 100, uid: 0, gids: vec![0] };
        Share { owner, peer, queues: queue..queue + 1, rules }
    }

    #[test]
    fn rules_of_all_are_in_force_and_each_is_somebodys() {
        let one = share(0, &["redirect udp dst ports 443,444", "pass udp dst port 5"], "10.0.0.1");
        let two = share(2, &["redirect udp dst port 445"], "10.0.0.2");
        let (owners, rules) = merge(&[one, two], 2).unwrap();
        assert_eq!(owners, [0, 0, 2]);
        assert_eq!(rules.as_slice().len(), 3);
        assert_eq!(rules.local_addresses().unwrap().len(), 2);
        assert_eq!(merge(&[], 0).unwrap(), (Vec::new(), Rules::default()));
    }

    #[test]
    fn what_is_somebody_elses_is_refused() {
        let one = share(0, &["redirect udp dst ports 443,444"], "10.0.0.1");
        let two = share(1, &["redirect udp dst port 444"], "10.0.0.1");
        let why = merge(&[one.clone(), two], 1).unwrap_err();
        assert_eq!(why, "UDP port 444 is redirected to process 100 of user 0 already");
        let tagged = Rules::builder().vlan(VlanPolicy::Id(7)).redirect().udp_dst_port(1).build().unwrap();
        let other = Share { owner: 1, rules: tagged, ..one.clone() };
        assert!(merge(&[one.clone(), other], 1).unwrap_err().contains("VLAN 7"));
        let unlimited = Rules::builder().redirect().udp_dst_port(1).build().unwrap();
        let other = Share { owner: 1, rules: unlimited, ..one.clone() };
        assert!(merge(&[one, other], 1).unwrap_err().contains("local addresses"));
    }

    #[test]
    fn queues_overlap_or_not() {
        let share = Share { queues: 2..4, ..share(0, &[], "10.0.0.1") };
        for (queues, overlaps) in
            [(0..2, false), (0..3, true), (3..4, true), (4..9, false), (0..u32::MAX, true)]
        {
            assert_eq!(share.overlaps(&queues), overlaps, "{queues:?}");
        }
    }
}

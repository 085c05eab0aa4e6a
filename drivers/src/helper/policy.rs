//! What the administrator lets clients have.

use std::{fs, io, net::IpAddr};

use wirepath_wire::rules::{Action, Match, PortSet, Rules};

use super::peer::Peer;

/// Who may ask, and for what.
#[derive(Clone, Debug, Default)]
pub struct HelperPolicy {
    /// Users who may ask. Without any, and without groups: the helper's own.
    pub uids: Vec<u32>,
    /// Groups whose members may ask.
    pub gids: Vec<u32>,
    /// The ports that may be redirected; `None`: all UDP ports that the client holds with a socket of its own.
    /// Those of TCP, and shares of a port by connection ID, must be named here.
    pub ports: Option<PortSet>,
    /// Whether clients may set rules of any kind: drop, send back, or redirect more than ports of their own.
    pub any_rules: bool,
    /// Whether clients may send through the XDP program. Whoever may can also have this host receive any packet, as though it
    /// had come in by the interface.
    pub trains: bool,
    /// How many queues of an interface may have XSKs, from the first one on; `None`: all.
    pub queues: Option<u32>,
}

impl HelperPolicy {
    /// Whether a peer may ask at all.
    ///
    /// # Errors
    /// Why not, for the peer.
    pub(super) fn admit(&self, peer: &Peer) -> Result<(), String> {
        let own =
            self.uids.is_empty() && self.gids.is_empty() && peer.uid == rustix::process::geteuid().as_raw();
        if own || self.uids.contains(&peer.uid) || peer.gids.iter().any(|gid| self.gids.contains(gid)) {
            return Ok(());
        }
        Err(format!("user {} may not use it; --uid or --gid of `wirepath helper` lets it", peer.uid))
    }

    /// Whether a queue may have an XSK.
    pub(super) fn allows_queue(&self, queue: u32) -> bool {
        self.queues.is_none_or(|count| queue < count)
    }

    /// Whether a client may put these rules in force on an interface with these addresses.
    ///
    /// `held` tells whether the client's user has a UDP socket on a port, so that nobody's packets are taken.
    ///
    /// # Errors
    /// Which rule is refused, and why.
    pub(super) fn allow_rules(
        &self,
        rules: &Rules,
        addresses: &[IpAddr],
        held: impl Fn(u16) -> bool,
    ) -> Result<(), String> {
        if self.any_rules {
            return Ok(());
        }
        let redirects = rules.as_slice().iter().any(|rule| rule.action == Action::Redirect);
        let own = |local: &[IpAddr]| local.iter().all(|ip| addresses.contains(ip));
        if redirects && !rules.local_addresses().is_some_and(own) {
            return Err("redirecting takes only what is sent to the interface's own addresses \
                        (--any-rules lifts it)"
                .into());
        }
        for rule in rules.as_slice() {
            let refused = |why: String| Err(format!("the rule \"{rule}\": {why}"));
            match rule.action {
                Action::Pass => continue,
                Action::Drop | Action::L2Forward => {
                    return refused(
                        "only --any-rules of `wirepath helper` lets clients drop or send back".into(),
                    );
                }
                Action::Redirect => {}
            }
            let outcome = match &rule.matching {
                Match::UdpDstPort(port) => self.allow_port(*port, &held),
                Match::UdpTuple { dst, .. } => self.allow_port(dst.port(), &held),
                Match::UdpPortSet(ports) => ports.iter().try_for_each(|port| self.allow_port(port, &held)),
                Match::TcpDstPort(port) | Match::TcpControl(port) => self.allow_named(*port),
                Match::TcpPortSet(ports) => ports.iter().try_for_each(|port| self.allow_named(port)),
                Match::QuicFlow(pattern) | Match::TcpQuicFlow(pattern) => self.allow_named(pattern.port()),
                Match::All | Match::Udp | Match::IpDst(_) | Match::IpNextHeader(_) => {
                    Err("it takes more than ports; only --any-rules of `wirepath helper` lets clients".into())
                }
            };
            if let Err(why) = outcome {
                return refused(why);
            }
        }
        Ok(())
    }

    fn allow_port(&self, port: u16, held: impl Fn(u16) -> bool) -> Result<(), String> {
        if self.ports.as_ref().is_some_and(|ports| !ports.contains(port)) {
            return Err(format!("port {port} is not among --ports of `wirepath helper`"));
        }
        match held(port) {
            true => Ok(()),
            false => Err(format!("the client's user has no UDP socket on port {port}")),
        }
    }

    /// Nothing shows who holds such a port, so the administrator must.
    fn allow_named(&self, port: u16) -> Result<(), String> {
        match self.ports.as_ref().is_some_and(|ports| ports.contains(port)) {
            true => Ok(()),
            false => Err(format!("port {port} must be named by --ports of `wirepath helper` for this")),
        }
    }
}

/// The UDP ports on which a user has sockets, in the calling thread's network namespace.
pub(super) fn held_ports(uid: u32) -> io::Result<PortSet> {
    let mut ports = PortSet::new();
    for file in ["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"] {
        match fs::read_to_string(file) {
            Ok(table) => table.lines().filter_map(holder).for_each(|(port, holder)| {
                if holder == uid {
                    ports.insert(port);
                }
            }),
            // No IPv6 in this kernel.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ports)
}

/// Local port and user of a line: `12: 0100007F:1151 00000000:0000 07 00000000:00000000 00:00000000 00000000 1000 …`.
fn holder(line: &str) -> Option<(u16, u32)> {
    let mut fields = line.split_whitespace();
    let port = fields.nth(1)?.rsplit(':').next()?;
    Some((u16::from_str_radix(port, 16).ok()?, fields.nth(5)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use wirepath_wire::rules::RulesBuilder;

    use super::*;

    fn peer(uid: u32, gids: &[u32]) -> Peer {
        Peer { pid: 1, uid, gids: gids.to_vec() }
    }

    #[test]
    fn only_those_listed_may_ask() {
        let own = rustix::process::geteuid().as_raw();
        let nobody = HelperPolicy::default();
        assert!(nobody.admit(&peer(own, &[])).is_ok());
        assert!(nobody.admit(&peer(own + 1, &[0])).unwrap_err().contains("--uid"));
        let listed = HelperPolicy { uids: vec![own + 7], gids: vec![50], ..Default::default() };
        assert!(listed.admit(&peer(own, &[9])).is_err(), "the own user is not meant once others are");
        assert!(listed.admit(&peer(own + 7, &[9])).is_ok());
        assert!(listed.admit(&peer(own + 8, &[9, 50])).is_ok());
    }

    fn rules(lines: &[&str], local: Option<&str>) -> Rules {
        let rules = lines.iter().map(|line| line.parse().expect("a rule"));
        let builder = rules.fold(Rules::builder(), RulesBuilder::rule);
        match local {
            Some(ip) => builder.local_addresses([ip.parse().expect("an address")]),
            None => builder,
        }
        .build()
        .expect("rules")
    }

    #[test]
    fn rules_take_own_ports_only() {
        let addresses = ["10.0.0.1".parse().expect("v4")];
        let open = HelperPolicy::default();
        let mut ports = PortSet::new();
        ports.insert(443);
        let named = HelperPolicy { ports: Some(ports), ..Default::default() };
        let any = HelperPolicy { any_rules: true, ..Default::default() };
        let held = |port| port < 1000;
        let own = Some("10.0.0.1");
        for (lines, local, by_open, by_named) in [
            (&["redirect udp dst port 443"][..], own, "", ""),
            (&["redirect udp dst port 44"], own, "", "port 44 is not among --ports"),
            (&["redirect udp dst port 4433"], own, "no UDP socket on port 4433", "not among --ports"),
            (&["redirect udp dst ports 443,1443"], own, "no UDP socket on port 1443", "not among"),
            (&["redirect udp dst port 443"], None, "own addresses", "own addresses"),
            (&["redirect udp dst port 443"], Some("10.0.0.2"), "own addresses", "own addresses"),
            (&["redirect tcp dst port 443"], own, "must be named by --ports", ""),
            (&["redirect quic dst port 443 long-source 0:a1"], own, "must be named", ""),
            (&["redirect udp"], own, "more than ports", "more than ports"),
            (&["pass all"], None, "", ""),
            (&["redirect udp dst port 443", "drop udp dst port 443"], own, "drop or send back", "drop"),
            (&["l2fwd all"], own, "drop or send back", "drop or send back"),
        ] {
            let rules = rules(lines, local);
            for (policy, wanted) in [(&open, by_open), (&named, by_named), (&any, "")] {
                match policy.allow_rules(&rules, &addresses, held) {
                    Ok(()) => assert_eq!(wanted, "", "{lines:?} is allowed"),
                    Err(why) => assert!(!wanted.is_empty() && why.contains(wanted), "{lines:?}: {why}"),
                }
            }
        }
    }

    #[test]
    fn sockets_of_a_user_are_found() {
        let v4 = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let port = v4.local_addr().expect("bound").port();
        let own = rustix::process::geteuid().as_raw();
        assert!(held_ports(own).expect("told").contains(port));
        assert!(!held_ports(own + 1).expect("told").contains(port));
        let line =
            " 4137: 0100007F:1151 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000 0 1 2 0 0";
        assert_eq!(holder(line), Some((0x1151, 1000)));
        assert_eq!(
            holder("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid"),
            None
        );
    }
}

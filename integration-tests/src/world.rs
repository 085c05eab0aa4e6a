//! Worlds: a few hosts, each a network namespace, and the veth pairs between them.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::{
    impair::{Impairment, Middlebox},
    netns::Namespace,
};

/// What every interface between hosts is named, in each namespace.
pub const INTERFACE: &str = "wire0";

/// The second interface of a host that has two.
pub const SECOND_INTERFACE: &str = "wire1";

/// A family of IP addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A host: a namespace, its interface to the world and its addresses there.
#[derive(Clone, Debug)]
pub struct Host {
    /// Where it lives.
    pub namespace: Namespace,
    /// Its interface.
    pub interface: &'static str,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
}

/// How to make the link between two hosts.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Largest IP packet, in bytes. XDP in driver mode on veth takes no more than 3506.
    pub mtu: u32,
    /// RSS queues, and as many transmit queues, of each end.
    pub queues: u32,
}

impl Default for Link {
    fn default() -> Self {
        Self { mtu: 1500, queues: 1 }
    }
}

/// Two hosts on one link, with a middlebox on the link or none.
#[derive(Debug)]
pub struct Pair {
    /// Host 1.
    pub client: Host,
    /// Host 2.
    pub server: Host,
    /// What stands between them.
    pub middlebox: Option<Middlebox>,
}

/// A client, a router (the kernel's) and a server. The hosts reach each other through the router only.
#[derive(Debug)]
pub struct Routed {
    /// Host 1, whose default gateway is the router's first interface.
    pub client: Host,
    /// The namespace that forwards: [`INTERFACE`] towards the client, [`SECOND_INTERFACE`] towards the server.
    pub router: Namespace,
    /// Host 2, whose default gateway is the router's second interface.
    pub server: Host,
}

/// Maker of worlds.
#[derive(Clone, Copy, Debug)]
pub enum World {}

impl Host {
    /// Its address of a family.
    pub fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }

    /// Its address of a family with a port.
    pub fn socket(&self, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.address(family), port)
    }
}

impl World {
    /// Two hosts joined by one veth pair.
    ///
    /// # Errors
    /// As [`Namespace::new`] and [`Namespace::ip`].
    pub fn pair(mtu: u32, queues: u32) -> io::Result<Pair> {
        let (client, server) = (Namespace::new("client")?, Namespace::new("server")?);
        join((&client, INTERFACE), (&server, INTERFACE), Link { mtu, queues })?;
        Ok(Pair { client: host(client, 1)?, server: host(server, 2)?, middlebox: None })
    }

    /// Two hosts on one link, with a middlebox in it that does to each frame what `impairment` says.
    ///
    /// # Errors
    /// As [`pair`](Self::pair).
    pub fn impaired(link: Link, impairment: Impairment) -> io::Result<Pair> {
        let (client, server) = (Namespace::new("client")?, Namespace::new("server")?);
        let middle = Namespace::new("middle")?;
        // The middlebox is a wire: its own IP stack must not speak on the links.
        middle.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        join((&client, INTERFACE), (&middle, INTERFACE), link)?;
        join((&server, INTERFACE), (&middle, SECOND_INTERFACE), link)?;
        let (client, server) = (host(client, 1)?, host(server, 2)?);
        let middlebox = Middlebox::start(middle, INTERFACE, SECOND_INTERFACE, impairment)?;
        Ok(Pair { client, server, middlebox: Some(middlebox) })
    }

    /// A client and a server on links of their own, and a router between.
    ///
    /// # Errors
    /// As [`pair`](Self::pair).
    pub fn routed(link: Link) -> io::Result<Routed> {
        let (client, router, server) =
            (Namespace::new("client")?, Namespace::new("router")?, Namespace::new("server")?);
        // Nobody solicits a neighbour before its own link-local address is known to be unique: a second.
        for namespace in [&client, &router, &server] {
            namespace.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
        }
        join((&client, INTERFACE), (&router, INTERFACE), link)?;
        join((&server, INTERFACE), (&router, SECOND_INTERFACE), link)?;
        for (interface, net) in [(INTERFACE, 1), (SECOND_INTERFACE, 2)] {
            router.ip(&[
                &format!("addr add 10.77.{net}.254/24 dev {interface}"),
                &format!("addr add fd77:0:0:{net}::fe/64 dev {interface} nodad"),
            ])?;
        }
        router.sysctl("net/ipv4/ip_forward", "1")?;
        router.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        Ok(Routed { client: routed_host(client, 1)?, router, server: routed_host(server, 2)? })
    }
}

impl Pair {
    /// Deletes the link: both ends are gone.
    ///
    /// # Errors
    /// As [`Namespace::ip`].
    pub fn cut(&self) -> io::Result<()> {
        self.client.namespace.ip(&[&format!("link del {INTERFACE}")]).map(drop)
    }

    /// Makes the link again, with the same names and addresses.
    ///
    /// # Errors
    /// As [`World::pair`].
    pub fn mend(&self, link: Link) -> io::Result<()> {
        join((&self.client.namespace, INTERFACE), (&self.server.namespace, INTERFACE), link)?;
        host(self.client.namespace.clone(), 1)?;
        host(self.server.namespace.clone(), 2).map(drop)
    }

    /// The middlebox.
    ///
    /// # Panics
    /// If the world was made without one.
    pub fn middlebox(&self) -> &Middlebox {
        self.middlebox.as_ref().expect("a world made by World::impaired")
    }
}

/// Makes a veth pair with an end in each namespace, up, with no checksums left to a device that has none: an
/// AF_XDP receiver would see unfinished ones.
fn join(one: (&Namespace, &str), other: (&Namespace, &str), link: Link) -> io::Result<()> {
    let Link { mtu, queues } = link;
    let shape = format!("mtu {mtu} numtxqueues {queues} numrxqueues {queues}");
    one.0.ip(&[
        &format!(
            "link add {} {shape} type veth peer name {} {shape} netns {}",
            one.1,
            other.1,
            other.0.path()
        ),
        &format!("link set {} up", one.1),
    ])?;
    other.0.ip(&[&format!("link set {} up", other.1)])?;
    for (namespace, interface) in [one, other] {
        namespace.command("ethtool", &["-K", interface, "tx", "off"])?;
    }
    Ok(())
}

fn host(namespace: Namespace, number: u8) -> io::Result<Host> {
    namespace.ip(&[
        &format!("addr add 10.77.0.{number}/24 dev {INTERFACE}"),
        &format!("addr add fd77::{number}/64 dev {INTERFACE} nodad"),
    ])?;
    Ok(Host {
        namespace,
        interface: INTERFACE,
        v4: Ipv4Addr::new(10, 77, 0, number),
        v6: Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, number.into()),
    })
}

fn routed_host(namespace: Namespace, net: u8) -> io::Result<Host> {
    namespace.ip(&[
        &format!("addr add 10.77.{net}.1/24 dev {INTERFACE}"),
        &format!("addr add fd77:0:0:{net}::1/64 dev {INTERFACE} nodad"),
        &format!("route add default via 10.77.{net}.254"),
        &format!("route add default via fd77:0:0:{net}::fe"),
    ])?;
    Ok(Host {
        namespace,
        interface: INTERFACE,
        v4: Ipv4Addr::new(10, 77, net, 1),
        v6: Ipv6Addr::new(0xfd77, 0, 0, net.into(), 0, 0, 0, 1),
    })
}

//! Where the demo takes place.

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command},
};

use crate::world::{self, Link, World};

/// Two hosts, or the loopback device where there can't be any.
pub(super) enum Stage {
    World(World, Link),
    Loopback { reason: String },
}

const PORT: u16 = 4433;

impl Stage {
    pub(super) fn set(mtu: u16) -> Self {
        let link = Link { mtu, ..Link::default() };
        match World::create(&link) {
            Ok(world) => Self::World(world, link),
            Err(error) => Self::Loopback { reason: error.to_string() },
        }
    }

    pub(super) fn server_arguments(&self, udp: bool) -> Vec<String> {
        let mut arguments = vec![
            "demo-server".to_owned(),
            "--bind".to_owned(),
            match self {
                Self::World(world, _) => format!("{}:{PORT}", world.server.address()),
                Self::Loopback { .. } => format!("{}:0", Ipv4Addr::LOCALHOST),
            },
        ];
        arguments.extend(self.interface_arguments("server", udp));
        arguments
    }

    pub(super) fn client_arguments(&self, server: &str, size: u64, udp: bool) -> Vec<String> {
        let size = size.to_string();
        let mut arguments: Vec<_> =
            ["demo-client", "--connect", server, "--size", &size].map(str::to_owned).into();
        arguments.extend(self.interface_arguments("client", udp));
        arguments
    }

    /// Where a side serves its dashboard: on this process's own loopback device, which is not the side's.
    pub(super) fn dashboard_arguments(&self, side: &str, addr: SocketAddr) -> Vec<String> {
        let port = addr.port().saturating_add(u16::from(side == "client" && addr.port() != 0));
        let addr = SocketAddr::new(addr.ip(), port);
        let mut arguments = vec![format!("--dashboard={addr}")];
        if let Self::World(..) = self {
            arguments.push(format!("--dashboard-net=/proc/{}/ns/net", std::process::id()));
        }
        arguments
    }

    fn interface_arguments(&self, side: &str, udp: bool) -> Option<String> {
        match self {
            Self::World(world, _) if !udp => {
                let host = if side == "server" { &world.server } else { &world.client };
                Some(format!("--iface={}", host.interface()))
            }
            _ => None,
        }
    }

    /// Starts a process on its host. Server and client have a core each, where there are two.
    pub(super) fn spawn(&self, side: &str, mut command: Command) -> io::Result<Child> {
        let core = match world::cores()[..] {
            [first, second, ..] => Some(if side == "server" { first } else { second }),
            _ => None,
        };
        match self {
            Self::World(world, _) if side == "server" => world.server.spawn(command, core),
            Self::World(world, _) => world.client.spawn(command, core),
            Self::Loopback { .. } => command.spawn(),
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::World(world, link) => write!(
                f,
                "Two hosts, {} and {}, in network namespaces, joined by a veth pair of MTU {}",
                world.server.address(),
                world.client.address(),
                link.mtu
            ),
            Self::Loopback { reason } => write!(f, "Over OS UDP on loopback: {reason}"),
        }
    }
}

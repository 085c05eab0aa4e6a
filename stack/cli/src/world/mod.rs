//! Two hosts on one machine: network namespaces joined by a veth pair.
//!
//! Nothing of it has a name in the file system. The namespaces belong to threads of this process and to what is
//! spawned there; when the last of them ends, by whatever cause, the kernel takes namespaces, addresses and devices
//! back. So there is nothing to clean up, even after `kill -9`.

mod host;
mod namespace;

use std::{io, net::Ipv4Addr};

use nix::{
    sched::{CpuSet, sched_getaffinity},
    unistd::Pid,
};

pub use host::Host;
use namespace::Namespace;

/// What the link between the hosts is like.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Bytes of IP a packet may have.
    pub mtu: u16,
    /// RX and TX queues of each end.
    pub queues: u32,
    /// Whether the kernel leaves checksums of what it sends to the device. On veth no device ever writes them, so
    /// packets of OS sockets reach an AF_XDP socket without one; off makes the kernel compute them.
    pub checksum_offload: bool,
    /// Whether UDP GSO packets cross the link whole, as they do on veth and on no network card.
    pub whole_segments: bool,
}

impl Default for Link {
    fn default() -> Self {
        Self { mtu: 1500, queues: 1, checksum_offload: false, whole_segments: true }
    }
}

/// Why there is no world.
#[derive(Debug)]
pub enum WorldError {
    /// A namespace can't be made.
    Namespace(io::Error),
    /// A program (`ip`, `ethtool`) failed or is missing: the command, and what it said.
    Tool(String, String),
}

impl std::fmt::Display for WorldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Namespace(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                f.write_str("network namespaces need root (CAP_SYS_ADMIN)")
            }
            Self::Namespace(error) => write!(f, "no network namespace: {error}"),
            Self::Tool(command, output) => write!(f, "`{command}` failed: {output}"),
        }
    }
}

impl std::error::Error for WorldError {}

/// The hosts. They last as long as this value, or as the last process that was spawned in them.
#[derive(Debug)]
pub struct World {
    /// 10.77.0.1.
    pub server: Host,
    /// 10.77.0.2.
    pub client: Host,
}

impl World {
    /// Makes both hosts, their link, and their addresses; both ends are up when it returns.
    ///
    /// # Errors
    /// Rights or tools are missing; the text says which.
    pub fn create(link: &Link) -> Result<Self, WorldError> {
        // Nobody else sees these names: they are in namespaces of our own.
        let server = Host::new("wp-server", Ipv4Addr::new(10, 77, 0, 1))?;
        let client = Host::new("wp-client", Ipv4Addr::new(10, 77, 0, 2))?;
        let queues = format!("numtxqueues {0} numrxqueues {0}", link.queues);
        server.run(&format!(
            "ip link add {} {queues} type veth peer name {} {queues} netns {}",
            server.interface(),
            client.interface(),
            client.namespace_path(),
        ))?;
        for host in [&server, &client] {
            host.configure(link)?;
        }
        Ok(Self { server, client })
    }
}

/// The cores this process may run on, in order.
pub fn cores() -> Vec<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    (0..CpuSet::count()).filter(|&core| allowed.is_set(core).unwrap_or(false)).collect()
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, process::Command, time::Duration};

    use super::*;

    /// Without rights the test reports itself as skipped, by name.
    fn world(test: &str) -> Option<World> {
        match World::create(&Link::default()) {
            Ok(world) => Some(world),
            Err(WorldError::Namespace(error)) => {
                println!("SKIPPED {test}: {}", WorldError::Namespace(error));
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn netns_hosts_reach_each_other() {
        let Some(world) = world("netns_hosts_reach_each_other") else { return };
        let server_addr = world.server.address();
        let server = world.server.inside(move || UdpSocket::bind((server_addr, 0)).unwrap());
        let client_addr = world.client.address();
        let client = world.client.inside(move || UdpSocket::bind((client_addr, 0)).unwrap());
        client.send_to(b"over the veth", server.local_addr().unwrap()).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut buffer = [0; 64];
        let (len, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], from), (&b"over the veth"[..], client.local_addr().unwrap()));
    }

    #[test]
    fn netns_processes_see_their_host_only() {
        let Some(world) = world("netns_processes_see_their_host_only") else { return };
        let mut list = Command::new("ls");
        list.arg("/sys/class/net").stdout(std::process::Stdio::piped());
        let child = world.client.spawn(list, Some(0)).unwrap();
        let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        assert_eq!(output.split_whitespace().collect::<Vec<_>>(), ["lo", "wp-client"]);
    }

    #[test]
    fn netns_a_failing_tool_is_told() {
        let Some(world) = world("netns_a_failing_tool_is_told") else { return };
        let error = world.server.run("ip link set no-such-device up").unwrap_err();
        assert!(error.to_string().contains("no-such-device"), "{error}");
    }
}

//! Source ports by which the answers to a client arrive at the queue it wants.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use wirepath_actors::{
    pool_shard::SocketLease,
    tables::{Carriers, Claim},
};
use wirepath_drivers::{DriverError, Rss};
use wirepath_quic::Random;

use super::{Inner, any};
use crate::Error;

/// Where ephemeral ports begin (RFC 6335 §6).
const FIRST_PORT: u16 = 49_152;

/// Ports that lead to the queue, and may be in use, to try. With half of all ports taken, all of these are once in
/// 10^9 times.
const TRIES: usize = 30;

impl Inner {
    /// The place of a queue among the stack's.
    pub(super) fn queue_at(&self, queue: u32) -> Result<usize, Error> {
        let there_are = self.queues().len();
        let first = self.first_queue;
        let why = || format!("the stack has {there_are} AF_XDP queues, from number {first} on");
        let unsupported = || DriverError::Unsupported { what: "a connection on this queue", why: why() };
        let place = queue.checked_sub(first).map(|place| place as usize).filter(|place| *place < there_are);
        place.ok_or_else(|| unsupported().into())
    }

    /// A socket of one connection's own, on a port by which answers arrive at `queue`, if the port decides that.
    pub(super) async fn steered_socket(
        &self,
        (local, remote): (IpAddr, SocketAddr),
        queue: u32,
        carriers: Carriers,
        cid_len: usize,
    ) -> Result<Arc<SocketLease>, Error> {
        let claim =
            |port| Claim { remote: Some(remote), carriers, ..Claim::udp(SocketAddr::new(any(remote), port)) };
        let Some(rss) = &self.rss else { return self.bind(claim(0), cid_len).await };
        let mut in_use = None;
        for port in ports_to(rss, (local, remote), queue, carriers.tcp).take(TRIES) {
            match self.bind(claim(port), cid_len).await {
                Err(Error::Driver(error @ (DriverError::PortInUse(_) | DriverError::TcpPortInUse(_)))) => {
                    in_use = Some(error);
                }
                outcome => return outcome,
            }
        }
        let why = || {
            format!("no source port leads to queue {queue}; `ethtool -x` and `-n` tell how flows are spread")
        };
        let unsupported = || DriverError::Unsupported { what: "a connection on this queue", why: why() };
        Err(in_use.unwrap_or_else(unsupported).into())
    }
}

/// Source ports, from a random one on, by which answers arrive at a queue.
fn ports_to(
    rss: &Rss,
    (local, remote): (IpAddr, SocketAddr),
    queue: u32,
    tcp: bool,
) -> impl Iterator<Item = u16> {
    let count = u16::MAX - FIRST_PORT;
    let start = (Random::from_os().u64() % u64::from(count)) as u16;
    (0..count)
        .map(move |n| FIRST_PORT + (start + n) % count)
        .filter(move |port| rss.queue(remote, SocketAddr::new(local, *port), tcp) == Some(queue))
}

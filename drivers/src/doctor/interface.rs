//! One interface: its driver's modes, queues, rings, offloads, and the programs on it.

use std::net::IpAddr;

use super::{
    Finding,
    link::{Link, Peer},
};
use crate::{Nic, Offload, XdpSupport, ZeroCopy, af_xdp::MAX_SINGLE_BUFFER_MTU, xdp::holder_of};

pub(super) fn examine(nic: &Nic, link: &Link) -> Vec<Finding> {
    if nic.link.loopback {
        let found =
            "the loopback: what is sent to this machine goes over OS UDP, faster than AF_XDP could be";
        return vec![Finding::broken("link", found, "--iface of a NIC: ip link")];
    }
    let support = nic.xdp_support().ok();
    let mut findings = vec![state(nic), modes(nic, support), mtu(nic, support), queues(nic, link)];
    findings.extend(rings(nic));
    findings.push(aggregation(nic, support));
    findings.extend(link.peer.as_ref().map(peer_checksums));
    findings.push(programs(nic, link));
    findings
}

fn state(nic: &Nic) -> Finding {
    const SUBJECT: &str = "link";
    let Nic { name, link, .. } = nic;
    if !link.admin_up {
        return Finding::broken(SUBJECT, "down", format!("ip link set {name} up"));
    }
    if !link.carrier {
        return Finding::broken(SUBJECT, "up, but the other end is missing or down", "plug in the other end");
    }
    let link_local = |ip: IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    if nic.addresses.iter().all(|(ip, _)| link_local(*ip)) {
        let remedy = format!("ip addr add ADDRESS/PREFIX dev {name}");
        return Finding::broken(SUBJECT, "up, without an IP address but the link's own", remedy);
    }
    Finding::good(SUBJECT, "up")
}

fn modes(nic: &Nic, support: Option<XdpSupport>) -> Finding {
    const SUBJECT: &str = "driver";
    let driver = nic.driver.as_deref().unwrap_or("unnamed");
    let Some(support) = support else {
        return Finding::good(
            SUBJECT,
            format!("{driver}; this kernel does not tell its XDP features (6.3 does)"),
        );
    };
    if !support.driver_mode || !support.redirect {
        return Finding::improvable(
            SUBJECT,
            format!("{driver} has no XDP in driver mode: SKB mode, slower than OS UDP, is what is left"),
            "use a NIC with native XDP, or OS UDP (--iface left out)",
        );
    }
    let zero_copy = match support.zero_copy {
        ZeroCopy::No => "copy only",
        ZeroCopy::Single | ZeroCopy::Multi(_) => "zero-copy",
    };
    let checksum = if support.tx_checksum { ", sums TX checksums" } else { "" };
    Finding::good(SUBJECT, format!("{driver}: XDP in driver mode, {zero_copy}{checksum}"))
}

fn mtu(nic: &Nic, support: Option<XdpSupport>) -> Finding {
    const SUBJECT: &str = "MTU";
    let mtu = nic.mtu;
    if mtu <= MAX_SINGLE_BUFFER_MTU {
        return Finding::good(SUBJECT, format!("{mtu}: one UMEM frame a packet"));
    }
    if support.is_none_or(|support| support.multi_buffer) {
        return Finding::good(SUBJECT, format!("{mtu}: several UMEM frames a packet (multi-buffer)"));
    }
    Finding::broken(
        SUBJECT,
        format!("{mtu} needs multi-buffer above {MAX_SINGLE_BUFFER_MTU}, which the driver does not have"),
        format!("ip link set {} mtu {MAX_SINGLE_BUFFER_MTU}", nic.name),
    )
}

fn queues(nic: &Nic, link: &Link) -> Finding {
    const SUBJECT: &str = "queues";
    let (name, queues) = (&nic.name, nic.queues);
    if let Some(Peer::Here(peer)) = &link.peer
        && peer.queues.tx > queues.rx
    {
        return Finding::broken(
            SUBJECT,
            format!(
                "{} RX, fewer than the {} TX of its peer {}: driver mode is refused",
                queues.rx, peer.queues.tx, peer.name
            ),
            format!("ethtool -L {} tx {}", peer.name, queues.rx),
        );
    }
    let cpus = std::thread::available_parallelism().map_or(1, usize::from) as u32;
    let useful = queues.rx_max.min(cpus);
    if queues.rx < useful {
        let kind = if queues.rx == queues.tx && queues.rx_max == queues.tx_max && link.peer.is_none() {
            "combined"
        } else {
            "rx"
        };
        let found = format!("{} RX of {} that could be, on {cpus} CPUs", queues.rx, queues.rx_max);
        return Finding::improvable(SUBJECT, found, format!("ethtool -L {name} {kind} {useful}"));
    }
    Finding::good(SUBJECT, format!("{} RX, {} TX: a partition each", queues.rx, queues.tx))
}

/// Drivers without rings, as veth, have nothing to tell.
fn rings(nic: &Nic) -> Option<Finding> {
    /// Below this a burst of one interrupt's coalescing (some 100 us at 10 Gbit/s) overflows the NIC's own ring.
    const ENOUGH: u32 = 1024;
    const SUBJECT: &str = "rings";
    let rings = nic.rings()?;
    let found = format!("{} RX of {}, {} TX of {}", rings.rx, rings.rx_max, rings.tx, rings.tx_max);
    let useful = rings.rx_max.min(ENOUGH);
    Some(match rings.rx < useful {
        true => Finding::improvable(SUBJECT, found, format!("ethtool -G {} rx {useful}", nic.name)),
        false => Finding::good(SUBJECT, found),
    })
}

/// LRO hands up packets no longer as they came; GRO does, ahead of XDP in SKB mode.
fn aggregation(nic: &Nic, support: Option<XdpSupport>) -> Finding {
    const SUBJECT: &str = "offloads";
    if nic.offload(Offload::Lro) == Some(true) {
        let found = "LRO is on: drivers refuse XDP with it, or merge packets before it";
        return Finding::broken(SUBJECT, found, format!("ethtool -K {} lro off", nic.name));
    }
    if nic.offload(Offload::Gro) == Some(true) && support.is_some_and(|support| !support.driver_mode) {
        let found = "GRO is on: in SKB mode it merges packets before XDP sees them";
        return Finding::improvable(SUBJECT, found, format!("ethtool -K {} gro off", nic.name));
    }
    Finding::good(SUBJECT, "none that comes before XDP")
}

fn peer_checksums(peer: &Peer) -> Finding {
    const SUBJECT: &str = "peer checksums";
    match peer {
        Peer::Here(peer) if peer.offload(Offload::TxChecksum) == Some(false) => {
            Finding::good(SUBJECT, format!("{} sums them before it sends", peer.name))
        }
        Peer::Here(peer) => Finding::improvable(
            SUBJECT,
            format!(
                "{} leaves them to a device that veth is not: what its kernel sends is dropped here",
                peer.name
            ),
            format!("ethtool -K {} tx off, or trust the link (verify_checksums(false))", peer.name),
        ),
        Peer::Elsewhere => Finding::improvable(
            SUBJECT,
            "the peer is in another namespace; packets of a kernel there come without checksums by default",
            "ethtool -K PEER tx off there, or trust the link (verify_checksums(false))",
        ),
    }
}

fn programs(nic: &Nic, link: &Link) -> Finding {
    const SUBJECT: &str = "other programs";
    if link.programs.is_empty() {
        return Finding::good(SUBJECT, "no XDP program is attached");
    }
    let ids: Vec<_> = link.programs.iter().map(|(id, mode)| format!("{id} ({mode})")).collect();
    let found = format!("XDP program {} is attached; it is left alone", ids.join(", "));
    let remedy = match holder_of(nic.index) {
        Some(holder) => format!("stop {holder}, or have both use one `wirepath helper`"),
        None => format!(
            "bpftool prog show id {}, then stop its owner or: ip link set {} xdp off",
            link.programs[0].0, nic.name
        ),
    };
    Finding::broken(SUBJECT, found, remedy)
}

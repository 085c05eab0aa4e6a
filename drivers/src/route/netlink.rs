//! The kernel's routing state, asked for and listened to: rtnetlink messages turned into our own words.

use std::{
    io,
    net::IpAddr,
    pin::{Pin, pin},
};

use futures_util::{Stream, StreamExt};
use rtnetlink::{
    Error, Handle, MulticastGroup,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressMessage},
        link::{InfoData, InfoVlan, LinkAttribute, LinkInfo as LinkDetail, LinkMessage},
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia},
    },
    sys::{self, AsyncSocket},
};
use tokio::task::JoinSet;

use super::neighbours::{NeighbourKey, Seen};
use crate::{DriverError, LinkState};

/// What the kernel is to tell of by itself.
const GROUPS: [MulticastGroup; 8] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];

/// An interface of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address, where it has one of 6 bytes.
    pub mac: Option<[u8; 6]>,
    /// The longest packet behind the Ethernet header, in bytes.
    pub mtu: u32,
    /// State of the link.
    pub state: LinkState,
    /// Where it is a VLAN: the link it lies on, and the VLAN id.
    pub vlan: Option<(u32, u16)>,
}

/// Something the kernel told.
#[derive(Debug)]
pub(super) enum Change {
    Link(LinkInfo),
    LinkGone(u32),
    Address(IpAddr),
    AddressGone(IpAddr),
    Neighbour(NeighbourKey, Seen),
    Routes {
        prefix: IpAddr,
        len: u8,
    },
    Rules,
    /// Notifications were lost: everything may have changed.
    Lost,
}

/// The kernel's answer about one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) link: u32,
    pub(super) source: IpAddr,
    pub(super) gateway: Option<IpAddr>,
    pub(super) local: bool,
}

type Message = NetlinkMessage<RouteNetlinkMessage>;
type Notifications = Pin<Box<dyn Stream<Item = (Message, sys::SocketAddr)> + Send + Sync>>;

/// Bytes of notifications that may wait. A flush of a full neighbour table (1024 entries of some 100 bytes, each
/// with the kernel's overhead) fits twice.
const RECEIVE_BUFFER: usize = 2 << 20;

/// Two sockets: one to ask, one to listen. On one alone, a notification caused by another process that counts its
/// requests as we do would pass for the answer to ours.
pub(super) struct Netlink {
    handle: Handle,
    notifications: Notifications,
    /// Drives both sockets; ends with this.
    _connections: JoinSet<()>,
}

impl Netlink {
    /// Opens both sockets in the calling thread's network namespace. Notifications count from here on.
    pub(super) fn open() -> Result<Self, DriverError> {
        let fail = |source| DriverError::Io { what: "netlink", source };
        let (asking, handle, _) = rtnetlink::new_connection().map_err(fail)?;
        let (mut listening, _, notifications) = rtnetlink::new_multicast_connection(&GROUPS).map_err(fail)?;
        // Not vital: what is lost is told by the kernel, and read again.
        let _ = listening.socket_mut().socket_mut().set_rx_buf_sz(RECEIVE_BUFFER as u32);
        let mut connections = JoinSet::new();
        connections.spawn(asking);
        connections.spawn(listening);
        Ok(Self { handle, notifications: Box::pin(notifications), _connections: connections })
    }

    /// The next change; `None` when the socket has failed and must be opened again.
    pub(super) async fn change(&mut self) -> Option<Change> {
        loop {
            let (message, _) = self.notifications.next().await?;
            match message.payload {
                NetlinkPayload::Overrun(_) => return Some(Change::Lost),
                NetlinkPayload::InnerMessage(inner) => {
                    if let Some(change) = decode(inner) {
                        return Some(change);
                    }
                }
                _ => {}
            }
        }
    }

    pub(super) async fn links(&self) -> Result<Vec<LinkInfo>, DriverError> {
        collect(self.handle.link().get().execute(), |message| link(&message)).await
    }

    pub(super) async fn addresses(&self) -> Result<Vec<IpAddr>, DriverError> {
        collect(self.handle.address().get().execute(), |message| address(&message)).await
    }

    pub(super) async fn neighbours(&self) -> Result<Vec<(NeighbourKey, Seen)>, DriverError> {
        collect(self.handle.neighbours().get().execute(), |message| neighbour(&message, false)).await
    }

    /// The route to one destination; `None` when the kernel has none. Link-local destinations are those of `link`.
    pub(super) async fn route(&self, remote: IpAddr, link: u32) -> Result<Option<Answer>, DriverError> {
        let mut question = RouteMessage::default();
        question.header.address_family = family(remote);
        question.header.destination_prefix_length = if remote.is_ipv4() { 32 } else { 128 };
        question.attributes.push(RouteAttribute::Destination(remote.into()));
        if matches!(remote, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
            question.attributes.push(RouteAttribute::Oif(link));
        }
        let mut answers = pin!(self.handle.route().get(question).execute());
        match answers.next().await {
            Some(Ok(message)) => Ok(answer(&message, remote)),
            Some(Err(Error::NetlinkError(error))) if error.code.is_some_and(|code| no_route(-code.get())) => {
                Ok(None)
            }
            Some(Err(error)) => Err(failure("route query", error)),
            None => Err(failure("route query", Error::RequestFailed)),
        }
    }

    /// Has the kernel find out (or confirm) a neighbour's hardware address, as if it had a packet for it.
    pub(super) async fn solicit(&self, key: NeighbourKey) -> Result<(), DriverError> {
        self.set_neighbour(key, NeighbourState::None, NeighbourFlags::Use).await
    }

    /// Has the kernel forget a neighbour's hardware address.
    pub(super) async fn invalidate(&self, key: NeighbourKey) -> Result<(), DriverError> {
        self.set_neighbour(key, NeighbourState::Failed, NeighbourFlags::empty()).await
    }

    async fn set_neighbour(
        &self,
        key: NeighbourKey,
        state: NeighbourState,
        flags: NeighbourFlags,
    ) -> Result<(), DriverError> {
        let request = self.handle.neighbours().add(key.link, key.ip).state(state).flags(flags).replace();
        request.execute().await.map_err(|error| failure("neighbour request", error))
    }
}

/// All answers to a dump, in our words.
async fn collect<M, T>(
    dump: impl Stream<Item = Result<M, Error>>,
    translate: impl Fn(M) -> Option<T>,
) -> Result<Vec<T>, DriverError> {
    let mut dump = pin!(dump);
    let mut all = Vec::new();
    while let Some(message) = dump.next().await {
        all.extend(translate(message.map_err(|error| failure("netlink dump", error))?));
    }
    Ok(all)
}

fn failure(what: &'static str, error: Error) -> DriverError {
    let source = match &error {
        Error::NetlinkError(told) => told.to_io(),
        _ => io::Error::other(error.to_string()),
    };
    DriverError::Io { what, source }
}

/// The errors by which the kernel says that there is no way: no route, or one of the types unreachable, prohibit
/// and blackhole.
fn no_route(errno: i32) -> bool {
    matches!(errno, libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL)
}

fn decode(message: RouteNetlinkMessage) -> Option<Change> {
    match message {
        RouteNetlinkMessage::NewLink(message) => link(&message).map(Change::Link),
        RouteNetlinkMessage::DelLink(message) => Some(Change::LinkGone(message.header.index)),
        RouteNetlinkMessage::NewAddress(message) => address(&message).map(Change::Address),
        RouteNetlinkMessage::DelAddress(message) => address(&message).map(Change::AddressGone),
        RouteNetlinkMessage::NewNeighbour(message) => {
            neighbour(&message, false).map(|(key, seen)| Change::Neighbour(key, seen))
        }
        RouteNetlinkMessage::DelNeighbour(message) => {
            neighbour(&message, true).map(|(key, seen)| Change::Neighbour(key, seen))
        }
        RouteNetlinkMessage::NewRoute(message) | RouteNetlinkMessage::DelRoute(message) => routes(&message),
        RouteNetlinkMessage::NewRule(_) | RouteNetlinkMessage::DelRule(_) => Some(Change::Rules),
        _ => None,
    }
}

fn link(message: &LinkMessage) -> Option<LinkInfo> {
    // The bridge code tells of its ports in messages of the same kind.
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let (mut name, mut mac, mut mtu, mut lower, mut vlan_id) = (String::new(), None, 0, None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(told) => name.clone_from(told),
            LinkAttribute::Address(told) => mac = told.as_slice().try_into().ok(),
            LinkAttribute::Mtu(told) => mtu = *told,
            LinkAttribute::Link(told) => lower = Some(*told),
            LinkAttribute::LinkInfo(details) => vlan_id = details.iter().find_map(vlan),
            _ => {}
        }
    }
    let state = LinkState::from_flags(message.header.flags.bits());
    Some(LinkInfo { index: message.header.index, name, mac, mtu, state, vlan: lower.zip(vlan_id) })
}

fn vlan(detail: &LinkDetail) -> Option<u16> {
    let LinkDetail::Data(InfoData::Vlan(attributes)) = detail else { return None };
    attributes.iter().find_map(|attribute| match attribute {
        InfoVlan::Id(id) => Some(*id),
        _ => None,
    })
}

fn address(message: &AddressMessage) -> Option<IpAddr> {
    // On point-to-point links "address" is the peer's and "local" ours; else both are ours or "local" is missing.
    let find = |want: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(want);
    find(|attribute| if let AddressAttribute::Local(ip) = attribute { Some(*ip) } else { None }).or_else(
        || find(|attribute| if let AddressAttribute::Address(ip) = attribute { Some(*ip) } else { None }),
    )
}

fn neighbour(message: &NeighbourMessage, gone: bool) -> Option<(NeighbourKey, Seen)> {
    let header = &message.header;
    let of_ip = matches!(header.family, AddressFamily::Inet | AddressFamily::Inet6);
    if !of_ip || header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let ip = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    })?;
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(mac) => <[u8; 6]>::try_from(mac.as_slice()).ok(),
        _ => None,
    });
    let seen = match (&header.state, mac) {
        _ if gone => Seen::Gone,
        (NeighbourState::Permanent | NeighbourState::Noarp, Some(mac)) => Seen::Fixed(mac),
        (NeighbourState::Reachable | NeighbourState::Delay | NeighbourState::Probe, Some(mac)) => {
            Seen::Fresh(mac)
        }
        (NeighbourState::Stale, Some(mac)) => Seen::Stale(mac),
        (NeighbourState::Failed, _) => Seen::Failed,
        _ => Seen::Unresolved,
    };
    Some((NeighbourKey { link: header.ifindex, ip }, seen))
}

fn routes(message: &RouteMessage) -> Option<Change> {
    // Host routes of the local and multicast kind come with addresses, which are told of on their own.
    let len = message.header.destination_prefix_length;
    let unspecified: IpAddr = match message.header.address_family {
        AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let prefix = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(told) => ip(told),
        _ => None,
    });
    Some(Change::Routes { prefix: prefix.unwrap_or(unspecified), len })
}

fn answer(message: &RouteMessage, remote: IpAddr) -> Option<Answer> {
    let local = match message.header.kind {
        RouteType::Unicast => false,
        RouteType::Local => true,
        // Broadcast, multicast and the ways of saying no.
        _ => return None,
    };
    let (mut link, mut gateway, mut source) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::Gateway(told) => gateway = ip(told),
            RouteAttribute::Via(RouteVia::Inet(told)) => gateway = Some((*told).into()),
            RouteAttribute::Via(RouteVia::Inet6(told)) => gateway = Some((*told).into()),
            RouteAttribute::PrefSource(told) => source = ip(told),
            _ => {}
        }
    }
    // A route with no source address of the right family can't carry packets.
    let source = source.filter(|source| source.is_ipv4() == remote.is_ipv4())?;
    Some(Answer { link: link?, source, gateway, local })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::link::InfoKind;

    use super::*;

    #[test]
    fn a_vlan_link_is_known_by_its_id_and_what_it_lies_on() {
        let mut message = LinkMessage::default();
        message.header.index = 9;
        message.attributes = vec![
            LinkAttribute::IfName("v5".into()),
            LinkAttribute::Address(vec![1, 2, 3, 4, 5, 6]),
            LinkAttribute::Link(4),
            LinkAttribute::LinkInfo(vec![
                LinkDetail::Kind(InfoKind::Vlan),
                LinkDetail::Data(InfoData::Vlan(vec![InfoVlan::Id(5)])),
            ]),
        ];
        let told = link(&message).expect("a link");
        assert_eq!((told.vlan, told.mac), (Some((4, 5)), Some([1, 2, 3, 4, 5, 6])));
    }

    #[test]
    fn neighbours_of_other_kinds_are_left_out() {
        let mut message = NeighbourMessage::default();
        message.attributes =
            vec![NeighbourAttribute::Destination(NeighbourAddress::Inet([10, 0, 0, 1].into()))];
        message.header.family = AddressFamily::Bridge;
        assert_eq!(neighbour(&message, false), None);
        message.header.family = AddressFamily::Inet;
        message.header.flags = NeighbourFlags::Proxy;
        assert_eq!(neighbour(&message, false), None);
        message.header.flags = NeighbourFlags::empty();
        // Reachable without a hardware address can't be used.
        message.header.state = NeighbourState::Reachable;
        assert!(matches!(neighbour(&message, false), Some((_, Seen::Unresolved))));
    }
}

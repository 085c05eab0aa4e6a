//! The task behind a route table: asks the kernel, listens to it, and keeps neighbours alive.

use std::{
    collections::{HashMap, VecDeque},
    future, io,
    net::{IpAddr, Ipv6Addr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{broadcast, mpsc},
    time::{sleep, sleep_until},
};

use super::{
    LinkEvent, Request, Route,
    neighbours::{Action, NeighbourKey, Neighbours},
    netlink::{Answer, Change, LinkInfo, Netlink},
    table::{Table, Way},
};
use crate::{DriverError, XdpAccess};

/// Changes of routes come in bursts (a link that goes up brings a dozen). Those within this time are looked at
/// together.
const BURST: Duration = Duration::from_millis(10);

/// Changed prefixes remembered one by one; with more, all destinations are asked for again.
const PREFIXES: usize = 64;

/// The wait before netlink is opened again after it failed.
const REOPEN_AFTER: Duration = Duration::from_millis(200);

/// The UDP "discard" port (RFC 863): where a packet that only serves to resolve a neighbour goes.
const DISCARD_PORT: u16 = 9;

/// Runs a [`RouteTable`](super::RouteTable).
pub struct RouteTask {
    link: u32,
    table: Arc<Table>,
    requests: mpsc::Receiver<Request>,
    events: broadcast::Sender<LinkEvent>,
    netlink: Netlink,
    access: XdpAccess,
    links: HashMap<u32, LinkInfo>,
    neighbours: Neighbours,
    doubts: Doubts,
    /// Destinations in use to ask for again, one between other things.
    again: VecDeque<IpAddr>,
}

/// Routes the kernel told to have changed.
#[derive(Default)]
struct Doubts {
    prefixes: Vec<(IpAddr, u8)>,
    all: bool,
    due: Option<Instant>,
}

impl RouteTask {
    pub(super) async fn open(
        link: u32,
        table: Arc<Table>,
        requests: mpsc::Receiver<Request>,
        events: broadcast::Sender<LinkEvent>,
    ) -> Result<Self, DriverError> {
        let mut task = Self {
            link,
            table,
            requests,
            events,
            netlink: Netlink::open()?,
            access: XdpAccess::Own,
            links: HashMap::new(),
            neighbours: Neighbours::default(),
            doubts: Doubts::default(),
            again: VecDeque::new(),
        };
        task.read_all().await?;
        if !task.links.contains_key(&link) {
            return Err(DriverError::NoInterface { name: format!("index {link}") });
        }
        Ok(task)
    }

    /// Has neighbours solicited through this, where netlink refuses.
    pub(super) fn ask_through(&mut self, access: XdpAccess) {
        self.access = access;
    }

    /// Runs until the last handle of the table is dropped.
    pub async fn run(mut self) {
        loop {
            self.act().await;
            if self.neighbours.poll_changed() {
                self.table.changed();
            }
            let due = self.neighbours.poll_timeout().into_iter().chain(self.doubts.due).min();
            tokio::select! {
                change = self.netlink.change() => match change {
                    Some(Change::Lost) => self.resynchronise().await,
                    Some(change) => self.on_change(change),
                    None => self.reopen().await,
                },
                request = self.requests.recv() => match request {
                    Some(request) => self.on_request(request).await,
                    None => return,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => self.on_timeout(),
                () = future::ready(()), if !self.again.is_empty() => {
                    if let Some(remote) = self.again.pop_front() {
                        self.resolve(remote).await;
                    }
                }
            }
        }
    }

    async fn on_request(&mut self, request: Request) {
        match request {
            Request::Resolve(remote) => self.resolve(remote).await,
            Request::Suspect(remote) => {
                if let Some(cell) = self.table.neighbour(remote) {
                    self.neighbours.on_suspect(&cell, Instant::now());
                }
                self.resolve(remote).await;
            }
            Request::Serve(link) => {
                self.link = link;
                self.doubts.all(Instant::now());
            }
            Request::Route(remote, reply) => {
                // The asker may have given up: nothing to do about it.
                let _ = reply.send(self.route(remote).await);
            }
        }
    }

    fn on_change(&mut self, change: Change) {
        let now = Instant::now();
        match change {
            Change::Link(link) => self.on_link(link, now),
            Change::LinkGone(index) => {
                if let Some(link) = self.links.remove(&index) {
                    self.doubts.all(now);
                    let _ = self.events.send(LinkEvent::Removed(link));
                }
            }
            Change::Address(ip) => {
                self.table.set_local(ip, true);
                self.on_addresses(now);
            }
            Change::AddressGone(ip) => {
                self.table.set_local(ip, false);
                self.on_addresses(now);
            }
            Change::Neighbour(key, seen) => self.neighbours.on_seen(key, seen, now),
            Change::Routes { prefix, len } => self.doubts.prefix(prefix, len, now),
            Change::Rules => self.doubts.all(now),
            Change::Lost => {}
        }
    }

    fn on_addresses(&mut self, now: Instant) {
        self.doubts.all(now);
        // Nobody need listen.
        let _ = self.events.send(LinkEvent::Addresses);
    }

    fn on_link(&mut self, link: LinkInfo, now: Instant) {
        if self.links.get(&link.index) == Some(&link) {
            return;
        }
        if let Some(mac) = link.mac {
            self.neighbours.on_source(link.index, mac);
        }
        let was_up = self.links.get(&link.index).is_some_and(|was| was.state.is_up());
        if link.state.is_up() && !was_up {
            self.neighbours.on_link_up(link.index, now);
        }
        self.doubts.all(now);
        // Nobody need listen.
        let _ = self.events.send(LinkEvent::Changed(link.clone()));
        self.links.insert(link.index, link);
    }

    fn on_timeout(&mut self) {
        let now = Instant::now();
        self.neighbours.on_timeout(now);
        if let Some(doubts) = self.doubts.take(now) {
            let affected = self.table.doubt(|remote| doubts.concern(remote));
            self.again.extend(affected);
        }
    }

    /// Finds the way to a destination and writes it into the table.
    async fn resolve(&mut self, remote: IpAddr) {
        let way = match self.netlink.route(remote, self.link).await {
            Ok(answer) => answer.map_or(Way::No, |answer| self.way(remote, &answer)),
            Err(error) => {
                tracing::warn!(%remote, %error, "no answer about a route");
                Way::Unknown
            }
        };
        self.table.answer(remote, way);
    }

    fn way(&mut self, remote: IpAddr, answer: &Answer) -> Way {
        let Some(out) = self.links.get(&answer.link) else { return Way::No };
        let vlan = out.vlan.filter(|(below, _)| *below == self.link).map(|(_, id)| id);
        let ours = answer.link == self.link || vlan.is_some();
        let (true, false, Some(mac)) = (ours, answer.local, out.mac) else { return Way::No };
        let key = NeighbourKey { link: answer.link, ip: answer.gateway.unwrap_or(remote) };
        let neighbour = self.neighbours.on_needed(key, mac, vlan, Instant::now());
        Way::Through { source: answer.source, neighbour }
    }

    async fn route(&self, remote: IpAddr) -> Option<Route> {
        let answer = self.netlink.route(remote.to_canonical(), self.link).await.ok().flatten()?;
        Some(Route {
            link: answer.link,
            interface: self.links.get(&answer.link).map_or_else(String::new, |link| link.name.clone()),
            source: answer.source,
            gateway: answer.gateway,
            local: answer.local || self.table.is_local(remote),
        })
    }

    /// Does what the neighbours need done.
    async fn act(&mut self) {
        while let Some(action) = self.neighbours.poll_action() {
            let outcome = match action {
                Action::Solicit(key) => self.netlink.solicit(key).await,
                Action::Rediscover(key) => self.netlink.invalidate(key).await,
            };
            if matches!(action, Action::Rediscover(_)) || outcome.is_err() {
                self.solicit_anyhow(action, outcome).await;
            }
        }
    }

    async fn solicit_anyhow(&self, action: Action, earlier: Result<(), DriverError>) {
        let (Action::Solicit(key) | Action::Rediscover(key)) = action;
        let outcome = match earlier {
            Ok(()) => self.netlink.solicit(key).await,
            error => error,
        };
        let Err(error) = outcome else { return };
        let anew = matches!(action, Action::Rediscover(_));
        if self.solicited_by_helper(key, anew).await {
            return;
        }
        // Without CAP_NET_ADMIN a packet does what netlink refuses to.
        if let Err(source) = send_to_resolve(key) {
            // The round counts as failed after its patience, and is repeated.
            tracing::debug!(?key, %error, %source, "a neighbour can't be solicited");
        }
    }

    /// Whether there is a helper, and it has done it.
    async fn solicited_by_helper(&self, key: NeighbourKey, anew: bool) -> bool {
        let XdpAccess::Helper(helper) = &self.access else { return false };
        if key.link != self.link {
            // A VLAN on it: the lease is of the interface itself.
            return false;
        }
        let helper = helper.clone();
        let asked = tokio::task::spawn_blocking(move || helper.find_neighbour(key.ip, anew));
        asked.await.is_ok_and(|outcome| outcome.is_ok())
    }

    /// Reads everything the kernel knows.
    async fn read_all(&mut self) -> Result<(), DriverError> {
        let links = self.netlink.links().await?;
        let gone: Vec<_> = {
            let present = |index: &u32| links.iter().any(|link| link.index == *index);
            self.links.keys().filter(|index| !present(index)).copied().collect()
        };
        gone.into_iter().for_each(|index| self.on_change(Change::LinkGone(index)));
        links.into_iter().for_each(|link| self.on_change(Change::Link(link)));
        self.table.replace_local(self.netlink.addresses().await?.into_iter().collect());
        let neighbours = self.netlink.neighbours().await?;
        self.neighbours.on_all_seen(neighbours, Instant::now());
        self.doubts.all(Instant::now());
        Ok(())
    }

    async fn resynchronise(&mut self) {
        tracing::info!("netlink notifications were lost; reading routes and neighbours again");
        if let Err(error) = self.read_all().await {
            tracing::warn!(%error, "routes can't be read");
            self.reopen().await;
        }
    }

    async fn reopen(&mut self) {
        loop {
            sleep(REOPEN_AFTER).await;
            if self.requests.is_closed() {
                return;
            }
            let opened = Netlink::open();
            match opened {
                Ok(netlink) => self.netlink = netlink,
                Err(error) => {
                    tracing::warn!(%error, "netlink can't be opened");
                    continue;
                }
            }
            match self.read_all().await {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, "routes can't be read"),
            }
        }
    }
}

impl Doubts {
    fn prefix(&mut self, prefix: IpAddr, len: u8, now: Instant) {
        self.due.get_or_insert(now + BURST);
        if self.prefixes.len() < PREFIXES {
            self.prefixes.push((prefix, len));
        } else {
            self.all = true;
        }
    }

    fn all(&mut self, now: Instant) {
        self.due.get_or_insert(now + BURST);
        self.all = true;
    }

    fn take(&mut self, now: Instant) -> Option<Self> {
        self.due.is_some_and(|due| due <= now).then(|| std::mem::take(self))
    }

    fn concern(&self, remote: IpAddr) -> bool {
        self.all || self.prefixes.iter().any(|(prefix, len)| contains(*prefix, *len, remote))
    }
}

fn contains(prefix: IpAddr, len: u8, ip: IpAddr) -> bool {
    match (prefix, ip) {
        (IpAddr::V4(prefix), IpAddr::V4(ip)) => {
            (prefix.to_bits() ^ ip.to_bits()).checked_shr(32 - u32::from(len.min(32))).unwrap_or(0) == 0
        }
        (IpAddr::V6(prefix), IpAddr::V6(ip)) => {
            (prefix.to_bits() ^ ip.to_bits()).checked_shr(128 - u32::from(len.min(128))).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// Sends an empty datagram to a neighbour, so that the kernel must resolve it.
fn send_to_resolve(key: NeighbourKey) -> io::Result<()> {
    let any: IpAddr = match key.ip {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    let to = match key.ip {
        IpAddr::V6(ip) => std::net::SocketAddrV6::new(ip, DISCARD_PORT, 0, key.link).into(),
        ip => std::net::SocketAddr::new(ip, DISCARD_PORT),
    };
    socket.send_to(&[], to).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_concern_what_lies_in_them() {
        let mut doubts = Doubts::default();
        let now = Instant::now();
        doubts.prefix(ip("10.1.0.0"), 16, now);
        doubts.prefix(ip("fd00::"), 8, now);
        doubts.prefix(ip("192.0.2.7"), 32, now);
        for (remote, concerned) in [
            ("10.1.255.1", true),
            ("10.2.0.1", false),
            ("fd12::1", true),
            ("fe80::1", false),
            ("192.0.2.7", true),
            ("192.0.2.6", false),
        ] {
            assert_eq!(doubts.concern(ip(remote)), concerned, "{remote}");
        }
        assert!(doubts.take(now).is_none(), "not due yet");
        doubts.prefix(ip("0.0.0.0"), 0, now);
        let due = doubts.take(now + BURST).expect("due");
        assert!(due.concern(ip("203.0.113.9")) && !due.concern(ip("2001:db8::1")));
        assert!(doubts.take(now + BURST).is_none());
    }

    #[test]
    fn many_prefixes_concern_all() {
        let mut doubts = Doubts::default();
        for n in 0..=PREFIXES as u8 {
            doubts.prefix(ip(&format!("10.0.{n}.0")), 24, Instant::now());
        }
        assert!(doubts.concern(ip("2001:db8::1")));
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }
}

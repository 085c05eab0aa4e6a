//! What moves through a helper: all that the data path can do, by processes without any capability.

use std::net::SocketAddr;

use integration_tests::{
    cert::Identity,
    fetch::{sent_by_xdp, until as until_status},
    huge_pages::HugePages,
    needs,
    netns::Namespace,
    ours::{Server, client_config, connect, fetch, server_config, xdp},
    world::{Family, INTERFACE, World},
};
use tokio::sync::oneshot;
use wirepath::{CibirId, ServerConfig, Stack, StackBuilder, StackStatus};

use crate::support::{DEADLINE, Folder, Running, drop_rights, helper};

/// A stack that has a helper, and takes AF_XDP or nothing.
pub(crate) fn through(socket: &str) -> StackBuilder {
    xdp().helper(socket)
}

/// A counter of the XSKs.
pub(crate) fn count(status: &StackStatus, name: &str) -> u64 {
    let xsks = status.devices.iter().filter(|device| device.status.queue.is_some());
    xsks.flat_map(|device| &device.stats.named).filter(|(own, _)| *own == name).map(|(_, count)| count).sum()
}

/// Packets that came by AF_XDP, as last told.
pub(crate) fn received(status: &StackStatus) -> u64 {
    let xsks = status.devices.iter().filter(|device| device.status.queue.is_some());
    xsks.map(|device| device.stats.rx_packet_received).sum()
}

/// A server without rights, through a helper of its own. Both end when dropped, the server first.
struct Helped {
    server: Server,
    _helper: Running,
}

impl Helped {
    fn start(
        namespace: &Namespace,
        folder: &Folder,
        arguments: &[&str],
        server: (SocketAddr, ServerConfig),
    ) -> Self {
        let socket = folder.path("server.sock");
        let helper = helper(namespace, &socket, arguments);
        Self { server: unprivileged(namespace, through(&socket), server), _helper: helper }
    }
}

/// A server without rights.
pub(crate) fn unprivileged(
    namespace: &Namespace,
    builder: StackBuilder,
    server: (SocketAddr, ServerConfig),
) -> Server {
    Server::start_after(drop_rights, namespace, builder, [server])
}

/// Long runs of packets go through the helper's XDP program where it says so, and through the TX ring where not.
#[test]
fn netns_trains_go_through_the_helpers_program() {
    needs!(Xdp);
    for (arguments, wanted) in [(&["--trains"][..], true), (&[], false)] {
        let world = World::pair(1500, 1).unwrap();
        let (folder, identity) = (Folder::new(), Identity::new());
        let at = world.server.socket(Family::V4, 4433);
        let helped =
            Helped::start(&world.server.namespace, &folder, arguments, (at, server_config(&identity)));
        let serving = helped.server.stack.clone();
        let client = world.client.namespace.runtime(async move || {
            let stack = xdp().build().await.unwrap();
            let connection = connect(&stack, at, client_config(&identity)).await.unwrap();
            for _ in 0..20 {
                fetch(&connection, 3_000_000).await;
                if wanted && count(&serving.status(), "tx_train_sent") > 0 {
                    break;
                }
            }
            let status = serving.status();
            assert!(status.is_xdp(), "{status}");
            ["tx_train_sent", "tx_train_dropped"].map(|name| count(&status, name))
        });
        let [sent, dropped] = client.join(DEADLINE);
        println!("{arguments:?}: {sent} packets in trains, {dropped} of them dropped");
        assert_eq!((sent > 0, dropped), (wanted, 0));
    }
}

#[test]
fn netns_qtip_cibir_and_a_cold_neighbour() {
    needs!(Xdp);
    let id = CibirId::new(1, &[7, 7, 7]).unwrap();
    for (name, qtip, cibir) in [("qtip", true, None), ("cibir", false, Some(id))] {
        for family in [Family::V4, Family::V6] {
            let world = World::pair(1500, 2).unwrap();
            let (folder, identity) = (Folder::new(), Identity::new());
            let at = world.server.socket(family, 4433);
            let (mut of_server, mut of_client) =
                (server_config(&identity).qtip(qtip), client_config(&identity).qtip(qtip));
            if let Some(id) = cibir {
                (of_server, of_client) = (of_server.cibir(id), of_client.cibir(id));
            }
            let helped =
                Helped::start(&world.server.namespace, &folder, &["--ports", "4433"], (at, of_server));
            let host = &world.client.namespace;
            let socket = folder.path("client.sock");
            let _helper = helper(host, &socket, &["--ports", "1024-65535"]);
            // Nobody's rights are needed to find the server's hardware address anew.
            let flush = {
                let host = host.clone();
                move || host.ip(&[&format!("neigh flush all dev {INTERFACE}")]).unwrap()
            };
            let client = host.runtime(async move || {
                let (want, wanted) = std::sync::mpsc::channel();
                let (done, is_done) = oneshot::channel();
                std::thread::spawn(move || {
                    if wanted.recv().is_ok() {
                        flush();
                        let _ = done.send(());
                    }
                });
                drop_rights();
                let stack = through(&socket).build().await.unwrap();
                want.send(()).unwrap();
                is_done.await.unwrap();
                let connection = connect(&stack, at, of_client).await.unwrap();
                fetch(&connection, 1_000_000).await;
                let parked = until_status(&stack, |status| count(status, "tx_datagram_parked") > 0);
                let status = parked.await;
                assert!(sent_by_xdp(&status) > 0 && status.is_xdp(), "{status}");
                let lost = ["tx_parked_full_dropped", "tx_parked_expired_dropped", "tx_unreachable_dropped"];
                lost.map(|name| count(&status, name))
            });
            assert_eq!(client.join(DEADLINE), [0; 3], "{name}, {family:?}");
            let status = helped.server.stack.status();
            assert!(status.is_xdp() && received(&status) > 0, "{name}: {status:?}");
        }
    }
}

/// The helper's memory lies on huge pages where there are any, and where not, it is said.
#[test]
fn netns_huge_pages_of_the_helpers() {
    needs!(Xdp);
    let world = World::pair(1500, 1).unwrap();
    let folder = Folder::new();
    let (host, socket) = (&world.client.namespace, folder.path("helper.sock"));
    let _helper = helper(host, &socket, &[]);
    let use_it = |look: fn(&StackStatus)| {
        let socket = socket.clone();
        let using = host.runtime(async move || {
            drop_rights();
            let stack = through(&socket).huge_pages(true).build().await.unwrap();
            look(&stack.status());
            stack.close().await;
        });
        using.join(DEADLINE);
    };
    let Some(reserved) = HugePages::reserve(16) else {
        return println!("SKIPPED netns_huge_pages_of_the_helpers: needs 32 MiB of unfragmented memory");
    };
    use_it(|status| assert!(!status.to_string().contains("huge"), "{status}"));
    drop(reserved);
    if HugePages::free() == 0 {
        use_it(|status| assert!(status.to_string().contains("sysctl vm.nr_hugepages="), "{status}"));
    }
}

/// A process that starts before its helper runs over OS UDP, says so, and takes AF_XDP once the helper is there.
#[test]
fn netns_a_helper_that_comes_later() {
    needs!(Xdp);
    let world = World::pair(1500, 2).unwrap();
    let (folder, identity) = (Folder::new(), Identity::new());
    let at = world.server.socket(Family::V4, 4433);
    let config = server_config(&identity).qtip(true);
    let _server = Server::start(&world.server.namespace, xdp(), [(at, config)]);
    let (host, socket) = (world.client.namespace.clone(), folder.path("helper.sock"));
    let client = world.client.namespace.runtime(async move || {
        let (want, wanted) = std::sync::mpsc::channel::<()>();
        let starter = {
            let socket = socket.clone();
            let start = move || helper(&host, &socket, &["--ports", "1024-65535"]);
            std::thread::spawn(move || wanted.recv().is_ok().then(start))
        };
        drop_rights();
        let stack = Stack::builder().interface(INTERFACE).helper(&socket).build().await.unwrap();
        let status = stack.status();
        let why = status.fallback.clone().unwrap_or_default();
        assert!(!status.is_xdp() && why.contains("nobody listens there"), "{status}");
        let early = connect(&stack, at, client_config(&identity)).await.unwrap();
        fetch(&early, 300_000).await;
        let qtip = || client_config(&identity).qtip(true);
        let refused = connect(&stack, at, qtip()).await.unwrap_err().to_string();
        assert!(refused.contains("QTIP") && refused.contains("nobody listens there"), "{refused}");
        want.send(()).unwrap();
        until_status(&stack, |status| status.is_xdp() && status.fallback.is_none()).await;
        // Those that are there come over as soon as packets reach their port's new way; QTIP is to be had.
        let before = sent_by_xdp(&stack.status());
        fetch(&early, 300_000).await;
        until_status(&stack, |status| sent_by_xdp(status) > before).await;
        let late = connect(&stack, at, qtip()).await.unwrap();
        fetch(&late, 300_000).await;
        stack.close().await;
        drop(starter.join().unwrap());
    });
    client.join(2 * DEADLINE);
}

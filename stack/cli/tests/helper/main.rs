//! Admin-owned mode: `wirepath helper` has the rights, and processes without any move data over AF_XDP.
#![allow(missing_docs)]

mod paths;
mod sharing;
mod support;

use std::{
    fs::{self, File},
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    process::Command,
};

use integration_tests::{
    cert::Identity,
    fetch::{connect, fetch, sent_by_xdp, server, until as until_status},
    needs,
    netns::Namespace,
    ours::xdp,
    world::{Family, INTERFACE, World},
};
use rustix::{
    io::{FdFlags, fcntl_setfd},
    net::{
        AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
        SocketType, recv, send, sendmsg, socket,
    },
};
use wirepath::{DriverError, Stack, TransportConfig, rules::Rules};
use wirepath_drivers::{
    AfXdp, AfXdpOptions, HelperClient, NextHop, NextHops, XdpAccess, XdpControl, XdpOptions,
};

use support::{
    DEADLINE, Folder, NOBODY, Running, drop_rights, has_no_rights, has_program, helper, told, until,
};

/// `wirepath` as nobody, without any right, and with next to no memory it may lock. The program is run by its
/// descriptor: the folder it lies in need not be open to all.
fn as_nobody(binary: &File, arguments: &[&str]) -> Command {
    fcntl_setfd(binary, FdFlags::empty()).unwrap();
    let mut command = Command::new("prlimit");
    let nobody = NOBODY.to_string();
    command.args(["--memlock=65536", "setpriv", "--reuid", &nobody, "--regid", &nobody, "--clear-groups"]);
    command.args(["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]);
    command.arg(format!("/proc/self/fd/{}", binary.as_raw_fd())).args(arguments);
    command
}

fn binary() -> File {
    File::open(env!("CARGO_BIN_EXE_wirepath")).unwrap()
}

fn serve(namespace: &Namespace, binary: &File, folder: &Folder, at: SocketAddr, socket: &str) -> Running {
    let (at, cert, key, root) =
        (at.to_string(), folder.path("cert.pem"), folder.path("key.pem"), folder.path("www"));
    let command = as_nobody(
        binary,
        &[
            "interop", "server", "--test", "transfer", "--xdp", INTERFACE, "--helper", socket, "--listen",
            &at, "--cert", &cert, "--key", &key, "--root", &root,
        ],
    );
    Running::start(namespace, command, "listening on")
}

#[test]
fn netns_processes_without_rights_serve_and_fetch() {
    needs!(Xdp);
    let world = World::pair(1500, 2).unwrap();
    let (folder, binary) = (Folder::new(), binary());
    let sockets = [folder.path("server.sock"), folder.path("client.sock")];
    let nobody = NOBODY.to_string();
    let hosts = [&world.server.namespace, &world.client.namespace];
    let _helpers = [
        helper(hosts[0], &sockets[0], &["--uid", &nobody, "--ports", "4433"]),
        helper(hosts[1], &sockets[1], &["--uid", &nobody]),
    ];
    assert!(hosts.iter().all(|host| !has_program(host)), "nobody has asked yet");
    let at = world.server.socket(Family::V4, 4433);
    let server = serve(hosts[0], &binary, &folder, at, &sockets[0]);
    assert!(server.said.contains("AF_XDP (driver mode"), "{}", server.said);
    let process = server.child.id().to_string();
    has_no_rights(&process);
    assert_eq!(told(&process, "Uid"), nobody);
    let (to, ca, out) = (at.to_string(), folder.path("cert.pem"), folder.path("downloads"));
    // Without AF_XDP it fails: it requires it.
    let arguments = [
        "interop",
        "client",
        "--test",
        "transfer",
        "--xdp",
        INTERFACE,
        "--helper",
        &sockets[1],
        "--connect",
        &to,
        "--ca",
        &ca,
        "--out",
        &out,
        "file",
    ];
    for _ in 0..2 {
        let mut client = as_nobody(&binary, &arguments);
        let output = hosts[1].run(|| client.output()).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let come = fs::read(folder.0.join("downloads/file")).unwrap();
        assert!(come == fs::read(folder.0.join("www/file")).unwrap(), "it came changed");
        fs::remove_file(folder.0.join("downloads/file")).unwrap();
        until("the client's program is gone", || !has_program(hosts[1]));
    }
    assert!(has_program(hosts[0]));
}

#[test]
fn netns_a_killed_process_leaves_nothing_and_the_next_one_gets_all() {
    needs!(Xdp);
    let world = World::pair(1500, 1).unwrap();
    let (folder, binary) = (Folder::new(), binary());
    let host = &world.server.namespace;
    let socket = folder.path("helper.sock");
    let at = world.server.socket(Family::V4, 4433);
    let nobody = NOBODY.to_string();
    for keep in [false, true] {
        let keep_attached = if keep { &["--keep-attached"][..] } else { &[] };
        let helper = helper(host, &socket, &[&["--uid", &nobody], keep_attached].concat());
        for _ in 0..3 {
            // At once: what is left of the former is cleaned up before this one is answered.
            let server = serve(host, &binary, &folder, at, &socket);
            assert!(server.said.contains("AF_XDP"), "{}", server.said);
            assert!(has_program(host));
            server.kill();
        }
        if keep {
            assert!(has_program(host), "it was told to keep it attached");
        } else {
            until("the program is gone", || !has_program(host));
        }
        helper.kill();
        until("the program is gone with the helper", || !has_program(host));
    }
}

#[test]
fn netns_a_killed_helper_is_told_and_another_one_found() {
    needs!(Xdp);
    let world = World::pair(1500, 1).unwrap();
    let folder = Folder::new();
    let identity = Identity::new();
    let socket = folder.path("helper.sock");
    let at = world.server.socket(Family::V4, 4433);
    let _served = server(&world.server.namespace, xdp(), at, &identity, TransportConfig::default());
    let host = world.client.namespace.clone();
    let first = helper(&host, &socket, &[]);
    let client = world.client.namespace.runtime(async move || {
        // The helpers are started by a thread that has rights.
        let (want, wanted) = std::sync::mpsc::channel::<()>();
        let starter = {
            let (host, socket) = (host.clone(), socket.clone());
            std::thread::spawn(move || wanted.recv().is_ok().then(|| helper(&host, &socket, &[])))
        };
        drop_rights();
        let builder = Stack::builder().interface(INTERFACE).helper(&socket).require_xdp(true);
        let stack = builder.build().await.unwrap();
        let connection = connect(&stack, at, &identity, TransportConfig::default()).await;
        fetch(&connection, 300_000, || {}).await;
        assert!(stack.status().is_xdp(), "{}", stack.status());
        assert!(stack.status().rules.iter().any(|rule| rule.hits > 0), "{:?}", stack.status().rules);
        let mut first = Some(first);
        fetch(&connection, 3_000_000, || first.take().unwrap().kill()).await;
        let status = until_status(&stack, |status| !status.is_xdp()).await;
        let why = status.fallback.as_deref().unwrap_or_default();
        assert!(why.contains("the helper at") && why.contains("helper.sock"), "{status}");
        fetch(&connection, 300_000, || {}).await;
        until_status(&stack, |status| status.to_string().contains("nobody listens there")).await;
        want.send(()).unwrap();
        until_status(&stack, |status| status.is_xdp() && status.fallback.is_none()).await;
        let before = sent_by_xdp(&stack.status());
        // Connections from now on take it again; the former one goes on.
        let another = connect(&stack, at, &identity, TransportConfig::default()).await;
        fetch(&another, 300_000, || {}).await;
        fetch(&connection, 300_000, || {}).await;
        until_status(&stack, |status| sent_by_xdp(status) > before).await;
        drop(starter.join().unwrap());
    });
    client.join(2 * DEADLINE);
}

/// What is asked of a helper that is not allowed is refused, by name, and a stack says so and takes OS UDP.
#[test]
fn netns_others_and_other_things_are_refused() {
    needs!(Xdp);
    let world = World::pair(1500, 2).unwrap();
    let folder = Folder::new();
    let host = &world.server.namespace;
    let refused = |error: DriverError, words: &[&str]| {
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{text:?} does not say all of {words:?}");
    };
    // Two users, so that the file lets everybody connect, and the helper itself must tell them apart.
    let socket = folder.path("others.sock");
    let others = helper(host, &socket, &["--uid", &NOBODY.to_string(), "--uid", "12345"]);
    let attach = |socket: &str, interface: &str| {
        host.run(|| HelperClient::new(socket).attach(interface, XdpOptions::default()))
    };
    refused(attach(&socket, INTERFACE).unwrap_err(), &["user 0 may not use it", "--uid"]);
    let status = {
        let socket = socket.clone();
        let building = host.runtime(async move || {
            let builder = Stack::builder().interface(INTERFACE).helper(&socket);
            builder.build().await.unwrap().status()
        });
        building.join(DEADLINE)
    };
    assert!(status.fallback.is_some_and(|why| why.contains("user 0 may not use it")));
    others.kill();
    refused(attach(&socket, INTERFACE).unwrap_err(), &["nobody listens there", "wirepath helper --socket"]);

    let socket = folder.path("own.sock");
    let _helper = helper(host, &socket, &["--queues", "1"]);
    refused(attach(&socket, "lo").unwrap_err(), &["lo is not among --xdp"]);
    assert!(matches!(attach(&socket, "nosuch0").unwrap_err(), DriverError::NoInterface { .. }));
    host.run(|| {
        let client = HelperClient::new(&socket);
        let lease = client.attach(INTERFACE, XdpOptions::default()).unwrap();
        refused(attach(&socket, INTERFACE).unwrap_err(), &["is leased to process", "of user 0"]);
        let own: IpAddr = world.server.v4.into();
        let port =
            |port| Rules::builder().redirect().udp_dst_port(port).local_addresses([own]).build().unwrap();
        refused(lease.set_rules(&port(4433)).unwrap_err(), &["no UDP socket on port 4433"]);
        let held = UdpSocket::bind((own, 4433)).unwrap();
        lease.set_rules(&port(4433)).unwrap();
        drop(held);
        let drop_all = Rules::builder().drop().udp().build().unwrap();
        refused(lease.set_rules(&drop_all).unwrap_err(), &["--any-rules"]);
        assert_eq!(lease.rules(), port(4433), "what was refused is not in force");
        let open = |queue| {
            let access = XdpAccess::Helper(client.clone());
            let options = AfXdpOptions { access, ..AfXdpOptions::new(INTERFACE, queue) };
            AfXdp::open(&options, Box::new(Nowhere))
        };
        refused(open(1).unwrap_err(), &["queue 1 is not among --queues"]);
        let xsk = open(0).unwrap();
        lease.register_socket(0, xsk.as_fd()).unwrap();
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(lease.register_socket(0, other.as_fd()).is_err(), "that is no XSK");
        assert!(lease.lapsed().is_none());
        drop((lease, xsk));
        // Given back, it is free.
        attach(&socket, INTERFACE).unwrap();
    });
}

struct Nowhere;

impl NextHops for Nowhere {
    fn lookup(&mut self, _remote: IpAddr) -> NextHop {
        NextHop::Unreachable
    }

    fn generation(&self) -> u64 {
        0
    }
}

/// A connection to a helper that has said that we are welcome.
fn dial(socket_path: &str) -> OwnedFd {
    let end = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    rustix::net::connect(&end, &SocketAddrUnix::new(socket_path).unwrap()).unwrap();
    let mut welcome = [0; 64];
    assert_eq!(recv(&end, &mut welcome, RecvFlags::empty()).unwrap().0, 3);
    end
}

/// Whoever breaks the protocol loses the connection; everybody else notices nothing.
#[test]
fn netns_garbage_on_the_socket() {
    needs!(Xdp);
    let world = World::pair(1500, 1).unwrap();
    let folder = Folder::new();
    let socket_path = folder.path("helper.sock");
    let host = &world.server.namespace;
    let helper = helper(host, &socket_path, &[]);
    host.run(|| {
        let lease = HelperClient::new(&socket_path).attach(INTERFACE, XdpOptions::default()).unwrap();
        let open_files = || fs::read_dir(format!("/proc/{}/fd", helper.child.id())).unwrap().count();
        let before = open_files();
        let noise: Vec<u8> = (0..100_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for len in [1, 2, 7, 100, 65_536, 65_537, 100_000] {
            for first in [0, 3, 77, 255] {
                let end = dial(&socket_path);
                let mut message = noise[..len].to_vec();
                message[0] = first;
                send(&end, &message, SendFlags::empty()).unwrap();
                let mut answer = [0; 256];
                // Cut off: end of file, or "reset" if we said more than it read.
                let answer = recv(&end, &mut answer, RecvFlags::empty()).map(|(len, _)| len);
                assert!(!matches!(answer, Ok(1..)), "{len} bytes, the first {first}: {answer:?}");
            }
        }
        // Descriptors nobody asked for are closed; what needs a lease is refused without one.
        let end = dial(&socket_path);
        let files: Vec<File> = (0..5).map(|_| File::open("/dev/null").unwrap()).collect();
        let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        for request in [&[4][..], &[2, 0, 0, 0, 0]] {
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(5))];
            let mut along = SendAncillaryBuffer::new(&mut space);
            assert!(along.push(SendAncillaryMessage::ScmRights(&files)));
            sendmsg(&end, &[std::io::IoSlice::new(request)], &mut along, SendFlags::empty()).unwrap();
            let mut answer = [0; 256];
            let (len, _) = recv(&end, &mut answer, RecvFlags::empty()).unwrap();
            assert_eq!(answer[0], 5, "refused, not {:?}", &answer[..len]);
        }
        drop(end);
        until("the helper holds nothing of it", || open_files() == before);
        assert!(lease.lapsed().is_none());
        lease.rule_hits().unwrap();
    });
}

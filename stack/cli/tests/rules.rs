//! `wirepath rules` on a veth pair.
#![allow(missing_docs)]

use std::{
    io::{BufRead, BufReader, Read},
    net::{Ipv4Addr, UdpSocket},
    process::{Child, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use wirepath_cli::world::{Link, World, WorldError};

const DATAGRAMS: u64 = 10_000;
/// Datagrams on their way at a time: far fewer than a socket's receive buffer holds.
const WINDOW: u64 = 64;
const DEADLINE: Duration = Duration::from_secs(60);

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

/// `wirepath rules` on the server's interface, once its rules are in force.
fn rules(world: &World, arguments: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wirepath"));
    command.args(["rules", "--iface", world.server.interface(), "--interval", "0.05"]).args(arguments);
    let mut child = world.server.spawn(command_with_pipe(command), None).unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    output.read_line(&mut first).unwrap();
    assert!(first.starts_with("driver mode on wp-server"), "{first:?}");
    (child, output)
}

fn command_with_pipe(mut command: Command) -> Command {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// Ends it as Ctrl-C does, and returns the rest of what it printed.
fn interrupt((mut child, mut output): (Child, BufReader<ChildStdout>)) -> String {
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success());
    text
}

/// Sends datagrams to ports 42 and 43 by turns and returns how many arrived at each.
fn exchange(world: &World, datagrams: u64) -> [u64; 2] {
    let address = world.server.address();
    let sockets = world.server.inside(move || [42, 43].map(|port| UdpSocket::bind((address, port)).unwrap()));
    let sender = world.client.inside(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
    let arrived = [AtomicU64::new(0), AtomicU64::new(0)];
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for (socket, count) in sockets.iter().zip(&arrived) {
            let done = &done;
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            scope.spawn(move || {
                loop {
                    // A read that times out has left nothing in the buffer.
                    match socket.recv(&mut [0; 64]) {
                        Ok(_) => drop(count.fetch_add(1, Ordering::Release)),
                        Err(_) if done.load(Ordering::Acquire) => break,
                        Err(_) => {}
                    }
                }
            });
        }
        let deadline = Instant::now() + DEADLINE;
        let wait = |sent: u64| {
            while arrived[1].load(Ordering::Acquire) < sent && Instant::now() < deadline {
                thread::yield_now();
            }
        };
        for sent in 0..datagrams {
            for port in [42, 43] {
                sender.send_to(b"datagram", (address, port)).unwrap();
            }
            wait((sent + 1).saturating_sub(WINDOW));
        }
        wait(datagrams);
        done.store(true, Ordering::Release);
    });
    arrived.map(AtomicU64::into_inner)
}

fn last_hits(text: &str, rule: &str) -> Option<u64> {
    let line = text.lines().rfind(|line| line.ends_with(rule))?;
    line.split_whitespace().next()?.parse().ok()
}

#[test]
fn netns_of_10_000_datagrams_each_to_ports_42_and_43_arrive_none_and_all() {
    let Some(world) = world("netns_of_10_000_datagrams_each_to_ports_42_and_43_arrive_none_and_all") else {
        return;
    };
    let command = rules(&world, &["drop udp dst port 42", "pass udp dst port 43"]);
    assert_eq!(exchange(&world, DATAGRAMS), [0, DATAGRAMS]);
    let text = interrupt(command);
    assert_eq!(last_hits(&text, "drop udp port 42"), Some(DATAGRAMS), "{text}");
    assert_eq!(last_hits(&text, "pass udp port 43"), Some(DATAGRAMS), "{text}");
    assert_eq!(exchange(&world, 10), [10, 10], "nothing stays behind");
}

#[test]
fn netns_a_changed_file_is_read_on_sighup() {
    let Some(world) = world("netns_a_changed_file_is_read_on_sighup") else { return };
    let file = std::env::temp_dir().join(format!("wirepath-rules-{}", std::process::id()));
    std::fs::write(&file, "# nothing yet\n\npass udp port 43 # stays\n").unwrap();
    let (child, mut output) = rules(&world, &["--file", file.to_str().unwrap()]);
    assert_eq!(exchange(&world, 10), [10, 10]);
    std::fs::write(&file, "drop udp port 42\npass udp port 43\n").unwrap();
    kill(Pid::from_raw(child.id() as i32), Signal::SIGHUP).unwrap();
    // Standard output ends if it ended, so this does too.
    assert!(output.by_ref().lines().any(|line| line.unwrap() == "the rules were read again"));
    assert_eq!(exchange(&world, 10), [0, 10]);
    let text = interrupt((child, output));
    std::fs::remove_file(&file).unwrap();
    assert_eq!(last_hits(&text, "drop udp port 42"), Some(10), "{text}");
    assert_eq!(last_hits(&text, "pass udp port 43"), Some(20), "{text}");
}

#[test]
fn what_is_no_rule_is_refused_with_an_example() {
    let output = Command::new(env!("CARGO_BIN_EXE_wirepath"))
        .args(["rules", "--iface", "lo", "drop udp everything"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("udp everything"), "{text}");
    assert!(text.contains("for example: udp port 42"), "{text}");
}

//! `wirepath helper`: does for processes without rights what AF_XDP takes rights for, until Ctrl-C.

use std::path::PathBuf;

use perf_protocol::Result;
use tokio::signal::unix::{SignalKind, signal};
use wirepath_drivers::{Helper, HelperOptions, HelperPolicy, XdpModeWish, XdpOptions};
use wirepath_wire::rules::PortSet;

/// Where it listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/wirepath.sock";

/// Options of `wirepath helper`.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// The Unix socket to listen on.
    #[arg(long, default_value = DEFAULT_SOCKET, value_name = "PATH")]
    socket: PathBuf,
    /// An interface to lease, to one process at a time. May be given several times.
    #[arg(long, required = true, value_name = "IFACE")]
    xdp: Vec<String>,
    /// A user who may use it. May be given several times. Without any, and without --gid: whoever starts it.
    #[arg(long, value_name = "N")]
    uid: Vec<u32>,
    /// A group whose members may use it. May be given several times.
    #[arg(long, value_name = "N")]
    gid: Vec<u32>,
    /// The ports that may be redirected, such as 443,8000-8100. Without it: any UDP port on which the client's user has a
    /// socket. Ports of TCP (QTIP), and those that processes share by connection IDs (CIBIR), must be named here.
    #[arg(long, value_name = "LIST")]
    ports: Option<PortSet>,
    /// How many queues of an interface may be used, from the first one on; the others stay the kernel's.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    queues: Option<u32>,
    /// Lets clients drop, send back and redirect what they wish, not only take their own ports.
    #[arg(long)]
    any_rules: bool,
    /// Lets clients send long runs of packets through the XDP program, which is faster. They can then also have this host
    /// receive whatever they like, as though it had come in by the interface.
    #[arg(long)]
    trains: bool,
    /// Attaches the XDP program now and leaves it attached between leases.
    #[arg(long)]
    keep_attached: bool,
    /// With --keep-attached: in SKB mode, without trying driver mode first.
    #[arg(long, requires = "keep_attached")]
    skb: bool,
}

/// Serves until Ctrl-C or SIGTERM. Its leases end then, and the interfaces are as they were.
///
/// # Errors
/// The text says what to do.
pub async fn run(options: Options) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let wish = if options.skb { XdpModeWish::Skb } else { XdpModeWish::DriverFirst };
    let what = format!("{} for {}", options.socket.display(), options.xdp.join(", "));
    let _helper = Helper::start(HelperOptions {
        socket: options.socket,
        interfaces: options.xdp,
        policy: HelperPolicy {
            uids: options.uid,
            gids: options.gid,
            ports: options.ports,
            any_rules: options.any_rules,
            trains: options.trains,
            queues: options.queues,
        },
        keep_attached: options.keep_attached.then(|| XdpOptions::from(wish)),
        log: |line| eprintln!("wirepath helper: {line}"),
    })?;
    println!("helping at {what}; Ctrl-C ends it");
    tokio::select! {
        outcome = tokio::signal::ctrl_c() => outcome?,
        _ = terminate.recv() => {}
    }
    Ok(())
}

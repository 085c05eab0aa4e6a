//! The command line that every program of the benchmark shares.

use std::{net::SocketAddr, path::PathBuf};

/// Which side this process is.
#[derive(clap::Subcommand, Clone, Debug)]
pub enum Role {
    /// Listens, prints READY, and answers until it is killed.
    Server(Options),
    /// Does one timed piece of work, prints one line of JSON, and exits.
    Client(Options),
}

/// What the client does.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Streams ask for endless bytes; the bytes of `--secs` are counted.
    Bulk,
    /// Streams send for `--secs`; all bytes over the time to the server's last FIN.
    Upload,
    /// One connection, loops of: new stream, request, response.
    Rps,
    /// Loops of: new connection, full handshake, eight bytes and back, close.
    Hps,
    /// Opens many connections and holds them.
    Idle,
    /// Datagrams one way, as fast as the congestion window lets.
    Dgram,
}

impl Mode {
    /// As on the command line and in the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Upload => "upload",
            Self::Rps => "rps",
            Self::Hps => "hps",
            Self::Idle => "idle",
            Self::Dgram => "dgram",
        }
    }
}

/// The options of both sides; either takes all of them and uses those it has a use for.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Server: the address to listen on. Client: the local address, with port 0.
    #[arg(long)]
    pub bind: Option<SocketAddr>,
    /// Client: the server's address.
    #[arg(long)]
    pub connect: Option<SocketAddr>,
    /// The network interface to run AF_XDP on.
    #[arg(long, value_name = "NAME")]
    pub iface: Option<String>,
    /// Server: certificate chain, PEM.
    #[arg(long, default_value = "cert.pem", value_name = "FILE")]
    pub cert: PathBuf,
    /// Server: private key, PEM.
    #[arg(long, default_value = "key.pem", value_name = "FILE")]
    pub key: PathBuf,
    /// Client: the certificates it trusts, PEM.
    #[arg(long, default_value = "cert.pem", value_name = "FILE")]
    pub ca: PathBuf,
    /// What the client does.
    #[arg(long, value_enum, default_value = "bulk")]
    pub mode: Mode,
    /// Seconds measured.
    #[arg(long, default_value_t = 5.0, value_name = "F")]
    pub secs: f64,
    /// Seconds before measuring begins, in bulk, rps and hps.
    #[arg(long, default_value_t = 0.5, value_name = "F")]
    pub warmup: f64,
    /// Streams of bulk and upload.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub streams: usize,
    /// Loops of rps, hps and idle.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub concurrency: usize,
    /// Connections of idle.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub conns: usize,
    /// Connections that are opened first and lie idle beside the measured one; not in idle.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub beside: usize,
    /// Bytes of a request in rps.
    #[arg(long, default_value_t = 100, value_name = "BYTES")]
    pub req: usize,
    /// Bytes of a response in rps.
    #[arg(long, default_value_t = 100, value_name = "BYTES")]
    pub resp: u64,
    /// Bytes of a datagram in dgram; at most 128 KiB.
    #[arg(long, default_value_t = 1200, value_name = "BYTES")]
    pub dgram: usize,
    /// Flow control: bytes a stream may have outstanding.
    #[arg(long, default_value_t = 8 << 20, value_name = "BYTES")]
    pub stream_window: u64,
    /// Flow control: bytes a connection may have outstanding.
    #[arg(long, default_value_t = 32 << 20, value_name = "BYTES")]
    pub conn_window: u64,
    /// Bytes kept for sending on a connection.
    #[arg(long, default_value_t = 8 << 20, value_name = "BYTES")]
    pub send_buffer: u64,
    /// Bidirectional streams the peer may have open.
    #[arg(long, default_value_t = 1024, value_name = "N")]
    pub max_streams: u64,
    /// IP MTU of the link.
    #[arg(long, default_value_t = 1500, value_name = "BYTES")]
    pub mtu: u16,
    /// SO_RCVBUF and SO_SNDBUF, where there are sockets.
    #[arg(long, default_value_t = 4 << 20, value_name = "BYTES")]
    pub sockbuf: usize,
    /// The server's process, so that the client can measure its CPU time and memory.
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// Server: enable RFC 9221 datagrams (the client does by `--mode dgram`).
    #[arg(long)]
    pub datagrams: bool,
    /// A setting of one stack's own; those it does not know, it ignores.
    #[arg(long = "opt", value_name = "KEY=VALUE", value_parser = key_value)]
    pub opts: Vec<(String, String)>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) => Ok((key.into(), value.into())),
        None => Err("expected KEY=VALUE".into()),
    }
}

impl Options {
    /// The value of `--opt key=value`; the last one counts.
    pub fn opt(&self, key: &str) -> Option<&str> {
        self.opts.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// The server's own address.
    ///
    /// # Errors
    /// `--bind` is missing.
    pub fn listen_addr(&self) -> crate::Result<SocketAddr> {
        self.bind.ok_or_else(|| "a server needs --bind ADDR".into())
    }

    /// The server's address, for a client.
    ///
    /// # Errors
    /// `--connect` is missing.
    pub fn connect_addr(&self) -> crate::Result<SocketAddr> {
        self.connect.ok_or_else(|| "a client needs --connect ADDR".into())
    }

    /// The client's local address: `--bind`, or any of the server's address family.
    pub fn local_addr(&self) -> SocketAddr {
        match (self.bind, self.connect) {
            (Some(addr), _) => addr,
            (None, Some(SocketAddr::V6(_))) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
            (None, _) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        }
    }

    /// Whether this run sends datagrams.
    pub fn wants_datagrams(&self) -> bool {
        self.datagrams || self.mode == Mode::Dgram
    }

    /// The largest UDP payload that fits the link: its MTU less the IP and UDP headers.
    pub fn max_udp_payload(&self) -> u16 {
        let v6 = self.connect.or(self.bind).is_some_and(|addr| addr.is_ipv6());
        self.mtu.saturating_sub(if v6 { 48 } else { 28 })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(subcommand)]
        role: Role,
    }

    fn client(line: &str) -> Options {
        match Program::try_parse_from(line.split(' ')).unwrap().role {
            Role::Client(options) => options,
            Role::Server(_) => panic!("a server"),
        }
    }

    #[test]
    fn takes_what_the_runner_passes() {
        let options = client(
            "p client --connect 10.77.0.1:4433 --bind 10.77.0.2:0 --iface c0 --ca /tmp/cert.pem --server-pid 7 \
             --secs 4.0 --mtu 1500 --opt path=udp --opt batch=16 --opt path=xdp --mode rps --concurrency 32",
        );
        assert_eq!(options.mode, Mode::Rps);
        assert_eq!(options.opt("path"), Some("xdp"));
        assert_eq!(options.opt("unheard"), None);
        assert_eq!(options.max_udp_payload(), 1472);
        assert_eq!(options.local_addr(), "10.77.0.2:0".parse().unwrap());
        assert!(!options.wants_datagrams());
    }

    #[test]
    fn local_address_follows_the_servers_family() {
        let options = client("p client --connect [::1]:4433 --mode dgram");
        assert_eq!(options.local_addr(), "[::]:0".parse().unwrap());
        assert_eq!(options.max_udp_payload(), 1452);
        assert!(options.wants_datagrams());
    }

    #[test]
    fn says_what_is_missing() {
        assert!(client("p client").connect_addr().unwrap_err().to_string().contains("--connect"));
        assert!(client("p client").listen_addr().unwrap_err().to_string().contains("--bind"));
    }
}

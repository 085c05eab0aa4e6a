//! `wirepath rules`: XDP rules on an interface, until Ctrl-C.

mod table;

use std::{fs, path::PathBuf, time::Duration};

use perf_protocol::Result;
use tokio::signal::unix::{SignalKind, signal};
use wirepath_drivers::{XdpModeWish, XdpProgram};
use wirepath_wire::rules::{Action, Rule, Rules, RulesBuilder, VlanPolicy};

use table::HitTable;

/// How rules are written, for `--help` of the commands that take them.
pub const SYNTAX: &str = "\
A rule is an action and a condition; the first rule whose condition holds decides, and what none decides goes to the
kernel. So does whatever is not understood in full: other protocols than IP, fragments, IPv4 options, IPv6 extension
headers, a second VLAN tag.

Actions:
  pass       to the kernel
  drop       away
  redirect   to the AF_XDP socket of the queue; to the kernel where there is none
  l2fwd      back out of the interface, Ethernet addresses swapped

Conditions:
  all                                         every IP packet
  udp                                         all UDP
  udp dst port 42                             UDP destination port (`dst` may be left out)
  udp dst ports 443,8000-8100                 any of these
  udp from 10.0.0.1:5000 to 10.0.0.2:443      UDP of exactly these addresses and ports
  to 10.0.0.0/8                               IP destination prefix, v4 or v6
  protocol 1                                  IP protocol or next header
  tcp dst port 443                            TCP destination port
  tcp dst ports 443,4433                      any of these
  tcp control 443                             TCP segments with SYN, FIN or RST to this port
  quic dst port 443 long-source 0:a1b2        QUIC whose source connection ID holds these bytes at offset 0;
                                              also long-destination, short-destination
  tcp-quic dst port 443 long-source 0:a1b2    the same in TCP segments

Example: wirepath rules --iface eth0 'drop udp dst port 42'";

/// Options of `wirepath rules`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = SYNTAX)]
pub struct Options {
    /// The rules, each one argument.
    #[arg(value_name = "RULE", required_unless_present = "file")]
    rules: Vec<Rule>,
    /// The network interface.
    #[arg(long, value_name = "NAME", alias = "interface")]
    iface: String,
    /// More rules behind those: one a line, `#` starts a comment. On SIGHUP the file is read again; packets that the
    /// changed rules don't concern notice nothing.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Which frames the rules look at: `untagged`, `any`, or those of one VLAN by its id. The others pass.
    #[arg(long, default_value = "untagged", value_name = "WHICH")]
    vlan: VlanPolicy,
    /// Attach in SKB mode, without trying driver mode first.
    #[arg(long)]
    skb: bool,
    /// Seconds from one look at the counters to the next.
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", value_parser = seconds)]
    interval: f64,
}

/// Keeps the rules in force until Ctrl-C or SIGTERM and shows how many packets each has decided. The interface is
/// then as it was, whatever ends the process.
///
/// # Errors
/// The text says what to do.
pub async fn run(options: Options) -> Result<()> {
    let rules = options.read()?;
    let wish = if options.skb { XdpModeWish::Skb } else { XdpModeWish::DriverFirst };
    let program = XdpProgram::attach(&options.iface, wish)?;
    program.set_rules(&rules)?;
    if let Some(attachment) = program.attachment() {
        let why =
            if attachment.reason.is_empty() { String::new() } else { format!(" ({})", attachment.reason) };
        println!("{} on {}{why}; Ctrl-C ends it", attachment.mode, attachment.interface);
    }
    if rules.as_slice().iter().any(|rule| rule.action == Action::Redirect) {
        eprintln!("note: this command has no AF_XDP socket; what is to be redirected goes to the kernel");
    }
    let mut table = HitTable::new();
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(options.interval));
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => break,
            _ = terminate.recv() => break,
            _ = hangup.recv() => match options.read().and_then(|rules| Ok(program.set_rules(&rules)?)) {
                Ok(()) => println!("the rules were read again"),
                Err(error) => eprintln!("wirepath: the rules stay as they are: {error}"),
            },
            _ = ticks.tick() => {
                if !program.is_attached() {
                    return Err(format!("the XDP program is gone from {}: deleted, or forced off", options.iface).into());
                }
                table.show(&program)?;
            }
        }
    }
    table.show(&program)
}

impl Options {
    fn read(&self) -> Result<Rules> {
        let mut list = self.rules.iter().cloned().fold(Rules::builder().vlan(self.vlan), RulesBuilder::rule);
        if let Some(path) = &self.file {
            list = read_file(path)?.into_iter().fold(list, RulesBuilder::rule);
        }
        Ok(list.build()?)
    }
}

/// The rules of a file: one a line; blank lines and what follows `#` don't count.
///
/// # Errors
/// The file can't be read; or a line is no rule, which the text names.
pub fn read_file(path: &std::path::Path) -> Result<Vec<Rule>> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut rules = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            rules.push(line.parse().map_err(|error| format!("{}:{number}: {error}", path.display()))?);
        }
    }
    Ok(rules)
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    // Shorter ones would only busy the machine with counting.
    if (0.05..=86_400.0).contains(&seconds) { Ok(seconds) } else { Err("0.05 to 86400".into()) }
}

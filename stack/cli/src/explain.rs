//! `wirepath explain`: which rule, socket and binding would take a packet, or what would drop it.

mod packet;
mod pcap;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use perf_protocol::Result;
use wirepath::{TransportConfig, tls};
use wirepath_actors::{
    explain::Scene,
    kit::Slot,
    nic::redirects,
    tables::{Carriers, Claim, Socket, SocketPool},
};
use wirepath_quic::{
    CibirId, Cid, CidGenerator as _, Clock as _, Endpoint, NoopClock, cid::RandomCids, reset::ResetKey,
};
use wirepath_wire::rules::{Rule, Rules, RulesBuilder, VlanPolicy};

use crate::{
    files,
    identity::Identity,
    rules::{SYNTAX, read_file},
};
use packet::PacketOptions;

/// Options of `wirepath explain`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = format!("{EXAMPLE}\n\n{SYNTAX}"))]
pub struct Options {
    /// XDP rules, each one argument: in force before those of the bound ports.
    #[arg(value_name = "RULE")]
    rules: Vec<Rule>,
    /// More rules behind those: a file, one a line.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A local address with a listener. May be given several times.
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    bind: Vec<SocketAddr>,
    /// These take QUIC in TCP segments (QTIP) as well.
    #[arg(long, requires = "bind", conflicts_with = "cibir")]
    qtip: bool,
    /// These are shared with other processes by this CIBIR identifier: in connection IDs at this offset, in hex.
    #[arg(long, requires = "bind", value_name = "OFFSET:HEX", value_parser = cibir)]
    cibir: Option<CibirId>,
    /// The CID of a connection, in hex. May be given several times.
    #[arg(long, value_name = "HEX", value_parser = cid)]
    cid: Vec<Cid>,
    /// An address of the interface: redirect takes only what is sent to one of these. Without any, all count.
    #[arg(long, value_name = "IP")]
    local: Vec<IpAddr>,
    /// Which frames the rules look at: `untagged`, `any`, or those of one VLAN by its id.
    #[arg(long, default_value = "untagged", value_name = "WHICH")]
    vlan: VlanPolicy,
    /// Take UDP and TCP checksums on trust.
    #[arg(long)]
    trust_checksums: bool,
    #[command(flatten)]
    packet: PacketOptions,
}

const EXAMPLE: &str = "\
Example: wirepath explain 'drop udp dst port 42' --bind 10.0.0.2:443 \\
             --src 10.0.0.1:5000 --dst 10.0.0.2:443 --quic-dcid 0102030405060708
         wirepath explain --bind 10.0.0.2:443 --qtip --src 10.0.0.1:5000 --dst 10.0.0.2:443 --tcp syn";

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "an address with its port, as in 10.0.0.1:5000 or [fd00::1]:5000".to_owned())
}

/// Tells of each packet which way it would go. Nothing is attached, opened or sent: the scene is what the options say.
///
/// # Errors
/// The text says what to do.
pub fn run(options: &Options) -> Result<()> {
    let rules = options.rules()?;
    let sockets = SocketPool::default();
    let mut cids = RandomCids::new(ResetKey::random());
    if let Some(id) = options.cibir {
        cids = cids.with_cibir(id);
    }
    for claim in options.claims() {
        let socket = Socket::new(claim).with_cid_len(cids.len());
        // A listener is there; which actor it is matters to nobody here.
        let _ = socket.listeners.set(Box::new([Slot::default()]));
        sockets.insert(Arc::new(socket));
    }
    let mut endpoint = endpoint(cids)?;
    let mut scene = Scene {
        rules: &rules,
        sockets: &sockets,
        has_cid: &|cid| options.cid.contains(cid),
        has_handshake: &|_| false,
        has_reset_token: &|_| false,
        endpoint: Some(&mut endpoint),
        flows: None,
        verify_checksums: !options.trust_checksums,
    };
    let frames = options.packet.frames()?;
    let several = frames.len() > 1;
    for (frame, number) in frames.iter().zip(1..) {
        if several {
            println!("packet     {number}");
        }
        println!("{}", scene.explain(frame, 0, NoopClock.get_time()));
        if several {
            println!();
        }
    }
    Ok(())
}

impl Options {
    fn claims(&self) -> Vec<Claim> {
        let carriers = if self.qtip { Carriers::BOTH } else { Carriers::UDP };
        let claim = |local: &SocketAddr| Claim { carriers, cibir: self.cibir, ..Claim::udp(*local) };
        self.bind.iter().map(claim).collect()
    }

    /// The given rules, then those that a stack makes for its bound ports.
    fn rules(&self) -> Result<Rules> {
        let mut list = self.rules.iter().cloned().fold(Rules::builder().vlan(self.vlan), RulesBuilder::rule);
        if let Some(path) = &self.file {
            list = read_file(path)?.into_iter().fold(list, RulesBuilder::rule);
        }
        list = redirects(list, &self.claims())?;
        if !self.local.is_empty() {
            list = list.local_addresses(self.local.iter().copied());
        }
        Ok(list.build()?)
    }
}

/// A listener's rules as they are by default.
fn endpoint(cids: RandomCids) -> Result<Endpoint> {
    let identity = Identity::generate()?;
    let tls = tls::ServerConfig::new(identity.certificate_pem.as_bytes(), identity.key_pem.as_bytes())?;
    Ok(Endpoint::new(Arc::new(TransportConfig::default()), tls.alpn([files::ALPN]), Arc::new(cids)))
}

/// Bytes written in hex; blanks and colons between them don't count.
fn hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|digit| !digit.is_whitespace() && *digit != ':')
        .map(|digit| digit.to_digit(16).ok_or_else(|| format!("{digit:?} is no hex digit")))
        .collect::<Result<_, _>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("an odd number of hex digits".into());
    }
    Ok(pairs.iter().map(|[high, low]| (high << 4 | low) as u8).collect())
}

fn cibir(text: &str) -> Result<CibirId, String> {
    let (offset, id) = text.split_once(':').ok_or("an offset, a colon and hex, as in 0:c1b1")?;
    let offset = offset.parse().map_err(|_| format!("{offset:?} is no number of bytes"))?;
    let lawful = "a CIBIR identifier has 1 to 6 bytes, and ends within the 20 of a connection ID";
    CibirId::new(offset, &hex(id)?).ok_or_else(|| lawful.into())
}

fn cid(text: &str) -> Result<Cid, String> {
    Cid::new(&hex(text)?).ok_or_else(|| "a CID has at most 20 bytes".into())
}

//! One end: an XSK, its program, and a key.

use std::{
    collections::VecDeque,
    fs,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    sync::Arc,
    time::{Duration, Instant},
};

use perf_protocol::{Options, Result};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use wirepath_drivers::{
    AfXdp, AfXdpOptions, ChecksumMode, Driver, Ecn, NextHop, NextHops, RxPacket, TxDatagram, TxPool,
    XdpModeWish, XdpProgram,
};
use wirepath_wire::{parse_udp, rules::Rules};

/// As the stack takes and sends them.
const BATCH: usize = 256;
/// In the clear in front of each sealed payload, authenticated: what a short header takes.
const HEADER_LEN: usize = 16;
const TAG_LEN: usize = 16;
/// Any key will do; both ends have it.
const KEY: [u8; 16] = [7; 16];
/// Shorter datagrams are questions and answers, in the clear.
const SEALED_MIN: usize = HEADER_LEN + TAG_LEN + 1;

/// The other end's address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// An XSK with a key.
pub(crate) struct End {
    device: AfXdp,
    pool: Arc<dyn TxPool>,
    /// Attached for as long as this lives.
    _program: XdpProgram,
    key: LessSafeKey,
    local: SocketAddr,
    /// UDP payload of each packet.
    payload: usize,
    packets: Vec<RxPacket>,
    queue: VecDeque<TxDatagram>,
    number: u64,
    answer: Option<u64>,
}

impl End {
    pub(crate) fn open(options: &Options, mut local: SocketAddr) -> Result<Self> {
        let interface = options.iface.as_deref().ok_or("AF_XDP needs --iface NAME")?;
        if local.port() == 0 {
            local.set_port(5000);
        }
        let xdp = AfXdpOptions { checksum: ChecksumMode::ZeroOnIpv4, ..AfXdpOptions::new(interface, 0) };
        let mut device = AfXdp::open(&xdp, Box::new(OnLink::new(interface, local.ip())?))?;
        let program = XdpProgram::attach(interface, XdpModeWish::Driver)?;
        program.set_rules(&Rules::builder().redirect().udp_dst_port(local.port()).build()?)?;
        program.register_socket(0, device.as_fd())?;
        if device.takes_transmitter()
            && let Some(transmitter) = program.transmitter(0)?
        {
            device.transmit_through(transmitter);
        }
        let key = UnboundKey::new(&AES_128_GCM, &KEY).map_err(|_| "the cipher refuses its key")?;
        Ok(Self {
            pool: device.tx_pool(),
            payload: options.max_udp_payload().min(device.max_udp_payload_v4()).into(),
            device,
            _program: program,
            key: LessSafeKey::new(key),
            local,
            packets: Vec::with_capacity(BATCH),
            queue: VecDeque::with_capacity(BATCH),
            number: 0,
            answer: None,
        })
    }

    /// Opens what has come, and returns how many bytes that were. Questions go to `asked`.
    pub(crate) fn receive(&mut self, mut asked: impl FnMut(Peer, u8)) -> Result<u64> {
        self.device.receive(&mut self.packets, BATCH)?;
        let mut opened = 0;
        for mut packet in self.packets.drain(..) {
            let Ok(udp) = parse_udp(packet.buf.as_slice()) else { continue };
            packet.buf.narrow(udp.payload.clone());
            let payload = packet.buf.as_mut_slice();
            if payload.len() < SEALED_MIN {
                match *payload {
                    [byte] => asked(Peer(udp.src), byte),
                    [..] => self.answer = <[u8; 8]>::try_from(&*payload).ok().map(u64::from_be_bytes),
                }
                continue;
            }
            let (header, sealed) = payload.split_at_mut(HEADER_LEN);
            let nonce = nonce(header);
            let content = self.key.open_in_place(nonce, Aad::from(&*header), sealed);
            opened += content.map_err(|_| "a packet was damaged")?.len() as u64;
        }
        Ok(opened)
    }

    pub(crate) fn receive_for(&mut self, time: Duration) -> Result<u64> {
        let (begin, mut bytes) = (Instant::now(), 0);
        while begin.elapsed() < time {
            for _ in 0..BATCH {
                bytes += self.receive(|_, _| {})?;
            }
        }
        Ok(bytes)
    }

    /// Seals and sends as many packets as there is memory for, a batch at most.
    pub(crate) fn send_batch(&mut self, to: Peer) -> Result<()> {
        // Completed frames come back where packets are received.
        self.receive(|_, _| {})?;
        for _ in self.queue.len()..BATCH {
            let Some(mut buf) = self.pool.lease(1) else { break };
            buf.truncate(self.payload);
            let packet = buf.as_mut_slice();
            packet[..8].copy_from_slice(&self.number.to_be_bytes());
            self.number += 1;
            let (header, rest) = packet.split_at_mut(HEADER_LEN);
            let (content, tag) = rest.split_at_mut(rest.len() - TAG_LEN);
            let nonce = nonce(header);
            let made = self.key.seal_in_place_separate_tag(nonce, Aad::from(&*header), content);
            tag.copy_from_slice(made.map_err(|_| "the cipher failed")?.as_ref());
            self.queue.push_back(self.datagram(to, buf));
        }
        self.device.transmit(&mut self.queue)?;
        Ok(())
    }

    pub(crate) fn send_for(&mut self, to: Peer, time: Duration) -> Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < time {
            self.send_batch(to)?;
        }
        Ok(())
    }

    /// Sends a few bytes in the clear.
    pub(crate) fn tell(&mut self, to: Peer, bytes: &[u8]) -> Result<()> {
        let mut buf = self.pool.lease(1).ok_or("no memory to send from")?;
        buf.truncate(bytes.len());
        buf.as_mut_slice().copy_from_slice(bytes);
        let datagram = self.datagram(to, buf);
        self.queue.push_back(datagram);
        self.device.transmit(&mut self.queue)?;
        Ok(())
    }

    /// The answer that has come, if one has.
    pub(crate) fn answer(&mut self) -> Result<Option<u64>> {
        self.receive(|_, _| {})?;
        Ok(self.answer.take())
    }

    fn datagram(&self, to: Peer, buf: wirepath_drivers::PacketBuf) -> TxDatagram {
        TxDatagram { local: self.local, remote: to.0, ecn: Ecn::NotEct, segment_size: None, tcp: None, buf }
    }
}

/// The first bytes of a header, which no two packets share in one direction.
fn nonce(header: &[u8]) -> Nonce {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&header[..8]);
    Nonce::assume_unique_for_key(nonce)
}

/// The other end hangs on the same wire, and takes whatever frames come.
struct OnLink {
    mac: [u8; 6],
    local: IpAddr,
}

impl OnLink {
    fn new(interface: &str, local: IpAddr) -> Result<Self> {
        let text = fs::read_to_string(format!("/sys/class/net/{interface}/address"))?;
        let mut mac = [0; 6];
        for (byte, digits) in mac.iter_mut().zip(text.trim().split(':')) {
            *byte = u8::from_str_radix(digits, 16)?;
        }
        Ok(Self { mac, local })
    }
}

impl NextHops for OnLink {
    fn lookup(&mut self, _remote: IpAddr) -> NextHop {
        NextHop::Resolved { src_mac: self.mac, dst_mac: [0xff; 6], src_ip: self.local, vlan: None }
    }

    fn generation(&self) -> u64 {
        0
    }
}

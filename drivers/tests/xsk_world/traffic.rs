//! One XSK at an end of the pair, and datagrams that tell which they are.

use std::{
    collections::VecDeque,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use wirepath_drivers::{
    AfXdp, AfXdpOptions, Driver, DriverError, Ecn, MultiBuffer, PacketBuf, RxPacket, TxDatagram, TxProgress,
    XdpModeWish, XdpOptions, XdpProgram,
};
use wirepath_wire::rules::Rules;

use super::{Side, ToPeer, World};

/// What no step of a test takes, however busy the machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const PORT: u16 = 4433;

/// An XSK with its program attached.
#[derive(Debug)]
pub struct End {
    pub xsk: AfXdp,
    pub side: Side,
    pub queue: VecDeque<TxDatagram>,
    pub received: Vec<RxPacket>,
    pub program: XdpProgram,
}

impl World {
    /// Opens an XSK on queue 0 of this side, in driver mode.
    pub fn open(&self, side: Side, change: impl FnOnce(&mut AfXdpOptions) + Send) -> End {
        self.try_open(side, XdpModeWish::Driver, change).unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn try_open(
        &self,
        side: Side,
        mode: XdpModeWish,
        change: impl FnOnce(&mut AfXdpOptions) + Send,
    ) -> Result<End, DriverError> {
        self.at(side, || {
            let mut options = AfXdpOptions::new(side.interface(), 0);
            change(&mut options);
            let frags = options.multi_buffer.unwrap_or(false);
            let mut xsk = AfXdp::open(&options, Box::new(ToPeer(side)))?;
            let multi_buffer = if frags { MultiBuffer::On } else { MultiBuffer::Off };
            let program = XdpProgram::attach(side.interface(), XdpOptions { mode, multi_buffer })?;
            program.set_rules(&Rules::builder().redirect().udp().build().expect("rules"))?;
            program.register_socket(options.queue, xsk.as_fd())?;
            xsk.attached(mode == XdpModeWish::Driver, "");
            Ok(End { xsk, side, queue: VecDeque::new(), received: Vec::new(), program })
        })
    }
}

impl End {
    /// Queues a datagram for the peer whose payload is `len` bytes made of `seed`; `false` if the pool is empty.
    pub fn queue(&mut self, seed: u64, len: usize, v6: bool) -> bool {
        let Some(mut buf) = self.xsk.tx_pool().lease(1) else { return false };
        buf.truncate(len);
        fill(seed, buf.as_mut_slice());
        self.queue.push_back(datagram(self.side, buf, v6));
        true
    }

    pub fn transmit(&mut self) -> TxProgress {
        self.xsk.transmit(&mut self.queue).unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn receive(&mut self) -> usize {
        self.xsk.receive(&mut self.received, 64).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Receives until there are `count` packets, or patience ends.
    pub fn receive_all(&mut self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.received.len() < count {
            if self.receive() == 0 {
                assert!(Instant::now() < deadline, "{} of {count} packets came", self.received.len());
                std::thread::yield_now();
            }
        }
    }

    /// Sends what is queued, receives nothing, until the ring is empty or patience ends.
    pub fn transmit_all(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.transmit() == TxProgress::Blocked {
            assert!(Instant::now() < deadline, "{} datagrams stay queued", self.queue.len());
            std::thread::yield_now();
        }
    }

    pub fn counter(&self, name: &str) -> u64 {
        let stats = self.xsk.stats();
        stats.named.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no counter {name}")).1
    }

    /// Waits until the kernel holds no frame for sending, then checks the ledger.
    pub fn settle(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let audit = self.xsk.audit();
            if audit.is_sound() && audit.umem.tx_ring == 0 {
                assert_eq!(audit.umem.rejected, 0, "{audit:?}");
                return;
            }
            assert!(Instant::now() < deadline, "{audit:?}");
            let mut nothing = Vec::new();
            let _ = self.xsk.receive(&mut nothing, 0);
            let _ = self.xsk.transmit(&mut VecDeque::new());
            std::thread::yield_now();
        }
    }
}

pub fn datagram(side: Side, buf: PacketBuf, v6: bool) -> TxDatagram {
    let (local, remote) = match v6 {
        false => (side.v4(PORT), side.peer().v4(PORT)),
        true => (side.v6(PORT), side.peer().v6(PORT)),
    };
    TxDatagram { local, remote, ecn: Ecn::Ect0, segment_size: None, tcp: None, buf }
}

/// Bytes that tell `seed` and their own length.
pub fn fill(seed: u64, bytes: &mut [u8]) {
    let len = bytes.len() as u64;
    for (at, chunk) in bytes.chunks_mut(8).enumerate() {
        let word = match at {
            0 => seed,
            1 => len,
            _ => seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(at as u32) ^ at as u64,
        };
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
}

/// Parses a packet, verifies all of it, and returns its seed.
pub fn verify(packet: &RxPacket, from: Side) -> u64 {
    let frame = packet.buf.as_slice();
    let parsed = wirepath_wire::parse_udp(frame).unwrap_or_else(|error| panic!("{error:?}: {frame:02x?}"));
    if parsed.checksum != wirepath_wire::UdpChecksum::Absent {
        wirepath_wire::verify_udp_checksum(frame, &parsed).expect("checksum");
    }
    let (src, dst) = match parsed.src.is_ipv4() {
        true => (from.v4(PORT), from.peer().v4(PORT)),
        false => (from.v6(PORT), from.peer().v6(PORT)),
    };
    assert_eq!((parsed.src, parsed.dst), (src, dst));
    assert_eq!(parsed.ecn, Ecn::Ect0 as u8);
    let payload = &frame[parsed.payload];
    let seed = u64::from_le_bytes(payload[..8].try_into().unwrap());
    let mut expected = vec![0; payload.len()];
    fill(seed, &mut expected);
    assert_eq!(payload, expected, "datagram {seed}");
    seed
}

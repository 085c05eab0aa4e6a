//! Network devices behind one trait: AF_XDP, OS UDP, and an in-memory network.

mod af_xdp;
mod doctor;
mod driver;
mod helper;
mod memory;
mod next_hop;
mod nic;
mod os_udp;
mod packet;
mod pooled;
mod ports;
mod readiness;
mod route;
mod umem;
mod xdp;

pub use af_xdp::{
    AfXdp, AfXdpOptions, BusyPoll, ChecksumMode, CopyMode, MAX_RING_SIZE, MIN_RING_SIZE, RingSizes, XskAudit,
};
pub use doctor::{Finding, Verdict, examine};
pub use driver::{
    DataPath, Driver, DriverError, DriverStats, DriverStatus, RingGauges, TxCounts, TxPool, TxProgress,
};
pub use helper::{Helper, HelperClient, HelperLease, HelperOptions, HelperPolicy};
pub use memory::{Delivery, Fate, Faults, Impairment, MemoryDevice, MemoryNet, MemoryNetStats};
pub use next_hop::{NextHop, NextHops};
pub use nic::{DeviceRings, LinkState, Nic, Offload, QueueCounts, Rss, XdpSupport, ZeroCopy};
pub use os_udp::{HeapTxPool, OsUdp, OsUdpOptions};
pub use packet::{
    Ecn, PacketBuf, PacketMemory, RxMeta, RxPacket, SynOptions, TX_HEADROOM, TcpSegment, TxDatagram,
};
pub use pooled::{HeapPool, Pieces, PooledBuf};
pub use ports::PortReservation;
pub use readiness::Readiness;
pub use route::{LinkEvent, LinkInfo, Route, RouteHops, RouteTable, RouteTask};
pub use umem::{FrameSight, FrameSize, Pages, Place, Umem, UmemAudit, UmemFrame, UmemOptions, UmemPool};
pub use xdp::{
    MultiBuffer, TimedRun, XdpAccess, XdpAttachment, XdpControl, XdpMode, XdpModeWish, XdpOptions,
    XdpProgram, XdpTransmitter,
};

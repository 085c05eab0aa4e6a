//! Network devices behind one trait: AF_XDP, OS UDP, and an in-memory network.

mod driver;
mod os_udp;
mod packet;
mod pooled;
mod umem;

pub use driver::{DataPath, Driver, DriverError, DriverStats, DriverStatus, TxPool, TxProgress};
pub use os_udp::{HeapTxPool, OsUdp, OsUdpOptions};
pub use packet::{Ecn, PacketBuf, PacketMemory, RxMeta, RxPacket, TX_HEADROOM, TxDatagram};
pub use pooled::{HeapPool, Pieces, PooledBuf};
pub use umem::{UmemFrame, UmemPool};

//! Network devices behind one trait: AF_XDP, OS UDP, and an in-memory network.

mod driver;
mod packet;
mod umem;

pub use driver::{DataPath, Driver, DriverError, DriverStats, DriverStatus, TxPool, TxProgress};
pub use packet::{Ecn, PacketBuf, PacketMemory, RxMeta, RxPacket, TX_HEADROOM, TxDatagram};
pub use umem::{UmemFrame, UmemPool};

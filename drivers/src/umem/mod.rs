//! UMEM: the memory AF_XDP shares with the kernel, cut into frames with one owner each.
//!
//! Every UMEM frame is in exactly one [`Place`] at any time, and the ledger says which. Frames that the
//! program holds are [`UmemFrame`] handles; frames that the kernel holds are mere addresses in its rings. A
//! frame changes place only from the place it is believed to be in: an address that comes back twice, late, or
//! out of nowhere changes nothing and is counted.

mod file;
mod frame;
mod ledger;
mod options;
mod pool;
mod region;
mod return_stack;
mod tx_pool;

pub(crate) use file::{Mapping, memory_file};
pub use frame::UmemFrame;
pub use ledger::{FrameSight, Place, UmemAudit};
pub use options::{FrameSize, UmemOptions};
pub(crate) use pool::FILL_BATCH;
pub use pool::{Umem, UmemPool};
pub use region::Pages;
pub(crate) use tx_pool::UmemTxPool;

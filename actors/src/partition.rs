//! A partition: one thread with a runtime of its own, and the actors that live on it.
//!
//! One partition serves one RSS queue: its XSK, its demux, and the connections whose packets arrive there. A
//! packet, its connection and its reply stay on one core.

mod load;
mod supervisor;
mod thread;

pub use load::{MAX_QUEUE_DELAY, PartitionLoad};
pub use supervisor::{
    ConnectRequest, EndpointPlan, ListenRequest, PartitionMessage, PartitionParts, PartitionSupervisor,
};
pub use thread::PartitionThread;

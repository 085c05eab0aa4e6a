//! The actors of the data path, and the kit they are made with.
//!
//! ```text
//! partition ─┬─ demux ◄─ device (XSK) ◄─ nic_queue        packets come in from the right,
//!            ├─ listener ─► connection ─► device           and leave to the right
//!            └─ connection ─► device
//! nic (XDP program, rules)      pool_shard (sockets, ports) ─► device (OS UDP)
//! ```

mod clock;
pub mod connection;
pub mod demux;
pub mod device;
pub mod drops;
pub mod egress;
pub mod explain;
pub mod kit;
pub mod link;
pub mod listener;
pub mod nic;
pub mod nic_queue;
pub mod partition;
pub mod pool_shard;
pub mod qlog;
pub mod qtip;
pub mod tables;
pub mod timers;
pub mod tokens;
pub mod traced;

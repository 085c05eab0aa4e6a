//! Benches of the whole system: other QUIC stacks and ours, doing the same work in one run.

pub mod system;

//! Acknowledgements of what the peer sent.

mod pending;
mod ranges;

pub(crate) use pending::{AckPolicy, PendingAcks};
pub(crate) use ranges::AckRanges;

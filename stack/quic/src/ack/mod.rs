//! Acknowledgements of what the peer sent.

mod ranges;

pub(crate) use ranges::{AckRanges, Insert};

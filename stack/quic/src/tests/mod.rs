//! Whole connections against each other, in virtual time.

mod network;
mod pair;

mod adversary;
mod bounds;
mod chaos;
mod close;
mod extension;
mod goodput;
mod handshake;
mod hostile;
mod keys;
mod migration;
mod qlog;
mod qlog_schema;
mod recovery;
mod steady;
mod transfer;
mod version;

use pair::{Pair, PairBuilder};

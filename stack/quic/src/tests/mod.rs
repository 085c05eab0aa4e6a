//! Whole connections against each other, in virtual time.

mod network;
mod pair;

mod chaos;
mod close;
mod handshake;
mod hostile;
mod keys;
mod migration;
mod recovery;
mod steady;
mod transfer;
mod version;

use pair::{Pair, PairBuilder};

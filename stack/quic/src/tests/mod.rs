//! Whole connections against each other, in virtual time.

mod network;
mod pair;

mod handshake;
mod transfer;

use network::Network;
use pair::{Pair, PairBuilder, Side};

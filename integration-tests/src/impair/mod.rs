//! A wire that does wrong: loses, doubles, delays, reorders and damages frames, by a seed.
//!
//! It stands in a namespace between two links and works on what really crosses them, so it treats AF_XDP
//! traffic, which no queueing discipline ever sees, as any other.

mod frame;
mod lane;
mod middlebox;
mod nat;

use std::time::Duration;

pub use middlebox::{Counts, Direction, Middlebox};

/// What happens to frames in one direction. Chances are between 0 and 1 and drawn for each frame apart.
/// Only frames that carry UDP are touched: neighbour discovery goes through unharmed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Impairment {
    /// Two runs that see the same frames in the same order do the same to them.
    pub seed: u64,
    /// Chance that a frame is lost.
    pub loss: f64,
    /// Chance that a frame comes twice.
    pub duplication: f64,
    /// Chance that a bit of the UDP payload flips and the checksum tells.
    pub corruption: f64,
    /// Chance that a bit of the UDP payload flips and the checksum is made to fit, so that only QUIC's own
    /// protection can tell.
    pub forgery: f64,
    /// Chance that a frame is held back while up to [`reorder_by`](Self::reorder_by) later ones overtake it.
    pub reordering: f64,
    /// How many frames may overtake a held one.
    pub reorder_by: u32,
    /// Time each frame takes.
    pub delay: Duration,
    /// Bytes a second the wire carries; `None` as fast as the machine.
    pub rate: Option<u64>,
    /// Bytes that may wait for a wire with a [`rate`](Self::rate); what comes then is lost.
    pub queue: usize,
}

impl Impairment {
    /// A perfect wire.
    pub const NONE: Self = Self {
        seed: 0,
        loss: 0.0,
        duplication: 0.0,
        corruption: 0.0,
        forgery: 0.0,
        reordering: 0.0,
        reorder_by: 3,
        delay: Duration::ZERO,
        rate: None,
        queue: 256 << 10,
    };

    /// A wire that loses this share of frames.
    pub const fn losing(share: f64, seed: u64) -> Self {
        Self { seed, loss: share, ..Self::NONE }
    }

    /// A wire that does a little of everything.
    pub const fn everything(share: f64, seed: u64) -> Self {
        Self {
            seed,
            loss: share,
            duplication: share,
            corruption: share,
            forgery: share,
            reordering: share,
            ..Self::NONE
        }
    }
}

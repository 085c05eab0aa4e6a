//! The actors of the data path, and the kit they are made with.

pub mod kit;

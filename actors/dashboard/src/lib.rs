//! The dashboard: what the actors do, told over HTTP.
//!
//! [`api`] has every answer as a type. It reads counters and rings; it never sends an actor a message, and the data
//! path never waits for it.

pub mod api;

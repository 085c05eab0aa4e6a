//! What two stacks do with each other in a test, and how they tell whether it went right.

mod client;
mod pattern;
mod plan;
mod server;

pub use client::carry_out;
pub use pattern::{Checker, pattern};
pub use plan::{Exchange, Failure, Plan, Report, Summary};
pub(crate) use server::SHUT_DOWN_WITHIN;
pub use server::{Served, Stop, serve};

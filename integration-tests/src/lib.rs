//! Worlds of network namespaces and veth pairs, and other QUIC stacks as peers in them.

#![expect(async_fn_in_trait, reason = "everything runs on current-thread runtimes")]

pub mod case;
pub mod cert;
pub mod echo;
pub mod fetch;
pub mod gate;
pub mod hq;
pub mod huge_pages;
pub mod impair;
pub mod netns;
pub mod ours;
pub mod peers;
pub mod sniff;
mod sys;
pub mod work;
pub mod world;

//! What the `wirepath` command is made of.

pub mod command;
pub mod demo;
pub mod doctor;
pub mod explain;
pub mod files;
pub mod helper;
pub mod identity;
pub mod interop;
pub mod net;
pub mod perf;
pub mod rules;
pub mod top;
pub mod transfer;
pub mod world;

//! Micro and whole-system benches.

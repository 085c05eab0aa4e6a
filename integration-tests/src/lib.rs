//! Worlds of namespaces and veth pairs, and other QUIC stacks as peers.

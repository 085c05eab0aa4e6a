//! A sans-IO QUIC v1 connection state machine.

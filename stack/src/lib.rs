//! QUIC over AF_XDP, through actors, with an async API.

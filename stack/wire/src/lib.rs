//! Ethernet, IP, UDP and TCP headers, checksums, and the reference rule matcher.

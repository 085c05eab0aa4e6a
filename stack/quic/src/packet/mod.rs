//! Packets: headers, protection.

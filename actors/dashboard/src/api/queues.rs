//! Below the actors: queues and rings, UMEM frames, drops.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Devices and rules.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Queues {
    /// XSKs first, then OS UDP sockets.
    pub queues: Vec<QueueRow>,
    /// The XDP rules in force, in order; first match wins. Empty without AF_XDP.
    pub rules: Vec<RuleRow>,
    /// Packets that the XDP program passed to the kernel for another reason than a rule, by cause.
    pub passed: BTreeMap<String, u64>,
}

/// One device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueRow {
    /// `"eth0/0"` or `"udp 0.0.0.0:4433"`.
    pub name: String,
    /// Its device actor.
    pub actor: Option<String>,
    /// The interface.
    pub interface: Option<String>,
    /// The RSS queue.
    pub queue: Option<u32>,
    /// The path: `"AF_XDP (driver mode, copy)"`.
    pub path: String,
    /// Why not a better one.
    pub reason: String,
    /// Whether the link is up.
    pub link_up: bool,
    /// Why there is no XSK now.
    pub trouble: Option<String>,
    /// The four rings; `None` for a device without.
    pub rings: Option<Rings>,
    /// Packets received.
    pub rx_packets_per_s: f64,
    /// Bytes received.
    pub rx_bytes_per_s: f64,
    /// Datagrams sent.
    pub tx_datagrams_per_s: f64,
    /// Bytes sent.
    pub tx_bytes_per_s: f64,
    /// System calls made to send.
    pub kicks_per_s: f64,
    /// Datagrams that leave with one of them.
    pub datagrams_per_kick: f64,
    /// The kernel's XDP statistics, by our names.
    pub kernel: BTreeMap<String, u64>,
    /// All other counters of the device.
    pub counters: BTreeMap<String, u64>,
}

/// Gauges of the rings of one XSK.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rings {
    /// Frames for the kernel to receive into.
    pub fill: Ring,
    /// Packets received and not taken.
    pub rx: Ring,
    /// Packets to send that the kernel has not taken.
    pub tx: Ring,
    /// Packets sent whose frames were not taken back.
    pub completion: Ring,
    /// Whether the kernel asks to be woken.
    pub need_wakeup: bool,
}

/// One ring.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ring {
    /// Entries it has.
    pub size: u64,
    /// Entries in it.
    pub used: u64,
}

/// One XDP rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleRow {
    /// As `wirepath` writes rules: `"redirect udp dport 4433"`.
    pub rule: String,
    /// How often it decided.
    pub hits: u64,
    /// Likewise.
    pub hits_per_s: f64,
}

/// Where all UMEM frames are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Frames {
    /// One of each XSK. Empty without AF_XDP.
    pub umems: Vec<UmemLedger>,
}

/// The ledger of one UMEM: each frame has one holder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UmemLedger {
    /// `"eth0/0"`.
    pub device: String,
    /// Frames there are.
    pub capacity: u64,
    /// Bytes each has.
    pub frame_size_bytes: u64,
    /// How many are where.
    pub places: Vec<PlaceCount>,
    /// The sum of these.
    pub sum: u64,
    /// Whether it equals the capacity.
    pub balanced: bool,
    /// Who in the program holds frames, most first.
    pub holders: Vec<FrameHolder>,
    /// Frames held by the program for so long that they may be lost; oldest first, at most 100.
    pub suspects: Vec<FrameSuspect>,
    /// Addresses and handles refused because their frame was not where they said: a defect if above 0.
    pub rejected: u64,
}

/// Frames at one place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlaceCount {
    /// `free`, `fill` (with the kernel, to receive into), `rx_app` (received, with an actor), `tx_app` (leased to
    /// send), `tx_ring` (with the kernel, being sent), `quarantined`.
    pub place: String,
    /// How many.
    pub frames: u64,
    /// Age of the one that is there longest; `None` where it isn't known.
    pub oldest_age_ns: Option<u64>,
}

/// Who holds frames.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrameHolder {
    /// For people: `"connection 17"`, `"demux 0"`, `"fill ring"`.
    pub holder: String,
    /// The actor.
    pub actor: Option<String>,
    /// How many.
    pub frames: u64,
    /// Age of the oldest.
    pub oldest_age_ns: Option<u64>,
}

/// A frame that may be lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrameSuspect {
    /// Its number.
    pub frame: u64,
    /// Where it is.
    pub place: String,
    /// Who holds it.
    pub holder: String,
    /// The actor.
    pub actor: Option<String>,
    /// For how long.
    pub age_ns: u64,
}

/// What went nowhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Drops {
    /// By layer, from the wire up, then by count.
    pub rows: Vec<DropRow>,
    /// Their sum.
    pub total: u64,
    /// Packets received, to compare with.
    pub rx_packets: u64,
    /// Likewise: dropped now.
    pub per_s: f64,
}

/// One cause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DropRow {
    /// `kernel`, `device`, `demux`, `listener`, `connection`, `mailbox`, `transmit`.
    pub layer: String,
    /// The counter's name.
    pub cause: String,
    /// What it means: a sentence.
    pub meaning: String,
    /// How many.
    pub count: u64,
    /// Likewise, now.
    pub per_s: f64,
    /// When the first was seen, to within a reading.
    pub first_ns: Option<u64>,
    /// When the last was.
    pub last_ns: Option<u64>,
    /// One of them, where one was kept.
    pub sample: Option<DropSample>,
}

/// One dropped packet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DropSample {
    /// When.
    pub t_ns: u64,
    /// Where to, if it came to that.
    pub local: Option<String>,
    /// Where from.
    pub remote: Option<String>,
    /// Bytes.
    pub len_bytes: u64,
    /// Destination CID in hex, if it came to that.
    pub cid: Option<String>,
}

//! What `ethtool` shows: driver, queue counts, rings, offloads.
#![allow(unsafe_code)]

use std::fs;

use super::Request;

/// `linux/ethtool.h`.
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GLINK: u32 = 0x0a;
const ETHTOOL_GRINGPARAM: u32 = 0x10;
const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GGRO: u32 = 0x2b;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
/// `ETH_FLAG_LRO` of [`ETHTOOL_GFLAGS`].
const FLAG_LRO: u32 = 1 << 15;

/// The queues of an interface. A combined queue counts as one of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// RX queues in use: packets arrive at queues `0..rx`.
    pub rx: u32,
    /// TX queues in use.
    pub tx: u32,
    /// RX queues that could be in use (`ethtool -L`).
    pub rx_max: u32,
    /// TX queues that could be in use.
    pub tx_max: u32,
}

/// Descriptors in the device's own rings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceRings {
    /// Of each RX ring.
    pub rx: u32,
    /// Of each TX ring.
    pub tx: u32,
    /// The most an RX ring can have (`ethtool -G`).
    pub rx_max: u32,
    /// The most a TX ring can have.
    pub tx_max: u32,
}

/// Work a NIC may do in the kernel's stead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// Large receive offload: merges packets, for good.
    Lro,
    /// Generic receive offload: merges packets, by the kernel.
    Gro,
    /// Leaves checksums of sent packets to the device.
    TxChecksum,
}

/// `struct ethtool_channels`.
#[repr(C)]
#[derive(Default)]
struct Channels {
    cmd: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// `struct ethtool_ringparam`.
#[repr(C)]
#[derive(Default)]
struct RingParam {
    cmd: u32,
    rx_max: u32,
    rx_mini_max: u32,
    rx_jumbo_max: u32,
    tx_max: u32,
    rx: u32,
    rx_mini: u32,
    rx_jumbo: u32,
    tx: u32,
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    cmd: u32,
    data: u32,
}

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    cmd: u32,
    driver: [u8; 32],
    version: [u8; 32],
    firmware_version: [u8; 32],
    bus_info: [u8; 32],
    eeprom_version: [u8; 32],
    reserved: [u8; 12],
    counts: [u32; 5],
}

pub(super) fn driver(request: &Request) -> Option<String> {
    let mut info = DriverInfo {
        cmd: ETHTOOL_GDRVINFO,
        driver: [0; 32],
        version: [0; 32],
        firmware_version: [0; 32],
        bus_info: [0; 32],
        eeprom_version: [0; 32],
        reserved: [0; 12],
        counts: [0; 5],
    };
    // SAFETY: the structure of this command, as `linux/ethtool.h` lays it out.
    unsafe { request.ethtool(&mut info) }.ok()?;
    super::text(&info.driver)
}

/// Whether the other end is there; `None` where the driver can't tell.
pub(super) fn carrier(request: &Request) -> Option<bool> {
    value(request, ETHTOOL_GLINK).map(|data| data != 0)
}

/// `None` where the driver has no such thing.
pub(super) fn offload(request: &Request, offload: Offload) -> Option<bool> {
    match offload {
        Offload::Lro => value(request, ETHTOOL_GFLAGS).map(|flags| flags & FLAG_LRO != 0),
        Offload::Gro => value(request, ETHTOOL_GGRO).map(|data| data != 0),
        Offload::TxChecksum => value(request, ETHTOOL_GTXCSUM).map(|data| data != 0),
    }
}

/// `None` where the driver has no rings to tell of.
pub(super) fn rings(request: &Request) -> Option<DeviceRings> {
    let mut rings = RingParam { cmd: ETHTOOL_GRINGPARAM, ..RingParam::default() };
    // SAFETY: the structure of this command, as `linux/ethtool.h` lays it out.
    unsafe { request.ethtool(&mut rings) }.ok()?;
    let RingParam { rx, tx, rx_max, tx_max, .. } = rings;
    (rx_max > 0).then_some(DeviceRings { rx, tx, rx_max, tx_max })
}

/// What a command tells that answers with one number. It must be one of those whose structure is [`Value`].
fn value(request: &Request, cmd: u32) -> Option<u32> {
    let mut value = Value { cmd, data: 0 };
    // SAFETY: the structure of these commands, as `linux/ethtool.h` lays it out; all callers are in this file.
    unsafe { request.ethtool(&mut value) }.ok()?;
    Some(value.data)
}

/// Drivers without a way to tell have one queue, unless `/sys` shows more.
pub(super) fn queues(request: &Request, name: &str) -> QueueCounts {
    let mut channels = Channels { cmd: ETHTOOL_GCHANNELS, ..Channels::default() };
    // SAFETY: the structure of this command, as `linux/ethtool.h` lays it out.
    if unsafe { request.ethtool(&mut channels) }.is_ok() {
        let (rx, tx) = (channels.rx + channels.combined, channels.tx + channels.combined);
        if rx > 0 && tx > 0 {
            return QueueCounts {
                rx,
                tx,
                rx_max: channels.max_rx.max(channels.max_combined).max(rx),
                tx_max: channels.max_tx.max(channels.max_combined).max(tx),
            };
        }
    }
    let (rx, tx) = queues_in_sys(name);
    QueueCounts { rx, tx, rx_max: rx, tx_max: tx }
}

fn queues_in_sys(name: &str) -> (u32, u32) {
    let (mut rx, mut tx) = (0, 0);
    // A name the kernel knows holds no slash, so it can't lead elsewhere.
    for entry in fs::read_dir(format!("/sys/class/net/{name}/queues")).into_iter().flatten().flatten() {
        match entry.file_name().as_encoded_bytes() {
            [b'r', b'x', b'-', ..] => rx += 1,
            [b't', b'x', b'-', ..] => tx += 1,
            _ => {}
        }
    }
    (rx.max(1), tx.max(1))
}

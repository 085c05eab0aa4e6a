//! Which mode to attach in, and why not a better one.

use std::{fmt, io};

/// How the kernel runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum XdpMode {
    /// In the NIC's driver, before the kernel allocates anything for the packet.
    Driver,
    /// In the kernel's generic receive path, on any interface.
    Skb,
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Driver => "driver mode",
            Self::Skb => "SKB mode",
        })
    }
}

/// Which modes are acceptable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum XdpModeWish {
    /// Driver mode, or else SKB mode.
    #[default]
    DriverFirst,
    /// Driver mode or an error.
    Driver,
    /// SKB mode.
    Skb,
}

/// Whether frames may span several buffers (jumbo frames).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MultiBuffer {
    /// Where the interface's MTU demands it.
    #[default]
    IfNeeded,
    /// Never.
    Off,
    /// Always; the AF_XDP sockets must ask for it too (`XDP_USE_SG`).
    On,
}

/// What to attach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpOptions {
    /// The acceptable modes.
    pub mode: XdpModeWish,
    /// Whether frames may span several buffers.
    pub multi_buffer: MultiBuffer,
}

impl From<XdpModeWish> for XdpOptions {
    fn from(mode: XdpModeWish) -> Self {
        Self { mode, ..Self::default() }
    }
}

/// What was attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdpAttachment {
    /// The interface, as it was named then.
    pub interface: String,
    /// Its index.
    pub ifindex: u32,
    /// The mode obtained.
    pub mode: XdpMode,
    /// Whether frames may span several buffers.
    pub multi_buffer: bool,
    /// Why nothing better was obtained: one sentence, empty when there is nothing better.
    pub reason: String,
}

/// The combinations to try, best first.
pub(super) fn attempts(options: XdpOptions) -> Vec<(XdpMode, bool)> {
    let modes: &[XdpMode] = match options.mode {
        XdpModeWish::DriverFirst => &[XdpMode::Driver, XdpMode::Skb],
        XdpModeWish::Driver => &[XdpMode::Driver],
        XdpModeWish::Skb => &[XdpMode::Skb],
    };
    let buffers: &[bool] = match options.multi_buffer {
        MultiBuffer::IfNeeded => &[false, true],
        MultiBuffer::Off => &[false],
        MultiBuffer::On => &[true],
    };
    modes.iter().flat_map(|mode| buffers.iter().map(|multi| (*mode, *multi))).collect()
}

/// What an attempt's failure means, with what can be done about it.
pub(super) fn explain(mode: XdpMode, multi_buffer: bool, error: &io::Error) -> String {
    let buffers = if multi_buffer { " with multi-buffer" } else { "" };
    let why = match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => "the interface's driver has no support for it".to_owned(),
        Some(libc::ERANGE) => "the interface's MTU is too large for single buffers; lower it".to_owned(),
        Some(libc::ENOSPC) => "there are too few receive queues for it (`ethtool -L` adds some)".to_owned(),
        Some(libc::ENOTCONN) => "the interface's peer is missing".to_owned(),
        Some(libc::EINVAL) => {
            "the driver refuses it as the interface is set up (MTU, LRO, queue count)".to_owned()
        }
        _ => error.to_string(),
    };
    format!("{mode}{buffers} was refused: {why}")
}

//! What client and helper say to each other, and how it looks as bytes: see the [module](super).

use std::{net::IpAddr, ops::Range};

use wirepath_wire::rules::{Rules, RulesBuilder, VlanPolicy};

use super::codec::{Malformed, Reader, Writer};
use crate::{
    AfXdpOptions, CopyMode, FrameSize, MultiBuffer, Pages, RingSizes, XdpAttachment, XdpMode, XdpModeWish,
    XdpOptions, af_xdp::Shape,
};

/// The longest message, in bytes. A rule takes about 30; a thousand of them still fit.
pub(super) const MAX_MESSAGE: usize = 64 << 10;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// These queues of an interface, as the client sees it: of another index, it is in another network namespace.
    Attach { interface: String, index: u32, options: XdpOptions, queues: Range<u32> },
    /// An XSK on a queue of the leased interface.
    OpenXsk(XskWish),
    /// Packets of this queue are to come to the XSK that goes along.
    Register { queue: u32 },
    /// A way past the TX ring of this queue.
    Transmitter { queue: u32 },
    /// These rules are to be in force.
    SetRules(Rules),
    /// How often each rule decided.
    ReadCounters,
    /// The hardware address of a neighbour: confirmed, or found out anew.
    FindNeighbour { ip: IpAddr, anew: bool },
}

/// What the helper answers, or tells unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Said first, to those who may ask.
    Welcome { version: u16 },
    /// The lease has begun; these queues may have XSKs.
    Attached { attachment: XdpAttachment, queues: Range<u32> },
    /// The XSK and its memory go along.
    Opened { zero_copy: bool, pages: Pages },
    /// Program and batch of a way past the TX ring go along.
    Transmitter,
    /// It is done; or there is nothing to be had.
    Done,
    /// Of the rules in force, in their order, and of the program itself.
    Counters { hits: Vec<u64>, events: Vec<u64> },
    /// It is not done.
    Refused(Refusal),
    /// The lease is over.
    Lost(String),
}

/// Why something is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no such interface.
    NoInterface(String),
    /// Another's XDP program is on it.
    ProgramPresent(String),
    /// Anything else, in words.
    Other(String),
}

/// How an XSK is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct XskWish {
    pub(super) queue: u32,
    pub(super) rings: RingSizes,
    pub(super) frame_count: u32,
    pub(super) huge_pages: bool,
    pub(super) copy_mode: CopyMode,
    pub(super) shape: Shape,
}

impl Request {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut to = Writer::default();
        match self {
            Self::Attach { interface, index, options, queues } => {
                to.u8(0);
                to.text(interface);
                to.u32(*index);
                to.u8(match options.mode {
                    XdpModeWish::DriverFirst => 0,
                    XdpModeWish::Driver => 1,
                    XdpModeWish::Skb => 2,
                });
                to.u8(match options.multi_buffer {
                    MultiBuffer::IfNeeded => 0,
                    MultiBuffer::Off => 1,
                    MultiBuffer::On => 2,
                });
                to.u32(queues.start);
                to.u32(queues.end);
            }
            Self::OpenXsk(wish) => {
                to.u8(1);
                wish.encode(&mut to);
            }
            Self::Register { queue } => {
                to.u8(2);
                to.u32(*queue);
            }
            Self::SetRules(rules) => {
                to.u8(3);
                encode_rules(rules, &mut to);
            }
            Self::ReadCounters => to.u8(4),
            Self::FindNeighbour { ip, anew } => {
                to.u8(5);
                to.ip(*ip);
                to.bool(*anew);
            }
            Self::Transmitter { queue } => {
                to.u8(6);
                to.u32(*queue);
            }
        }
        to.0
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader::new(bytes);
        let request = match from.u8()? {
            0 => Self::Attach {
                interface: from.text()?.to_owned(),
                index: from.u32()?,
                options: XdpOptions {
                    mode: match from.u8()? {
                        0 => XdpModeWish::DriverFirst,
                        1 => XdpModeWish::Driver,
                        2 => XdpModeWish::Skb,
                        _ => return Err(Malformed),
                    },
                    multi_buffer: match from.u8()? {
                        0 => MultiBuffer::IfNeeded,
                        1 => MultiBuffer::Off,
                        2 => MultiBuffer::On,
                        _ => return Err(Malformed),
                    },
                },
                queues: from.u32()?..from.u32()?,
            },
            1 => Self::OpenXsk(XskWish::decode(&mut from)?),
            2 => Self::Register { queue: from.u32()? },
            3 => Self::SetRules(decode_rules(&mut from)?),
            4 => Self::ReadCounters,
            5 => Self::FindNeighbour { ip: from.ip()?, anew: from.bool()? },
            6 => Self::Transmitter { queue: from.u32()? },
            _ => return Err(Malformed),
        };
        from.end()?;
        Ok(request)
    }
}

impl Reply {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut to = Writer::default();
        match self {
            Self::Welcome { version } => {
                to.u8(0);
                to.u16(*version);
            }
            Self::Attached { attachment, queues } => {
                to.u8(1);
                to.text(&attachment.interface);
                to.u32(attachment.ifindex);
                to.bool(attachment.mode == XdpMode::Driver);
                to.bool(attachment.multi_buffer);
                to.text(&attachment.reason);
                to.u32(queues.start);
                to.u32(queues.end);
            }
            Self::Opened { zero_copy, pages } => {
                to.u8(2);
                to.bool(*zero_copy);
                match pages {
                    Pages::Normal => to.u8(0),
                    Pages::Huge => to.u8(1),
                    Pages::Fallback(why) => {
                        to.u8(2);
                        to.text(why);
                    }
                }
            }
            Self::Done => to.u8(3),
            Self::Counters { hits, events } => {
                to.u8(4);
                to.list(hits, |to, count| to.u64(*count));
                to.list(events, |to, count| to.u64(*count));
            }
            Self::Refused(refusal) => {
                to.u8(5);
                let (kind, text) = match refusal {
                    Refusal::NoInterface(name) => (0, name),
                    Refusal::ProgramPresent(name) => (1, name),
                    Refusal::Other(why) => (2, why),
                };
                to.u8(kind);
                to.text(text);
            }
            Self::Lost(why) => {
                to.u8(6);
                to.text(why);
            }
            Self::Transmitter => to.u8(7),
        }
        to.0
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader::new(bytes);
        let reply = match from.u8()? {
            0 => Self::Welcome { version: from.u16()? },
            1 => Self::Attached {
                attachment: XdpAttachment {
                    interface: from.text()?.to_owned(),
                    ifindex: from.u32()?,
                    mode: if from.bool()? { XdpMode::Driver } else { XdpMode::Skb },
                    multi_buffer: from.bool()?,
                    reason: from.text()?.to_owned(),
                },
                queues: from.u32()?..from.u32()?,
            },
            2 => Self::Opened {
                zero_copy: from.bool()?,
                pages: match from.u8()? {
                    0 => Pages::Normal,
                    1 => Pages::Huge,
                    2 => Pages::Fallback(from.text()?.to_owned()),
                    _ => return Err(Malformed),
                },
            },
            3 => Self::Done,
            4 => Self::Counters { hits: from.list(Reader::u64)?, events: from.list(Reader::u64)? },
            5 => {
                let kind = from.u8()?;
                let text = from.text()?.to_owned();
                Self::Refused(match kind {
                    0 => Refusal::NoInterface(text),
                    1 => Refusal::ProgramPresent(text),
                    2 => Refusal::Other(text),
                    _ => return Err(Malformed),
                })
            }
            6 => Self::Lost(from.text()?.to_owned()),
            7 => Self::Transmitter,
            _ => return Err(Malformed),
        };
        from.end()?;
        Ok(reply)
    }
}

impl XskWish {
    pub(super) fn of(options: &AfXdpOptions, shape: Shape) -> Self {
        Self {
            queue: options.queue,
            rings: options.rings,
            frame_count: options.frames(),
            huge_pages: options.huge_pages,
            copy_mode: options.copy_mode,
            shape,
        }
    }

    pub(super) fn options(&self, interface: &str) -> AfXdpOptions {
        AfXdpOptions {
            rings: self.rings,
            frame_size: Some(self.shape.frame_size),
            frame_count: Some(self.frame_count),
            huge_pages: self.huge_pages,
            copy_mode: self.copy_mode,
            ..AfXdpOptions::new(interface, self.queue)
        }
    }

    fn encode(&self, to: &mut Writer) {
        to.u32(self.queue);
        let RingSizes { fill, rx, tx, completion } = self.rings;
        [fill, rx, tx, completion].into_iter().for_each(|size| to.u32(size));
        to.u32(self.frame_count);
        to.bool(self.huge_pages);
        to.u8(match self.copy_mode {
            CopyMode::PreferZeroCopy => 0,
            CopyMode::RequireZeroCopy => 1,
            CopyMode::Copy => 2,
        });
        to.bool(self.shape.frame_size == FrameSize::FourKib);
        to.bool(self.shape.multi_buffer);
        to.bool(self.shape.tx_metadata);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            queue: from.u32()?,
            rings: RingSizes { fill: from.u32()?, rx: from.u32()?, tx: from.u32()?, completion: from.u32()? },
            frame_count: from.u32()?,
            huge_pages: from.bool()?,
            copy_mode: match from.u8()? {
                0 => CopyMode::PreferZeroCopy,
                1 => CopyMode::RequireZeroCopy,
                2 => CopyMode::Copy,
                _ => return Err(Malformed),
            },
            shape: Shape {
                frame_size: if from.bool()? { FrameSize::FourKib } else { FrameSize::TwoKib },
                multi_buffer: from.bool()?,
                tx_metadata: from.bool()?,
            },
        })
    }
}

/// Rules go as their text, which has a parser that is used to strangers.
fn encode_rules(rules: &Rules, to: &mut Writer) {
    match rules.vlan() {
        VlanPolicy::Untagged => to.u8(0),
        VlanPolicy::Id(id) => {
            to.u8(1);
            to.u16(id);
        }
        VlanPolicy::Any => to.u8(2),
    }
    match rules.local_addresses() {
        None => to.bool(false),
        Some(addresses) => {
            to.bool(true);
            to.list(addresses, |to, ip| to.ip(*ip));
        }
    }
    to.list(rules.as_slice(), |to, rule| to.text(&rule.to_string()));
}

fn decode_rules(from: &mut Reader<'_>) -> Result<Rules, Malformed> {
    let vlan = match from.u8()? {
        0 => VlanPolicy::Untagged,
        1 => VlanPolicy::Id(from.u16()?),
        2 => VlanPolicy::Any,
        _ => return Err(Malformed),
    };
    let mut builder = Rules::builder().vlan(vlan);
    if from.bool()? {
        builder = builder.local_addresses(from.list(Reader::ip)?);
    }
    let rules = from.list(|from| from.text()?.parse().map_err(|_| Malformed))?;
    rules.into_iter().fold(builder, RulesBuilder::rule).build().map_err(|_| Malformed)
}

#[cfg(test)]
mod tests;

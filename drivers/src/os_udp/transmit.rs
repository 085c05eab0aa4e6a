//! Sending: one call a train, and a named cause for whatever the kernel refuses.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr, SocketAddrV6},
};

use quinn_udp::{EcnCodepoint, Transmit, UdpSockRef};

use super::{OsUdp, sys, tx_pool::MAX_TRAIN};
use crate::{DriverError, Ecn, TxDatagram, TxProgress};

/// Segments the kernel takes in one train (`UDP_MAX_SEGMENTS` was 64 before Linux 6.9, 128 since).
const MAX_SEGMENTS: u64 = 64;

/// The longest entry worth merging with its neighbours, in bytes: copying it costs less than the system call
/// saved (about 0.6 against 1.8 µs).
const MERGE_UP_TO: usize = 8192;

/// Datagrams the kernel refused, by cause.
#[derive(Debug, Default)]
pub(super) struct TxDrops {
    too_long: u64,
    no_route: u64,
    forbidden: u64,
    wrong_family: u64,
    refused: u64,
}

impl TxDrops {
    pub(super) fn name_counters(&self, into: &mut Vec<(&'static str, u64)>) {
        into.extend([
            ("tx_too_long_dropped", self.too_long),
            ("tx_no_route_dropped", self.no_route),
            ("tx_forbidden_dropped", self.forbidden),
            ("tx_wrong_family_dropped", self.wrong_family),
            ("tx_refused_dropped", self.refused),
        ]);
    }

    fn count(&mut self, cause: Refusal, datagrams: u64) {
        *match cause {
            Refusal::TooLong => &mut self.too_long,
            Refusal::NoRoute => &mut self.no_route,
            Refusal::Forbidden => &mut self.forbidden,
            Refusal::WrongFamily => &mut self.wrong_family,
            Refusal::Other => &mut self.refused,
        } += datagrams;
    }
}

/// Why the kernel takes a datagram never.
#[derive(Clone, Copy)]
enum Refusal {
    TooLong,
    NoRoute,
    Forbidden,
    WrongFamily,
    Other,
}

/// What became of one call.
enum Sent {
    Taken,
    /// Nothing was taken; the kernel is full.
    Full,
    Refused(Refusal),
}

/// What became of the datagrams at the front of the queue when taken together.
pub(super) enum Merged {
    /// They are sent, and off the queue.
    Sent,
    Blocked,
    /// So many are to be sent one by one.
    Unfit(usize),
}

impl OsUdp {
    /// Sends the datagrams (and short trains) at the front of `queue` as one train, where they are of one size
    /// and go one way. That is common: many connections between two hosts share one pair of ports.
    pub(super) fn send_merged(&mut self, queue: &mut VecDeque<TxDatagram>) -> Result<Merged, DriverError> {
        let entries = if self.segmentation { mergeable(queue) } else { 0 };
        let (Some(first), true) = (queue.front(), entries > 1) else { return Ok(Merged::Unfit(1)) };
        let Some(destination) = self.reachable_form(first.remote) else { return Ok(Merged::Unfit(entries)) };
        let mut contents = std::mem::take(&mut self.merged);
        contents.clear();
        for datagram in queue.iter().take(entries) {
            contents.extend_from_slice(datagram.buf.as_slice());
        }
        let transmit = Transmit {
            destination,
            ecn: codepoint(first.ecn),
            contents: &contents,
            segment_size: Some(segment_size(first)),
            src_ip: self.source(first.local.ip()),
        };
        let sent = self.call(&transmit);
        let bytes = contents.len();
        let datagrams = bytes.div_ceil(segment_size(first)) as u64;
        self.merged = contents;
        Ok(match sent? {
            Sent::Taken => {
                self.stats.tx_datagram_sent += datagrams;
                self.stats.tx_byte_sent += bytes as u64;
                queue.drain(..entries);
                Merged::Sent
            }
            Sent::Full => Merged::Blocked,
            Sent::Refused(_) => Merged::Unfit(entries),
        })
    }

    /// Sends a datagram or a train. `Drained`: it is sent or counted as dropped. `Blocked`: what remains in
    /// `datagram` was not sent and may be handed down again.
    pub(super) fn send(&mut self, datagram: &mut TxDatagram) -> Result<TxProgress, DriverError> {
        let Some(destination) = self.reachable_form(datagram.remote) else {
            self.drops.count(Refusal::WrongFamily, segments(datagram));
            return Ok(TxProgress::Drained);
        };
        let count = segments(datagram);
        if count > 1 && !(self.segmentation && count <= MAX_SEGMENTS) {
            return self.send_each(datagram, destination);
        }
        let transmit = Transmit {
            destination,
            ecn: codepoint(datagram.ecn),
            contents: datagram.buf.as_slice(),
            segment_size: datagram.segment_size.map(usize::from),
            src_ip: self.source(datagram.local.ip()),
        };
        match self.call(&transmit)? {
            Sent::Taken => {
                self.stats.tx_datagram_sent += count;
                self.stats.tx_byte_sent += datagram.buf.len() as u64;
                Ok(TxProgress::Drained)
            }
            Sent::Full => Ok(TxProgress::Blocked),
            Sent::Refused(Refusal::Other) if count > 1 => self.send_uncut(datagram, destination),
            Sent::Refused(cause) => {
                self.drops.count(cause, count);
                Ok(TxProgress::Drained)
            }
        }
    }

    /// After a train was refused: either the NIC can't cut trains (there is no asking beforehand), or the train
    /// was wrong in itself. Its datagrams, one by one, tell.
    fn send_uncut(&mut self, datagram: &mut TxDatagram, to: SocketAddr) -> Result<TxProgress, DriverError> {
        let sent_before = self.stats.tx_datagram_sent;
        let progress = self.send_each(datagram, to)?;
        if self.stats.tx_datagram_sent > sent_before {
            tracing::info!(
                "the kernel or NIC does not cut UDP trains (GSO); sending single datagrams from now on"
            );
            self.segmentation = false;
        }
        Ok(progress)
    }

    /// Sends the datagrams of a train one by one, cutting each off `datagram` as it is taken.
    fn send_each(&mut self, datagram: &mut TxDatagram, to: SocketAddr) -> Result<TxProgress, DriverError> {
        let segment = datagram.segment_size.map_or(datagram.buf.len(), usize::from);
        while !datagram.buf.is_empty() {
            let len = segment.min(datagram.buf.len());
            let transmit = Transmit {
                destination: to,
                ecn: codepoint(datagram.ecn),
                contents: &datagram.buf.as_slice()[..len],
                segment_size: None,
                src_ip: self.source(datagram.local.ip()),
            };
            match self.call(&transmit)? {
                Sent::Taken => {
                    self.stats.tx_datagram_sent += 1;
                    self.stats.tx_byte_sent += len as u64;
                }
                Sent::Full => return Ok(TxProgress::Blocked),
                Sent::Refused(cause) => self.drops.count(cause, 1),
            }
            datagram.buf.narrow(len..datagram.buf.len());
        }
        Ok(TxProgress::Drained)
    }

    fn call(&mut self, transmit: &Transmit<'_>) -> Result<Sent, DriverError> {
        // A second try, because an error left by an ICMP message is reported once, and sends nothing.
        for _ in 0..2 {
            self.stats.tx_kick_made += 1;
            let Err(error) = self.state.try_send(UdpSockRef::from(&self.socket), transmit) else {
                return Ok(Sent::Taken);
            };
            return Ok(match error.raw_os_error() {
                _ if error.kind() == io::ErrorKind::WouldBlock => Sent::Full,
                Some(libc::ENOBUFS | libc::ENOMEM) => Sent::Full,
                Some(libc::EMSGSIZE) => Sent::Refused(Refusal::TooLong),
                Some(
                    libc::ENETUNREACH
                    | libc::EHOSTUNREACH
                    | libc::EADDRNOTAVAIL
                    | libc::ENETDOWN
                    | libc::EHOSTDOWN
                    | libc::ENODEV,
                ) => Sent::Refused(Refusal::NoRoute),
                Some(libc::EPERM | libc::EACCES) => Sent::Refused(Refusal::Forbidden),
                Some(libc::EAFNOSUPPORT) => Sent::Refused(Refusal::WrongFamily),
                Some(libc::EBADF | libc::ENOTSOCK) => {
                    return Err(DriverError::Gone(format!("UDP socket: {error}")));
                }
                Some(libc::ECONNREFUSED) => continue,
                Some(libc::EINVAL | libc::EIO) => {
                    // quinn-udp takes these for an old kernel and gives up GSO and ECN for good. More often
                    // the source address is gone, which concerns one path only: start afresh.
                    self.state = sys::configure(&self.socket)?;
                    Sent::Refused(Refusal::Other)
                }
                _ => Sent::Refused(Refusal::Other),
            });
        }
        Ok(Sent::Refused(Refusal::Other))
    }

    /// The destination as this socket's family writes it.
    fn reachable_form(&self, remote: SocketAddr) -> Option<SocketAddr> {
        match remote {
            SocketAddr::V4(v4) if self.dual_stack => {
                Some(SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into())
            }
            _ if remote.is_ipv4() == self.local.is_ipv4() => Some(remote),
            _ => None,
        }
    }

    /// The source address to ask for, where the kernel would not take it by itself.
    fn source(&self, local: IpAddr) -> Option<IpAddr> {
        let local = local.to_canonical();
        (!local.is_unspecified() && Some(local) != self.bound_ip).then_some(local)
    }
}

/// How many entries at the front make one train together: segments of one size throughout, but for the very last,
/// which may be shorter.
fn mergeable(queue: &VecDeque<TxDatagram>) -> usize {
    let Some(first) = queue.front() else { return 0 };
    let size = segment_size(first);
    let (mut count, mut bytes) = (0, 0);
    for datagram in queue {
        let len = datagram.buf.len();
        let same_way =
            datagram.remote == first.remote && datagram.local == first.local && datagram.ecn == first.ecn;
        let fits = segment_size(datagram) == size || len <= size;
        bytes += len;
        let within = bytes <= MAX_TRAIN && bytes.div_ceil(size.max(1)) as u64 <= MAX_SEGMENTS;
        if !same_way || !fits || !within || len > MERGE_UP_TO || len == 0 {
            break;
        }
        count += 1;
        if !len.is_multiple_of(size) {
            break;
        }
    }
    count
}

fn segment_size(datagram: &TxDatagram) -> usize {
    let len = datagram.buf.len();
    datagram.segment_size.map_or(len, |size| len.min(size.into()))
}

fn segments(datagram: &TxDatagram) -> u64 {
    match datagram.segment_size {
        Some(size) if size > 0 => datagram.buf.len().div_ceil(size.into()).max(1) as u64,
        _ => 1,
    }
}

fn codepoint(ecn: Ecn) -> Option<EcnCodepoint> {
    EcnCodepoint::from_bits(ecn as u8)
}

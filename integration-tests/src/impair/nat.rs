//! A NAT that forgets: from one moment on, the client's datagrams come from another address or port.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::frame;

/// Where the addresses of an IPv4 header start in a frame, source first.
const ADDRESSES: usize = 26;

/// The client as the server sees it, and as it is. IPv4 without header options only.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nat {
    inside: Option<SocketAddrV4>,
    outside: SocketAddrV4,
}

impl Nat {
    /// The client is to be seen at `outside`.
    pub(super) fn new(outside: SocketAddrV4) -> Self {
        Self { inside: None, outside }
    }

    pub(super) fn move_to(&mut self, outside: SocketAddrV4) {
        self.outside = outside;
    }

    /// A frame from the client: it now comes from outside.
    pub(super) fn leave(&mut self, frame: &mut [u8]) {
        if let Some(source) = self.endpoint(frame, 0) {
            self.inside = Some(source);
            replace(frame, 0, self.outside);
        }
    }

    /// A frame to the client. False: it goes where nobody is any more, and is lost.
    pub(super) fn enter(&self, frame: &mut [u8]) -> bool {
        let (Some(inside), Some(destination)) = (self.inside, self.endpoint(frame, 1)) else { return true };
        if destination == self.outside {
            replace(frame, 1, inside);
        }
        destination == self.outside
    }

    /// The source (0) or destination (1) of a UDP datagram over IPv4.
    fn endpoint(&self, frame: &[u8], which: usize) -> Option<SocketAddrV4> {
        let udp = frame::udp_offset(frame).filter(|udp| frame[12] == 0x08 && *udp == ADDRESSES + 8)?;
        let ip: [u8; 4] = frame[ADDRESSES + 4 * which..][..4].try_into().ok()?;
        let port = u16::from_be_bytes([frame[udp + 2 * which], frame[udp + 2 * which + 1]]);
        Some(SocketAddrV4::new(Ipv4Addr::from(ip), port))
    }
}

/// Puts another endpoint in place, and mends both checksums (RFC 1624 §3).
fn replace(frame: &mut [u8], which: usize, with: SocketAddrV4) {
    let udp = ADDRESSES + 8;
    let (ip, port) = (ADDRESSES + 4 * which, udp + 2 * which);
    let octets = with.ip().octets();
    let words = [
        (ip, u16::from_be_bytes([octets[0], octets[1]])),
        (ip + 2, u16::from_be_bytes([octets[2], octets[3]])),
        (port, with.port()),
    ];
    for (at, new) in words {
        let old = u16::from_be_bytes([frame[at], frame[at + 1]]);
        frame[at..at + 2].copy_from_slice(&new.to_be_bytes());
        if at != port {
            frame::fit_checksum(frame, ADDRESSES - 2, old, new);
        }
        if frame[udp + 6..udp + 8] != [0, 0] {
            frame::fit_checksum(frame, udp + 6, old, new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::frame::tests::datagram, *};

    #[test]
    fn what_leaves_and_enters_again_is_as_it_was() {
        let original = datagram(b"payload");
        let mut frame = original.clone();
        let mut nat = Nat::new("10.0.0.77:4000".parse().unwrap());
        nat.leave(&mut frame);
        assert_eq!(frame[26..30], [10, 0, 0, 77]);
        assert_eq!(frame[34..36], 4000u16.to_be_bytes());
        assert!(super::super::frame::tests::is_whole(&frame));
        // The answer: source and destination change places, which no checksum minds.
        let mut answer = frame.clone();
        for at in 0..4 {
            answer.swap(26 + at, 30 + at);
        }
        answer.swap(34, 36);
        answer.swap(35, 37);
        let mut stray = answer.clone();
        replace(&mut stray, 1, "10.0.0.1:4433".parse().unwrap());
        assert!(nat.enter(&mut answer));
        assert_eq!((&answer[30..34], &answer[36..38]), (&original[26..30], &original[34..36]));
        assert!(super::super::frame::tests::is_whole(&answer));
        assert!(!nat.enter(&mut stray), "the old mapping is forgotten");
    }
}

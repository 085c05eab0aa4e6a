//! A packet of a version that does not exist, and the server's answer to it (RFC 8999 §6, RFC 9000 §6).

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use perf_protocol::Result;

/// A reserved version: no server may speak it (RFC 9000 §15).
const RESERVED_VERSION: u32 = 0x1a2a_3a4a;

/// Bytes of the datagram: servers answer only what is large enough to begin a connection of any version.
const DATAGRAM_LEN: usize = 1200;

/// Bytes of each connection ID.
const CID_LEN: usize = 8;

/// How long the server has to answer one packet, and how many it gets.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
const TRIES: usize = 20;

/// The versions a server says it speaks when it is asked for one that it can't.
pub(super) fn negotiate(server: SocketAddr) -> Result<Vec<u32>> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(ANSWER_WITHIN))?;
    let mut ids = [0; 2 * CID_LEN];
    aws_lc_rs::rand::fill(&mut ids).map_err(|_| "the system gives no randomness")?;
    let packet = packet(&ids);
    let mut answer = [0; 2048];
    for _ in 0..TRIES {
        socket.send(&packet)?;
        // Nothing within the time, or word that nobody listens yet: once more.
        if let Ok(len) = socket.recv(&mut answer)
            && let Some(versions) = versions(&answer[..len], &ids)
        {
            return Ok(versions);
        }
    }
    Err("the server sent no Version Negotiation packet".into())
}

/// A long header packet with the two connection IDs, destination first. What follows no server looks at.
fn packet(ids: &[u8; 2 * CID_LEN]) -> Vec<u8> {
    let mut packet = vec![0xc0];
    packet.extend(RESERVED_VERSION.to_be_bytes());
    for id in ids.chunks(CID_LEN) {
        packet.push(CID_LEN as u8);
        packet.extend(id);
    }
    packet.resize(DATAGRAM_LEN, 0);
    packet
}

/// The versions of a Version Negotiation packet that answers a packet with these IDs (RFC 8999 §6).
fn versions(answer: &[u8], ids: &[u8; 2 * CID_LEN]) -> Option<Vec<u32>> {
    let (head, rest) = answer.split_first_chunk::<5>()?;
    let (destination, source) = ids.split_at(CID_LEN);
    let rest = [source, destination].iter().try_fold(rest, |rest, id| {
        let (&len, rest) = rest.split_first()?;
        rest.strip_prefix(*id).filter(|_| usize::from(len) == CID_LEN)
    })?;
    let negotiates = head[0] & 0x80 != 0 && head[1..] == [0; 4] && !rest.is_empty() && rest.len() % 4 == 0;
    negotiates.then(|| {
        rest.chunks(4).map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]])).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_ones_own_packet_counts() {
        let ids: [u8; 16] = std::array::from_fn(|n| n as u8);
        let mut answer = vec![0x80, 0, 0, 0, 0, 8, 8, 9, 10, 11, 12, 13, 14, 15, 8, 0, 1, 2, 3, 4, 5, 6, 7];
        answer.extend([0, 0, 0, 1, 0x6b, 0x33, 0x43, 0xcf]);
        assert_eq!(versions(&answer, &ids), Some(vec![1, 0x6b33_43cf]));
        assert_eq!(versions(&answer[..answer.len() - 1], &ids), None);
        assert_eq!(versions(&answer[..23], &ids), None);
        for at in (0..23).filter(|at| *at != 0) {
            let mut other = answer.clone();
            other[at] ^= 1;
            assert_eq!(versions(&other, &ids), None, "byte {at}");
        }
        assert_eq!(packet(&ids).len(), 1200);
    }
}

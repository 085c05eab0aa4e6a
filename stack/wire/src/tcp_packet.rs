//! TCP over IP over Ethernet in one step, for QUIC in TCP segments (QTIP).

use std::{
    net::{IpAddr, SocketAddr},
    ops::Range,
};

use crate::{
    BuildError, EtherType, Ipv4, Ipv6, ParseError, Tcp, UdpHeaders, protocol,
    tcp::verify_tcp_checksum,
    udp_packet::{Network, network, tail, write_link},
};

/// Bytes an IPv4 segment without options has more than a UDP datagram.
pub const TCP_EXTRA_LEN: usize = crate::TCP_HEADER_LEN - crate::UDP_HEADER_LEN;

/// A received segment, as the headers of its frame tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpPacket {
    /// Where it came from.
    pub src: SocketAddr,
    /// Where it was sent to.
    pub dst: SocketAddr,
    /// The ECN field of the IP header.
    pub ecn: u8,
    /// The header; its ranges count from the start of the TCP header.
    pub tcp: Tcp,
    /// Header and payload, counted from the start of the frame.
    pub segment: Range<usize>,
}

impl TcpPacket {
    /// The payload, counted from the start of the frame.
    pub fn payload(&self) -> Range<usize> {
        self.segment.start + self.tcp.payload.start..self.segment.start + self.tcp.payload.end
    }
}

/// Reads the headers of a TCP frame, as [`crate::parse_udp`] does those of UDP. The TCP checksum is not verified: see
/// [`verify_tcp_packet`].
///
/// # Errors
/// The [`ParseError`] that names why this is no whole, lawful TCP segment.
pub fn parse_tcp(frame: &[u8]) -> Result<TcpPacket, ParseError> {
    let Network { src, dst, traffic_class, l4, .. } = network(frame, protocol::TCP)?;
    let tcp = Tcp::parse(&frame[l4.clone()])?;
    Ok(TcpPacket {
        src: SocketAddr::new(src, tcp.src_port),
        dst: SocketAddr::new(dst, tcp.dst_port),
        ecn: traffic_class & 0b11,
        tcp,
        segment: l4,
    })
}

/// Verifies the checksum of a frame that [`parse_tcp`] read as `packet`.
///
/// # Errors
/// [`ParseError::TcpChecksumMismatched`].
pub fn verify_tcp_packet(frame: &[u8], packet: &TcpPacket) -> Result<(), ParseError> {
    let segment = frame.get(packet.segment.clone()).ok_or(ParseError::TcpTruncated)?;
    verify_tcp_checksum(segment, packet.src.ip(), packet.dst.ip())
}

/// Bytes of headers in front of a segment's payload.
pub fn tcp_headers_len(headers: &UdpHeaders, dst: IpAddr, options: &[u8]) -> usize {
    headers.len_for(dst) + TCP_EXTRA_LEN + options.len().next_multiple_of(4)
}

/// Writes the headers of `payload`, checksum included, into the last bytes of `room`, which lies right in front of it,
/// and returns their length. Ports, lengths and checksum in `tcp` don't count; "don't fragment" is set.
///
/// # Errors
/// [`BuildError::FamilyMismatched`], [`BuildError::NoRoom`] or [`BuildError::TooLong`].
pub fn write_tcp(
    room: &mut [u8],
    headers: &UdpHeaders,
    (src, dst): (SocketAddr, SocketAddr),
    (tcp, options): (&Tcp, &[u8]),
    payload: &[u8],
) -> Result<usize, BuildError> {
    let tcp = Tcp { src_port: src.port(), dst_port: dst.port(), ..tcp.clone() };
    let header = tail(room, tcp_headers_len(headers, dst.ip(), options))?;
    let tcp_len = crate::TCP_HEADER_LEN + options.len().next_multiple_of(4);
    let len = u16::try_from(tcp_len + payload.len()).map_err(|_| BuildError::TooLong)?.into();
    let at = match (src.ip(), dst.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let at = write_link(header, &headers.link, EtherType::IPV4)?;
            let mut ip = Ipv4::new(src, dst, protocol::TCP, len);
            (ip.hop_limit, ip.traffic_class) = (headers.hop_limit, headers.ecn & 0b11);
            at + ip.write(&mut header[at..])?
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let at = write_link(header, &headers.link, EtherType::IPV6)?;
            let mut ip = Ipv6::new(src, dst, protocol::TCP, len);
            (ip.hop_limit, ip.traffic_class) = (headers.hop_limit, headers.ecn & 0b11);
            at + ip.write(&mut header[at..])?
        }
        _ => return Err(BuildError::FamilyMismatched),
    };
    tcp.write(&mut header[at..], options, (src.ip(), dst.ip()), payload)?;
    Ok(header.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Link, MacAddr, VlanTag, tcp::ACK};

    #[test]
    fn what_is_written_reads_back() {
        let tcp = Tcp {
            src_port: 0,
            dst_port: 0,
            sequence: 0xffff_fff0,
            acknowledgement: 9,
            flags: ACK,
            window: 5,
            checksum: 0,
            options: 0..0,
            payload: 0..0,
        };
        for (src, dst) in [("10.0.0.1:5", "10.0.0.2:443"), ("[fd00::1]:5", "[fd00::2]:443")] {
            for (vlan, options) in [(None, &[][..]), (Some(VlanTag::new(7)), &[2, 4, 5, 0xb4, 1, 3, 3, 14])] {
                let ends: (SocketAddr, SocketAddr) = (src.parse().unwrap(), dst.parse().unwrap());
                let link = Link { src: MacAddr([2, 0, 0, 0, 0, 1]), dst: MacAddr([2, 0, 0, 0, 0, 2]), vlan };
                let headers = UdpHeaders { ecn: 0b10, ..UdpHeaders::new(link) };
                let payload = [7; 33];
                let mut room = [0; 128];
                let len = write_tcp(&mut room, &headers, ends, (&tcp, options), &payload).unwrap();
                assert_eq!(len, tcp_headers_len(&headers, ends.1.ip(), options));
                let mut frame = [&room[128 - len..], &payload].concat();
                let read = parse_tcp(&frame).unwrap();
                assert_eq!((read.src, read.dst, read.ecn), (ends.0, ends.1, 0b10));
                assert_eq!(
                    (read.tcp.sequence, read.tcp.acknowledgement, read.tcp.flags),
                    (0xffff_fff0, 9, ACK)
                );
                assert_eq!(frame[read.payload()], payload);
                assert_eq!(frame[read.segment.clone()][read.tcp.options.clone()], *options);
                assert_eq!(verify_tcp_packet(&frame, &read), Ok(()));
                *frame.last_mut().unwrap() ^= 1;
                assert_eq!(verify_tcp_packet(&frame, &read), Err(ParseError::TcpChecksumMismatched));
                assert_eq!(crate::parse_udp(&frame), Err(ParseError::IpProtocolUnsupported));
                for cut in 0..frame.len() {
                    assert!(parse_tcp(&frame[..cut]).is_err());
                }
            }
        }
    }
}

//! A frame's datagram, whichever way it is carried.

use std::net::SocketAddr;

use wirepath_quic::NetPath;
use wirepath_wire::{ParseError, Tcp};

use crate::tables::{Arrival, Carrier};

/// A parsed and verified frame.
pub(super) struct Packet<'a> {
    pub(super) src: SocketAddr,
    dst: SocketAddr,
    /// The UDP or TCP payload.
    pub(super) payload: &'a [u8],
    /// Of TCP: header and options.
    pub(super) segment: Option<(Tcp, &'a [u8])>,
}

impl<'a> Packet<'a> {
    /// As the demux parses it.
    pub(super) fn of(frame: &'a [u8], verify: bool) -> Result<Self, ParseError> {
        match wirepath_wire::parse_udp(frame) {
            Err(ParseError::IpProtocolUnsupported) => Self::of_tcp(frame, verify),
            Err(error) => Err(error),
            Ok(udp) => {
                if verify {
                    wirepath_wire::verify_udp_checksum(frame, &udp)?;
                }
                let payload = &frame[udp.payload.clone()];
                Ok(Self { src: udp.src, dst: udp.dst, payload, segment: None })
            }
        }
    }

    fn of_tcp(frame: &'a [u8], verify: bool) -> Result<Self, ParseError> {
        let packet = wirepath_wire::parse_tcp(frame)?;
        if verify {
            wirepath_wire::verify_tcp_packet(frame, &packet)?;
        }
        let payload = &frame[packet.payload()];
        let options = &frame[packet.segment.clone()][packet.tcp.options.clone()];
        Ok(Self { src: packet.src, dst: packet.dst, payload, segment: Some((packet.tcp, options)) })
    }

    pub(super) fn path(&self) -> NetPath {
        NetPath { local: self.dst, remote: self.src }
    }

    pub(super) fn arrival(&self) -> Arrival<'a> {
        let carrier = if self.segment.is_some() { Carrier::Tcp } else { Carrier::Udp };
        Arrival { local: self.dst, remote: self.src, carrier, datagram: self.payload }
    }
}

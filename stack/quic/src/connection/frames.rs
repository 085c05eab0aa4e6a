//! Frames in: each is checked against its packet's type and handed to where it belongs (RFC 9000 §12.4, §19).

use bytes::Bytes;
use s2n_codec::DecoderBufferMut;
use s2n_quic_core::frame::{self, FrameMut};
use s2n_quic_core::time::Timestamp;
use s2n_quic_core::varint::VarInt;

use super::Connection;
use crate::cid::Cid;
use crate::error::{CloseReason, TransportError};
use crate::event::Event;
use crate::frame::ResetStreamAt;
use crate::packet::{PacketKind, Phase, SpaceId};

/// CRYPTO data of 1-RTT packets kept at a time: session tickets are a few hundred bytes.
const MAX_APP_CRYPTO: usize = 16 * 1024;

/// The packet whose frames are processed.
#[derive(Debug)]
pub(super) struct FrameContext {
    pub(super) now: Timestamp,
    pub(super) kind: PacketKind,
    pub(super) dcid: Cid,
    /// Number of the path it came on.
    pub(super) path: u8,
    pub(super) phase: Phase,
}

/// What kinds of frames a packet had.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Content {
    /// One that asks for an acknowledgement.
    pub(super) eliciting: bool,
    /// One that is not for probing paths (RFC 9000 §9.1).
    pub(super) non_probing: bool,
    /// CRYPTO.
    crypto: bool,
}

type Outcome = Result<(), TransportError>;

impl Connection {
    /// The frames of a packet, one after the other.
    pub(super) fn on_frames(
        &mut self,
        context: &mut FrameContext,
        payload: &mut [u8],
    ) -> Result<Content, TransportError> {
        // RFC 9000 §12.4: a packet without frames is a violation.
        if payload.is_empty() {
            return Err(TransportError::PROTOCOL_VIOLATION.with_reason("a packet without frames"));
        }
        let mut content = Content::default();
        let mut buffer = DecoderBufferMut::new(payload);
        while !buffer.is_empty() {
            let tag = buffer.peek_byte(0).unwrap_or_default();
            let with_type = |error: TransportError| match error.frame_type.as_u64() {
                0 => error.with_frame_type(VarInt::from_u8(tag & 0x3f)),
                _ => error,
            };
            if is_extension(tag) {
                let taken = self
                    .on_extension_frame(context, &mut content, buffer.as_less_safe_slice())
                    .map_err(with_type)?;
                buffer = buffer.skip(taken).map_err(|_| TransportError::FRAME_ENCODING_ERROR)?;
                continue;
            }
            if !is_legal(context.kind, tag) {
                let error = match tag {
                    0x00..=0x1e | 0x30 | 0x31 => {
                        TransportError::PROTOCOL_VIOLATION.with_reason("a frame its packet must not carry")
                    }
                    _ => TransportError::FRAME_ENCODING_ERROR.with_reason("unknown frame type"),
                };
                return Err(with_type(error));
            }
            // RFC 9000 §19.3.1: ranges that go below zero, too.
            let (frame, rest) = buffer.decode::<FrameMut<'_>>().map_err(|_| {
                with_type(TransportError::FRAME_ENCODING_ERROR.with_reason("malformed frame"))
            })?;
            buffer = rest;
            self.on_frame(context, &mut content, frame).map_err(with_type)?;
            if self.is_closed_or_closing() {
                return Ok(content);
            }
        }
        if content.crypto {
            self.drive_handshake(context.now).map_err(|error| match error.frame_type.as_u64() {
                0 => error.with_frame_type(VarInt::from_u8(0x06)),
                _ => error,
            })?;
        }
        Ok(content)
    }

    #[inline]
    fn on_frame(&mut self, context: &FrameContext, content: &mut Content, frame: FrameMut<'_>) -> Outcome {
        use frame::Frame as F;
        // All but ACK, PADDING and CONNECTION_CLOSE ask for an acknowledgement (RFC 9000 §13.2.1).
        match &frame {
            F::Padding(_) => return Ok(()),
            F::Ack(_) | F::ConnectionClose(_) => content.non_probing = true,
            F::PathChallenge(_) | F::PathResponse(_) | F::NewConnectionId(_) => content.eliciting = true,
            _ => {
                content.eliciting = true;
                content.non_probing = true;
            }
        }
        match frame {
            F::Stream(stream) => {
                let stream = stream.map_data(|data| &*data.into_less_safe_slice());
                self.streams.on_stream(&stream)
            }
            F::Ack(ack) => self.on_ack(context, &ack),
            F::Crypto(crypto) => {
                content.crypto = true;
                self.on_crypto(context, &crypto.map_data(|data| &*data.into_less_safe_slice()))
            }
            F::Padding(_) | F::Ping(_) => Ok(()),
            F::MaxData(frame) => self.streams.on_max_data(&frame),
            F::MaxStreamData(frame) => self.streams.on_max_stream_data(&frame),
            F::MaxStreams(frame) => self.streams.on_max_streams(&frame),
            F::DataBlocked(frame) => self.streams.on_data_blocked(&frame),
            F::StreamDataBlocked(frame) => self.streams.on_stream_data_blocked(&frame),
            F::StreamsBlocked(frame) => self.streams.on_streams_blocked(&frame),
            F::ResetStream(frame) => self.streams.on_reset_stream(&frame),
            F::StopSending(frame) => self.streams.on_stop_sending(&frame),
            F::Datagram(frame) => {
                let frame = frame.map_data(|data| &*data.into_less_safe_slice());
                self.datagrams.on_datagram(&frame)
            }
            F::NewConnectionId(frame) => {
                self.peer_cids.on_new(&frame)?;
                self.on_peer_cids_changed();
                Ok(())
            }
            F::RetireConnectionId(frame) => {
                let events = &mut self.events;
                let sequence = frame.sequence_number.as_u64();
                self.local_cids.on_retire(sequence, &context.dcid, |event| events.push_back(event))
            }
            // RFC 9000 §8.2.2, §19.17: one answer to each, with its data, on its path.
            F::PathChallenge(frame) => {
                if let Some(path) = self.paths.by_id(context.path) {
                    path.push_response(*frame.data);
                }
                Ok(())
            }
            F::PathResponse(frame) => {
                self.on_path_response(context.now, frame.data);
                Ok(())
            }
            F::HandshakeDone(_) => self.on_handshake_done(context.now),
            F::NewToken(frame) => self.on_new_token(frame.token),
            F::ConnectionClose(frame) => {
                self.on_connection_close(context.now, &frame);
                Ok(())
            }
            F::DcStatelessResetTokens(_) | F::MtuProbingComplete(_) => {
                Err(TransportError::FRAME_ENCODING_ERROR.with_reason("unknown frame type"))
            }
        }
    }

    fn on_crypto(&mut self, context: &FrameContext, frame: &frame::Crypto<&[u8]>) -> Outcome {
        let cap = self.config.crypto_buffer;
        match context.kind.space() {
            SpaceId::App => {
                // Of the remaining life of a connection a server has nothing to learn by TLS.
                self.app_crypto.get_or_insert_default().on_frame(frame, MAX_APP_CRYPTO)
            }
            id => match self.handshake.as_mut().and_then(|handshake| handshake.level_mut(id)) {
                Some(level) => level.crypto.on_frame(frame, cap),
                None => Ok(()),
            },
        }
    }

    fn on_handshake_done(&mut self, now: Timestamp) -> Outcome {
        // RFC 9000 §19.20.
        if self.role.is_server() {
            return Err(TransportError::PROTOCOL_VIOLATION.with_reason("HANDSHAKE_DONE from a client"));
        }
        self.confirm_handshake(now);
        Ok(())
    }

    fn on_new_token(&mut self, token: &[u8]) -> Outcome {
        // RFC 9000 §19.7.
        if self.role.is_server() {
            return Err(TransportError::PROTOCOL_VIOLATION.with_reason("NEW_TOKEN from a client"));
        }
        if token.is_empty() {
            return Err(TransportError::FRAME_ENCODING_ERROR.with_reason("an empty token"));
        }
        // One is enough for the next connection; the newest is the one to keep.
        self.events.retain(|event| !matches!(event, Event::NewToken(_)));
        self.event(Event::NewToken(Bytes::copy_from_slice(token)));
        Ok(())
    }

    fn on_connection_close(&mut self, now: Timestamp, frame: &frame::ConnectionClose<'_>) {
        let reason = Bytes::copy_from_slice(frame.reason.unwrap_or_default());
        let reason = match frame.frame_type {
            Some(frame_type) => CloseReason::Transport { code: frame.error_code, frame_type, reason },
            None => CloseReason::Application { code: frame.error_code, reason },
        };
        self.on_closed_by_peer(now, reason);
    }
}

/// Does a frame's type begin like those of extensions: one of two bytes and more, IMMEDIATE_ACK's or RESET_STREAM_AT's?
#[inline]
fn is_extension(tag: u8) -> bool {
    tag == 0x1f || tag == ResetStreamAt::TAG || tag >= 0x40
}

/// May a packet of this kind carry a frame of this type (RFC 9000 §12.4, table 3)?
#[inline]
fn is_legal(kind: PacketKind, tag: u8) -> bool {
    match kind {
        PacketKind::OneRtt => matches!(tag, 0x00..=0x1e | 0x30 | 0x31),
        // PADDING, PING, ACK, CRYPTO, CONNECTION_CLOSE of QUIC.
        PacketKind::Initial | PacketKind::Handshake => matches!(tag, 0x00..=0x03 | 0x06 | 0x1c),
        // No ACK, CRYPTO, NEW_TOKEN, RETIRE_CONNECTION_ID, PATH_RESPONSE or HANDSHAKE_DONE.
        PacketKind::ZeroRtt => {
            matches!(tag, 0x00 | 0x01 | 0x04 | 0x05 | 0x08..=0x18 | 0x1a | 0x1c | 0x1d | 0x30 | 0x31)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9000 §12.4, table 3, with RFC 9221 §4: types, and the packets they may be in. What a client can't
    /// sensibly send in 0-RTT packets (RFC 9000 §12.5) is refused there.
    const TABLE: &[(std::ops::RangeInclusive<u8>, &str)] = &[
        (0x00..=0x00, "IH01"), // PADDING
        (0x01..=0x01, "IH01"), // PING
        (0x02..=0x03, "IH_1"), // ACK
        (0x04..=0x04, "__01"), // RESET_STREAM
        (0x05..=0x05, "__01"), // STOP_SENDING
        (0x06..=0x06, "IH_1"), // CRYPTO
        (0x07..=0x07, "___1"), // NEW_TOKEN
        (0x08..=0x0f, "__01"), // STREAM
        (0x10..=0x10, "__01"), // MAX_DATA
        (0x11..=0x11, "__01"), // MAX_STREAM_DATA
        (0x12..=0x13, "__01"), // MAX_STREAMS
        (0x14..=0x14, "__01"), // DATA_BLOCKED
        (0x15..=0x15, "__01"), // STREAM_DATA_BLOCKED
        (0x16..=0x17, "__01"), // STREAMS_BLOCKED
        (0x18..=0x18, "__01"), // NEW_CONNECTION_ID
        (0x19..=0x19, "___1"), // RETIRE_CONNECTION_ID
        (0x1a..=0x1a, "__01"), // PATH_CHALLENGE
        (0x1b..=0x1b, "___1"), // PATH_RESPONSE
        (0x1c..=0x1c, "IH01"), // CONNECTION_CLOSE of QUIC
        (0x1d..=0x1d, "__01"), // CONNECTION_CLOSE of the application
        (0x1e..=0x1e, "___1"), // HANDSHAKE_DONE
        (0x30..=0x31, "__01"), // DATAGRAM
    ];

    #[test]
    fn every_frame_is_legal_where_the_table_says() {
        for tag in 0..=u8::MAX {
            let row = TABLE.iter().find(|(types, _)| types.contains(&tag)).map_or("____", |(_, row)| row);
            let kinds = [PacketKind::Initial, PacketKind::Handshake, PacketKind::ZeroRtt, PacketKind::OneRtt];
            for (kind, mark) in kinds.into_iter().zip(row.chars()) {
                assert_eq!(is_legal(kind, tag), mark != '_', "{kind:?} {tag:#x}");
            }
        }
    }
}

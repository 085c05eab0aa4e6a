//! Frames in the words of qlog, read from a packet's payload.

use std::time::Duration;

use s2n_codec::{DecoderBuffer, DecoderBufferMut};
use s2n_quic_core::frame::{Frame, FrameMut};
use s2n_quic_core::varint::VarInt;

use super::json::Json;
use super::varint::Varints;
use crate::frame::ResetStreamAt;

/// Writes the frames of a payload, up to the first that can't be read.
pub(super) fn write(json: &mut Json, payload: &mut [u8], ack_delay_exponent: u8) {
    let mut buffer = DecoderBufferMut::new(payload);
    while !buffer.is_empty() {
        let (bytes, before) = (buffer.as_less_safe_slice(), json.len());
        let taken = match bytes[0] {
            // Of most packets these are all.
            0x02 | 0x03 => write_ack(json, bytes, ack_delay_exponent),
            0x08..=0x0f => write_stream(json, bytes),
            // Others have types of one byte (RFC 9000 §19).
            0x1f | ResetStreamAt::TAG | 0x40.. => write_extension(json, bytes),
            _ => None,
        };
        if let Some(taken) = taken {
            let Ok(rest) = buffer.skip(taken) else { break };
            buffer = rest;
            continue;
        }
        // Something that breaks off may have been begun.
        json.truncate(before);
        let Ok((frame, rest)) = buffer.decode::<FrameMut<'_>>() else {
            json.put(r#"{"frame_type":"unknown"},"#);
            break;
        };
        buffer = rest;
        write_frame(json, &frame);
    }
    json.trim_comma();
}

/// Writes an ACK frame (RFC 9000 §19.3); gives its length.
fn write_ack(json: &mut Json, bytes: &[u8], ack_delay_exponent: u8) -> Option<usize> {
    let mut rest = Varints(&bytes[1..]);
    let (mut largest, delay, mut more) = (rest.next()?, rest.next()?, rest.next()?);
    let delay = Duration::from_micros(delay.saturating_mul(1 << ack_delay_exponent));
    json.put(r#"{"frame_type":"ack","ack_delay":"#).millis(delay).put(r#","acked_ranges":["#);
    loop {
        let smallest = largest.checked_sub(rest.next()?)?;
        json.put("[").number(smallest).put(",").number(largest).put("]");
        if more == 0 {
            break;
        }
        more -= 1;
        // Two packet numbers lie between ranges at least.
        largest = smallest.checked_sub(rest.next()? + 2)?;
        json.put(",");
    }
    json.put("]");
    if bytes[0] == 0x03 {
        for name in [r#","ect0":"#, r#","ect1":"#, r#","ce":"#] {
            json.put(name).number(rest.next()?);
        }
    }
    json.put("},");
    Some(bytes.len() - rest.0.len())
}

/// Writes a STREAM frame (RFC 9000 §19.8); gives its length.
fn write_stream(json: &mut Json, bytes: &[u8]) -> Option<usize> {
    let tag = bytes[0];
    let mut rest = Varints(&bytes[1..]);
    let id = rest.next()?;
    let offset = if tag & 0x04 != 0 { rest.next()? } else { 0 };
    let len = if tag & 0x02 != 0 { rest.next()? } else { rest.0.len() as u64 };
    let after = rest.0.len().checked_sub(usize::try_from(len).ok()?)?;
    json.put(r#"{"frame_type":"stream","stream_id":"#)
        .number(id)
        .put(r#","offset":"#)
        .number(offset)
        .put(r#","length":"#)
        .number(len)
        .put(if tag & 0x01 != 0 { r#","fin":true},"# } else { "}," });
    Some(bytes.len() - after)
}

/// Writes a frame of an extension, if the bytes begin with one; gives its length.
fn write_extension(json: &mut Json, bytes: &[u8]) -> Option<usize> {
    let (tag, mut buffer) = DecoderBuffer::new(bytes).decode::<VarInt>().ok()?;
    let mut next = || {
        let (value, rest) = buffer.decode::<VarInt>().ok()?;
        buffer = rest;
        Some(value.as_u64())
    };
    let (name, fields): (_, &[&str]) = match tag.as_u64() {
        0x1f => ("immediate_ack", &[]),
        0x24 => ("reset_stream_at", &["stream_id", "error_code", "final_size", "reliable_size"]),
        0xaf => (
            "ack_frequency",
            &["sequence_number", "ack_eliciting_threshold", "request_max_ack_delay", "reordering_threshold"],
        ),
        0x009f_81a6 | 0x009f_81a7 => ("observed_address", &["sequence_number"]),
        _ => return None,
    };
    let mut values = [0; 4];
    for value in values.iter_mut().take(fields.len()) {
        *value = next()?;
    }
    // The address itself is where the packet came from.
    let skipped = match tag.as_u64() {
        0x009f_81a6 => 4 + 2,
        0x009f_81a7 => 16 + 2,
        _ => 0,
    };
    let rest = buffer.skip(skipped).ok()?;
    json.put(r#"{"frame_type":""#).put(name).put("\"");
    for (field, value) in fields.iter().zip(values) {
        json.put(",\"").put(field).put("\":").number(value);
    }
    json.put("},");
    Some(bytes.len() - rest.len())
}

fn write_frame(json: &mut Json, frame: &FrameMut<'_>) {
    match frame {
        Frame::Crypto(frame) => {
            json.put(r#"{"frame_type":"crypto","offset":"#)
                .number(frame.offset.as_u64())
                .put(r#","length":"#)
                .number(frame.data.len() as u64)
                .put("},");
        }
        Frame::Padding(frame) => {
            json.put(r#"{"frame_type":"padding","length":"#).number(frame.length as u64).put("},");
        }
        Frame::Ping(_) => _ = json.put(r#"{"frame_type":"ping"},"#),
        Frame::Datagram(frame) => {
            json.put(r#"{"frame_type":"datagram","length":"#).number(frame.data.len() as u64).put("},");
        }
        Frame::MaxData(frame) => number(json, "max_data", "maximum", frame.maximum_data.as_u64()),
        Frame::MaxStreamData(frame) => {
            json.put(r#"{"frame_type":"max_stream_data","stream_id":"#)
                .number(frame.stream_id.as_u64())
                .put(r#","maximum":"#)
                .number(frame.maximum_stream_data.as_u64())
                .put("},");
        }
        Frame::MaxStreams(frame) => {
            let ty = stream_type(frame.stream_type.is_bidirectional());
            json.put(r#"{"frame_type":"max_streams","stream_type":"#)
                .put(ty)
                .put(r#","maximum":"#)
                .number(frame.maximum_streams.as_u64())
                .put("},");
        }
        Frame::DataBlocked(frame) => number(json, "data_blocked", "limit", frame.data_limit.as_u64()),
        Frame::StreamDataBlocked(frame) => {
            json.put(r#"{"frame_type":"stream_data_blocked","stream_id":"#)
                .number(frame.stream_id.as_u64())
                .put(r#","limit":"#)
                .number(frame.stream_data_limit.as_u64())
                .put("},");
        }
        Frame::StreamsBlocked(frame) => {
            let ty = stream_type(frame.stream_type.is_bidirectional());
            json.put(r#"{"frame_type":"streams_blocked","stream_type":"#)
                .put(ty)
                .put(r#","limit":"#)
                .number(frame.stream_limit.as_u64())
                .put("},");
        }
        Frame::ResetStream(frame) => {
            json.put(r#"{"frame_type":"reset_stream","stream_id":"#)
                .number(frame.stream_id.as_u64())
                .put(r#","error_code":"#)
                .number(frame.application_error_code.as_u64())
                .put(r#","final_size":"#)
                .number(frame.final_size.as_u64())
                .put("},");
        }
        Frame::StopSending(frame) => {
            json.put(r#"{"frame_type":"stop_sending","stream_id":"#)
                .number(frame.stream_id.as_u64())
                .put(r#","error_code":"#)
                .number(frame.application_error_code.as_u64())
                .put("},");
        }
        Frame::NewConnectionId(frame) => {
            json.put(r#"{"frame_type":"new_connection_id","sequence_number":"#)
                .number(frame.sequence_number.as_u64())
                .put(r#","retire_prior_to":"#)
                .number(frame.retire_prior_to.as_u64())
                .put(r#","connection_id":"#)
                .hex(frame.connection_id)
                .put("},");
        }
        Frame::RetireConnectionId(frame) => {
            number(json, "retire_connection_id", "sequence_number", frame.sequence_number.as_u64());
        }
        Frame::PathChallenge(frame) => {
            json.put(r#"{"frame_type":"path_challenge","data":"#).hex(frame.data).put("},");
        }
        Frame::PathResponse(frame) => {
            json.put(r#"{"frame_type":"path_response","data":"#).hex(frame.data).put("},");
        }
        Frame::HandshakeDone(_) => _ = json.put(r#"{"frame_type":"handshake_done"},"#),
        Frame::NewToken(frame) => number(json, "new_token", "length", frame.token.len() as u64),
        Frame::ConnectionClose(frame) => {
            let space = if frame.frame_type.is_some() { "transport" } else { "application" };
            json.put(r#"{"frame_type":"connection_close","error_space":""#)
                .put(space)
                .put(r#"","error_code":"#)
                .number(frame.error_code.as_u64())
                .put(r#","reason":"#)
                .text(frame.reason.unwrap_or_default())
                .put("},");
        }
        // Written above, or not to be read.
        Frame::Stream(_)
        | Frame::Ack(_)
        | Frame::DcStatelessResetTokens(_)
        | Frame::MtuProbingComplete(_) => {
            json.put(r#"{"frame_type":"unknown"},"#);
        }
    }
}

fn number(json: &mut Json, frame: &str, name: &str, value: u64) {
    json.put(r#"{"frame_type":""#).put(frame).put(r#"",""#).put(name).put(r#"":"#).number(value).put("},");
}

fn stream_type(bidirectional: bool) -> &'static str {
    if bidirectional { r#""bidirectional""# } else { r#""unidirectional""# }
}

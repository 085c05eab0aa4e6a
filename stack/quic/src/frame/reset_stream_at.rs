//! RESET_STREAM_AT (draft-ietf-quic-reliable-stream-reset): a reset that leaves the start of a stream standing.

use s2n_codec::{DecoderBuffer, DecoderError, Encoder, EncoderValue};
use s2n_quic_core::varint::VarInt;

/// RESET_STREAM_AT.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResetStreamAt {
    pub(crate) stream_id: VarInt,
    pub(crate) application_error_code: VarInt,
    pub(crate) final_size: VarInt,
    /// Bytes that are delivered all the same.
    pub(crate) reliable_size: VarInt,
}

impl ResetStreamAt {
    /// Its type.
    pub(crate) const TAG: u8 = 0x24;

    /// The fields, behind the type.
    pub(crate) fn decode(buffer: DecoderBuffer<'_>) -> Result<(Self, DecoderBuffer<'_>), DecoderError> {
        let (stream_id, buffer) = buffer.decode()?;
        let (application_error_code, buffer) = buffer.decode()?;
        let (final_size, buffer) = buffer.decode()?;
        let (reliable_size, buffer) = buffer.decode()?;
        Ok((Self { stream_id, application_error_code, final_size, reliable_size }, buffer))
    }
}

impl EncoderValue for ResetStreamAt {
    fn encode<E: Encoder>(&self, encoder: &mut E) {
        encoder.encode(&Self::TAG);
        encoder.encode(&self.stream_id);
        encoder.encode(&self.application_error_code);
        encoder.encode(&self.final_size);
        encoder.encode(&self.reliable_size);
    }
}

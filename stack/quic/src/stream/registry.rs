//! Which streams exist and may exist (RFC 9000 §2.1, §4.6).

use s2n_quic_core::stream::{StreamId, StreamType};

use super::{
    Stream, StreamError, outbound::ConnectionControl, recv::RecvSide, send::SendSide, table::StreamTable,
};
use crate::{config::TransportConfig, error::TransportError, frame::varint, role::Role};

/// A higher limit of streams is announced once this fraction of the streams allowed at a time is over; to a peer that has
/// opened all it may, at once.
const UPDATE_FRACTION: u64 = 8;

/// The peer's initial limits (RFC 9000 §18.2), named from its own point of view.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PeerLimits {
    /// initial_max_data.
    pub(crate) max_data: u64,
    /// initial_max_stream_data_bidi_local: streams the peer opens.
    pub(crate) max_stream_data_bidi_local: u64,
    /// initial_max_stream_data_bidi_remote: streams we open.
    pub(crate) max_stream_data_bidi_remote: u64,
    /// initial_max_stream_data_uni.
    pub(crate) max_stream_data_uni: u64,
    /// initial_max_streams_bidi.
    pub(crate) max_streams_bidi: u64,
    /// initial_max_streams_uni.
    pub(crate) max_streams_uni: u64,
}

impl PeerLimits {
    /// The initial limit of what we may send on a stream.
    fn max_stream_data(&self, ours: bool, ty: StreamType) -> u64 {
        match (ty, ours) {
            (StreamType::Bidirectional, true) => self.max_stream_data_bidi_remote,
            (StreamType::Bidirectional, false) => self.max_stream_data_bidi_local,
            (StreamType::Unidirectional, true) => self.max_stream_data_uni,
            (StreamType::Unidirectional, false) => 0,
        }
    }
}

/// Streams of one type that we open.
#[derive(Debug, Default)]
pub(super) struct Ours {
    pub(super) table: StreamTable,
    /// How many we may open in total: the peer's MAX_STREAMS.
    pub(super) limit: u64,
    /// The limit the application was told of.
    pub(super) told_limit: u64,
    /// The limit for which STREAMS_BLOCKED was queued or sent last.
    pub(super) blocked_at: Option<u64>,
}

/// Streams of one type that the peer opens.
#[derive(Debug)]
pub(super) struct Theirs {
    pub(super) table: StreamTable,
    /// How many it may open in total, as announced.
    pub(super) limit: u64,
    /// How many may be open at a time.
    concurrent: u64,
    /// How many are over.
    over: u64,
    /// How many the application was told of.
    pub(super) told: u64,
}

impl Theirs {
    fn new(concurrent: u64) -> Self {
        Self { table: StreamTable::default(), limit: concurrent, concurrent, over: 0, told: 0 }
    }

    /// The limit that could be announced now.
    pub(super) fn next_limit(&self) -> u64 {
        // RFC 9000 §4.6: never above 2^60.
        self.over.saturating_add(self.concurrent).min(crate::config::MAX_STREAMS)
    }
}

/// A stream ID taken apart.
#[derive(Copy, Clone, Debug)]
pub(super) struct Place {
    pub(super) ours: bool,
    pub(super) ty: StreamType,
    pub(super) number: u64,
}

/// The streams of a connection by initiator and type, and the limits of their numbers.
#[derive(Debug)]
pub(super) struct Registry {
    role: Role,
    ours: [Ours; 2],
    theirs: [Theirs; 2],
    /// The peer's initial limits of data on a stream.
    peer: PeerLimits,
    /// Our initial limit of data on each stream.
    stream_window: u64,
    /// The connection is over: there are no streams any more.
    closed: bool,
}

/// Place of a type in an array of two.
fn index(ty: StreamType) -> usize {
    match ty {
        StreamType::Bidirectional => 0,
        StreamType::Unidirectional => 1,
    }
}

/// Both types.
pub(super) const TYPES: [StreamType; 2] = [StreamType::Bidirectional, StreamType::Unidirectional];

impl Registry {
    pub(super) fn new(role: Role, config: &TransportConfig) -> Self {
        Self {
            role,
            ours: Default::default(),
            theirs: [Theirs::new(config.max_bidi_streams), Theirs::new(config.max_uni_streams)],
            peer: PeerLimits::default(),
            stream_window: config.stream_window,
            closed: false,
        }
    }

    pub(super) fn place(&self, id: StreamId) -> Place {
        Place {
            ours: id.initiator() == self.role.endpoint_type(),
            ty: id.stream_type(),
            number: u64::from(id) >> 2,
        }
    }

    /// The ID of a stream.
    fn id(&self, place: Place) -> StreamId {
        let initiator = if place.ours { self.role } else { self.role.peer() };
        let first = u64::from(StreamId::initial(initiator.endpoint_type(), place.ty));
        StreamId::from_varint(varint((place.number << 2) | first))
    }

    pub(super) fn ours(&mut self, ty: StreamType) -> &mut Ours {
        &mut self.ours[index(ty)]
    }

    pub(super) fn theirs(&mut self, ty: StreamType) -> &mut Theirs {
        &mut self.theirs[index(ty)]
    }

    /// Opens our next stream; `None` at the peer's limit.
    pub(super) fn open(&mut self, ty: StreamType) -> Option<StreamId> {
        let ours = self.ours(ty);
        let number = ours.table.opened();
        if number >= ours.limit {
            return None;
        }
        ours.table.open_until(number + 1);
        Some(self.id(Place { ours: true, ty, number }))
    }

    /// The next stream of a type that the peer opened and the application was not told of.
    pub(super) fn take_opened(&mut self, ty: StreamType) -> Option<StreamId> {
        let theirs = self.theirs(ty);
        let number = theirs.told;
        if number >= theirs.table.opened() {
            return None;
        }
        theirs.told += 1;
        Some(self.id(Place { ours: false, ty, number }))
    }

    /// The stream, if it is in use.
    #[inline]
    pub(super) fn get_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        let place = self.place(id);
        self.table_mut(place).get_mut(place.number)
    }

    /// The stream, if it is open; puts it to use.
    #[inline]
    pub(super) fn get_or_use(&mut self, id: StreamId) -> Option<&mut Stream> {
        let place = self.place(id);
        let (max_data, window) = (self.peer.max_stream_data(place.ours, place.ty), self.stream_window);
        self.table_mut(place).get_or_use(place.number, || {
            let sends = place.ours || place.ty == StreamType::Bidirectional;
            let receives = !place.ours || place.ty == StreamType::Bidirectional;
            Stream::new(sends.then(|| SendSide::new(max_data)), receives.then(|| RecvSide::new(window)))
        })
    }

    /// The stream that the application means.
    #[inline]
    pub(super) fn commanded(&mut self, id: StreamId) -> Result<&mut Stream, StreamError> {
        if self.closed {
            return Err(StreamError::Closed);
        }
        self.get_or_use(id).ok_or(StreamError::Unknown)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// May frames of this stream be sent? Not if rejected 0-RTT left it beyond the peer's limit.
    #[inline]
    pub(super) fn is_allowed(&self, id: StreamId) -> bool {
        let place = self.place(id);
        !place.ours || place.number < self.ours[index(place.ty)].limit
    }

    /// A frame for the receiving side of a stream came: STREAM, RESET_STREAM, STREAM_DATA_BLOCKED. `None` if the stream
    /// is over.
    #[inline]
    pub(super) fn receiving(&mut self, id: StreamId) -> Result<Option<&mut Stream>, TransportError> {
        let place = self.place(id);
        if place.ours && place.ty == StreamType::Unidirectional {
            // RFC 9000 §19.4, §19.8, §19.13: the peer can't send on our unidirectional streams.
            return Err(TransportError::STREAM_STATE_ERROR.with_reason("data on a send-only stream"));
        }
        self.touch(place)?;
        Ok(self.get_or_use(id))
    }

    /// A frame for the sending side of a stream came: MAX_STREAM_DATA, STOP_SENDING. `None` if the stream is over.
    #[inline]
    pub(super) fn sending(&mut self, id: StreamId) -> Result<Option<&mut Stream>, TransportError> {
        let place = self.place(id);
        if !place.ours && place.ty == StreamType::Unidirectional {
            // RFC 9000 §19.5, §19.10: we can't send on the peer's unidirectional streams.
            return Err(TransportError::STREAM_STATE_ERROR.with_reason("credit for a receive-only stream"));
        }
        self.touch(place)?;
        Ok(self.get_or_use(id))
    }

    /// The peer names a stream: opens it and all lower-numbered ones if it is the peer's (RFC 9000 §3.2).
    #[inline]
    fn touch(&mut self, place: Place) -> Result<(), TransportError> {
        if place.ours {
            if place.number >= self.ours(place.ty).table.opened() {
                return Err(TransportError::STREAM_STATE_ERROR.with_reason("a stream we have not opened"));
            }
            return Ok(());
        }
        let theirs = self.theirs(place.ty);
        if place.number >= theirs.limit {
            return Err(TransportError::STREAM_LIMIT_ERROR.with_reason("a stream beyond MAX_STREAMS"));
        }
        if place.number >= theirs.table.opened() {
            theirs.table.open_until(place.number + 1);
        }
        Ok(())
    }

    /// Takes the peer's limit of streams. Returns the IDs that were opened before they were allowed (0-RTT) and now are.
    pub(super) fn raise_max_streams(
        &mut self,
        ty: StreamType,
        limit: u64,
    ) -> impl Iterator<Item = StreamId> + use<> {
        let ours = self.ours(ty);
        let before = ours.limit;
        ours.limit = before.max(limit);
        let first = u64::from(self.id(Place { ours: true, ty, number: 0 }));
        let ours = self.ours(ty);
        (before..ours.limit.min(ours.table.opened()))
            .map(move |number| StreamId::from_varint(varint((number << 2) | first)))
    }

    /// Takes the peer's initial limits, where they are higher.
    pub(super) fn raise_initial(&mut self, limits: &PeerLimits) {
        let old = self.peer;
        self.peer = PeerLimits {
            max_data: old.max_data.max(limits.max_data),
            max_stream_data_bidi_local: old.max_stream_data_bidi_local.max(limits.max_stream_data_bidi_local),
            max_stream_data_bidi_remote: old
                .max_stream_data_bidi_remote
                .max(limits.max_stream_data_bidi_remote),
            max_stream_data_uni: old.max_stream_data_uni.max(limits.max_stream_data_uni),
            max_streams_bidi: old.max_streams_bidi.max(limits.max_streams_bidi),
            max_streams_uni: old.max_streams_uni.max(limits.max_streams_uni),
        };
        let (bidi, uni) = (self.peer.max_streams_bidi, self.peer.max_streams_uni);
        // Streams that become allowed by this are among those the caller looks at anyway.
        drop(self.raise_max_streams(StreamType::Bidirectional, bidi));
        drop(self.raise_max_streams(StreamType::Unidirectional, uni));
        let (peer, role) = (self.peer, self.role);
        self.each_used(|id, stream, _| {
            if let Some(send) = &mut stream.send {
                let initial = peer.max_stream_data(id.initiator() == role.endpoint_type(), id.stream_type());
                send.max_data = send.max_data.max(initial);
            }
        });
    }

    /// Sets all of the peer's limits to 0 (rejected 0-RTT). Streams stay.
    pub(super) fn drop_limits(&mut self) {
        self.peer = PeerLimits::default();
        for ours in &mut self.ours {
            ours.limit = 0;
            ours.told_limit = 0;
            ours.blocked_at = None;
        }
    }

    /// Calls `each` with the ID of every stream in use, the stream, and whether frames of it may be sent.
    pub(super) fn each_used(&mut self, mut each: impl FnMut(StreamId, &mut Stream, bool)) {
        for ty in TYPES {
            let first = u64::from(self.id(Place { ours: true, ty, number: 0 }));
            let ours = self.ours(ty);
            for (number, stream) in ours.table.used() {
                let id = StreamId::from_varint(varint((number << 2) | first));
                each(id, stream, number < ours.limit);
            }
            let first = u64::from(self.id(Place { ours: false, ty, number: 0 }));
            for (number, stream) in self.theirs(ty).table.used() {
                each(StreamId::from_varint(varint((number << 2) | first)), stream, true);
            }
        }
    }

    /// Frees the stream if nothing is left to do with it; says then whether it was held up by its limit.
    pub(super) fn free_if_over(&mut self, id: StreamId) -> Option<bool> {
        let place = self.place(id);
        let table = self.table_mut(place);
        let stream = table.get_mut(place.number).filter(|stream| stream.is_terminal())?;
        let was_limited = stream.send.as_ref().is_some_and(|send| send.blocked_at.is_some());
        table.remove(place.number);
        if !place.ours {
            self.theirs(place.ty).over += 1;
        }
        Some(was_limited)
    }

    /// Whether the peer should be told that it may open more streams of this one's type.
    pub(super) fn max_streams_due(&mut self, id: StreamId) -> Option<ConnectionControl> {
        let place = self.place(id);
        let theirs = self.theirs(place.ty);
        let step = theirs.next_limit() - theirs.limit;
        let much = step >= theirs.concurrent / UPDATE_FRACTION || theirs.table.opened() >= theirs.limit;
        let due = !place.ours && step > 0 && much;
        due.then_some(ConnectionControl::max_streams(place.ty))
    }

    /// Is every stream over, and the application told of all?
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.ours.iter().all(|ours| ours.table.is_empty() && ours.told_limit >= ours.limit)
            && self
                .theirs
                .iter()
                .all(|theirs| theirs.table.is_empty() && theirs.told == theirs.table.opened())
    }

    /// Forgets all streams, for the connection is over.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.tables().for_each(StreamTable::clear);
    }

    /// Gives spare capacity back.
    pub(super) fn shrink(&mut self) {
        self.tables().for_each(StreamTable::shrink);
    }

    fn tables(&mut self) -> impl Iterator<Item = &mut StreamTable> {
        let ours = self.ours.iter_mut().map(|ours| &mut ours.table);
        ours.chain(self.theirs.iter_mut().map(|theirs| &mut theirs.table))
    }

    fn table_mut(&mut self, place: Place) -> &mut StreamTable {
        match place.ours {
            true => &mut self.ours(place.ty).table,
            false => &mut self.theirs(place.ty).table,
        }
    }
}

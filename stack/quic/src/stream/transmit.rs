//! Frames about streams on their way out.

use s2n_quic_core::{
    frame,
    stream::{StreamId, StreamType},
};

use super::{
    Streams,
    outbound::{ConnectionControl, Control, Queue},
    schedule::{Kind, Turn},
    send::{SendState, Wrote},
};
use crate::frame::{FrameWriter, ResetStreamAt, SentFrame, varint};

/// A frame with fewer bytes of a longer run is left for the next packet, if there are other frames in this one: it would
/// cost more than it carries.
const MIN_FRAGMENT: usize = 32;

/// Did the packet have room?
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Room {
    Left,
    Full,
}

impl Streams {
    /// Is there a frame that could be written now? Rarely says so although what was queued is of no use any more.
    #[inline]
    pub(crate) fn wants_transmit(&self) -> bool {
        self.outbound.is_pending()
    }

    /// Appends frames until the packet is full or nothing is left: control frames, lost data, fresh data.
    pub(crate) fn write_frames(&mut self, w: &mut FrameWriter<'_, '_>) {
        if self.write_connection_control(w) == Room::Full || self.write_stream_control(w) == Room::Full {
            return;
        }
        self.write_data(w);
        self.outbound.note_blocked();
    }

    fn write_connection_control(&mut self, w: &mut FrameWriter<'_, '_>) -> Room {
        while let Some(control) = self.outbound.connection.first() {
            let fits = match control {
                ConnectionControl::MaxData => self.write_max_data(w),
                ConnectionControl::MaxStreamsBidi => self.write_max_streams(StreamType::Bidirectional, w),
                ConnectionControl::MaxStreamsUni => self.write_max_streams(StreamType::Unidirectional, w),
                ConnectionControl::DataBlocked => self.write_data_blocked(w),
                ConnectionControl::StreamsBlockedBidi => {
                    self.write_streams_blocked(StreamType::Bidirectional, w)
                }
                ConnectionControl::StreamsBlockedUni => {
                    self.write_streams_blocked(StreamType::Unidirectional, w)
                }
            };
            if !fits {
                return Room::Full;
            }
            self.outbound.connection.remove(control);
        }
        Room::Left
    }

    fn write_max_data(&mut self, w: &mut FrameWriter<'_, '_>) -> bool {
        let cx = *w.cx();
        let limit = self.inbound.window.announce(cx.now, cx.rtt, self.max_connection_window);
        w.push(&frame::MaxData { maximum_data: varint(limit) }, SentFrame::MaxData { limit })
    }

    fn write_max_streams(&mut self, ty: StreamType, w: &mut FrameWriter<'_, '_>) -> bool {
        let theirs = self.registry.theirs(ty);
        theirs.limit = theirs.next_limit();
        let limit = theirs.limit;
        let frame = frame::MaxStreams { stream_type: ty, maximum_streams: varint(limit) };
        w.push(&frame, SentFrame::MaxStreams { ty, limit })
    }

    fn write_data_blocked(&mut self, w: &mut FrameWriter<'_, '_>) -> bool {
        let limit = self.outbound.credit.limit;
        w.push(&frame::DataBlocked { data_limit: varint(limit) }, SentFrame::DataBlocked { limit })
    }

    fn write_streams_blocked(&mut self, ty: StreamType, w: &mut FrameWriter<'_, '_>) -> bool {
        let ours = self.registry.ours(ty);
        let Some(limit) = ours.blocked_at.filter(|limit| *limit == ours.limit) else { return true };
        let frame = frame::StreamsBlocked { stream_type: ty, stream_limit: varint(limit) };
        w.push(&frame, SentFrame::StreamsBlocked { ty, limit })
    }

    fn write_stream_control(&mut self, w: &mut FrameWriter<'_, '_>) -> Room {
        while let Some(&id) = self.outbound.control.front() {
            while let Some(control) = self.registry.get_mut(id).and_then(|stream| stream.control.first()) {
                if !self.write_control(id, control, w) {
                    return Room::Full;
                }
                if let Some(stream) = self.registry.get_mut(id) {
                    stream.control.remove(control);
                }
            }
            self.outbound.control.pop_front();
            if let Some(stream) = self.registry.get_mut(id) {
                stream.queued.remove(Queue::Control);
            }
        }
        Room::Left
    }

    /// Writes a control frame of a stream if it still is of use; says whether it had room.
    fn write_control(&mut self, id: StreamId, control: Control, w: &mut FrameWriter<'_, '_>) -> bool {
        let Some(stream) = self.registry.get_mut(id) else { return true };
        let stream_id = id.as_varint();
        match control {
            Control::Reset => {
                let Some(send) = &mut stream.send else { return true };
                match send.state {
                    SendState::ResetSent(by) => {
                        let final_size = varint(send.buffer.sent());
                        let frame =
                            frame::ResetStream { stream_id, application_error_code: by.code(), final_size };
                        w.push(&frame, SentFrame::ResetStream { id })
                    }
                    SendState::Cut(cut) if send.wants_cut() => {
                        let reliable = send.buffer.written();
                        let frame = ResetStreamAt {
                            stream_id,
                            application_error_code: cut.code,
                            final_size: varint(reliable + cut.beyond),
                            reliable_size: varint(reliable),
                        };
                        let fits = w.push(&frame, SentFrame::ResetStreamAt { id, reliable });
                        if fits {
                            send.on_cut_sent();
                        }
                        fits
                    }
                    _ => true,
                }
            }
            Control::Stop => {
                let Some(code) = stream.recv.as_ref().and_then(|recv| recv.wants_stop()) else { return true };
                let frame = frame::StopSending { stream_id, application_error_code: code };
                w.push(&frame, SentFrame::StopSending { id })
            }
            Control::MaxData => {
                let Some(recv) = stream.recv.as_mut().filter(|recv| recv.wants_credit()) else { return true };
                let cx = *w.cx();
                let limit = recv.window.announce(cx.now, cx.rtt, self.max_stream_window);
                // One stream at full speed must not be held back by the connection's window.
                let size = recv.window.size();
                self.inbound.window.grow_to((size + size / 2).min(self.max_connection_window));
                let frame = frame::MaxStreamData { stream_id, maximum_stream_data: varint(limit) };
                w.push(&frame, SentFrame::MaxStreamData { id, limit })
            }
            Control::Blocked => {
                let Some(send) = stream.send.as_ref().filter(|send| send.is_blocked()) else { return true };
                let limit = send.max_data;
                let frame = frame::StreamDataBlocked { stream_id, stream_data_limit: varint(limit) };
                w.push(&frame, SentFrame::StreamDataBlocked { id, limit })
            }
        }
    }

    fn write_data(&mut self, w: &mut FrameWriter<'_, '_>) {
        let mut wrote = false;
        while let Some(turn) = self.outbound.schedule.next(self.outbound.credit.available() > 0) {
            if wrote && w.remaining() < MIN_FRAGMENT {
                return;
            }
            if self.write_turn(turn, w) == Room::Full {
                return;
            }
            wrote = true;
        }
    }

    /// Appends frames of the stream whose turn it is, until it has no more or the packet is full.
    fn write_turn(&mut self, turn: Turn, w: &mut FrameWriter<'_, '_>) -> Room {
        let id = turn.id;
        let allowed = self.registry.is_allowed(id);
        let Some(stream) = self.registry.get_mut(id) else {
            self.outbound.schedule.pop(turn);
            return Room::Left;
        };
        loop {
            let credit = self.outbound.credit.available();
            let wrote = match (&mut stream.send, turn.kind) {
                (Some(send), Kind::Repair) if allowed => send.write_repair(id, w),
                (Some(send), Kind::Fresh) if allowed => send.write_fresh(id, credit, w),
                (Some(_) | None, Kind::Repair | Kind::Fresh) => Wrote::Nothing,
            };
            match wrote {
                Wrote::Frame { fresh, len } => {
                    self.outbound.credit.used += fresh;
                    let more = match (&stream.send, turn.kind) {
                        (Some(send), Kind::Repair) => send.wants_credit_free(),
                        (Some(send), Kind::Fresh) => send.sendable() > 0,
                        (None, Kind::Repair | Kind::Fresh) => false,
                    };
                    if more {
                        let turn_over = self.outbound.schedule.spend(turn, len);
                        if w.remaining() == 0 || self.outbound.credit.available() == 0 {
                            return Room::Full;
                        }
                        if turn_over {
                            return Room::Left;
                        }
                        continue;
                    }
                }
                Wrote::NoRoom => return Room::Full,
                Wrote::Nothing => {}
            }
            // Nothing more of this kind; what else the stream has is queued anew.
            self.outbound.schedule.pop(turn);
            stream.queued.remove(match turn.kind {
                Kind::Repair => Queue::Repair,
                Kind::Fresh => Queue::Fresh,
            });
            self.outbound.plan(id, stream, allowed);
            return Room::Left;
        }
    }
}

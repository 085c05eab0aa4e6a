//! What is to be sent: which streams, which control frames, and the credit for it.

use std::collections::VecDeque;

use s2n_quic_core::stream::{StreamId, StreamType};

use super::{
    Stream,
    flow::SendCredit,
    schedule::{Kind, Schedule},
    send::{SendSide, SendState},
    sets::{Set, members},
    stats::Blocked,
};

members! {
    /// Queues a stream can stand in.
    Queue {
        /// Streams with control frames to send.
        Control,
        /// Streams with lost data, or only their end, to send.
        Repair,
        /// Streams with data never sent.
        Fresh,
    }
}

members! {
    /// Control frames of a stream.
    Control {
        /// RESET_STREAM or RESET_STREAM_AT.
        Reset,
        /// STOP_SENDING.
        Stop,
        /// MAX_STREAM_DATA.
        MaxData,
        /// STREAM_DATA_BLOCKED.
        Blocked,
    }
}

members! {
    /// Control frames of the connection about its streams.
    ConnectionControl {
        /// MAX_DATA.
        MaxData,
        /// MAX_STREAMS, bidirectional.
        MaxStreamsBidi,
        /// MAX_STREAMS, unidirectional.
        MaxStreamsUni,
        /// DATA_BLOCKED.
        DataBlocked,
        /// STREAMS_BLOCKED, bidirectional.
        StreamsBlockedBidi,
        /// STREAMS_BLOCKED, unidirectional.
        StreamsBlockedUni,
    }
}

impl ConnectionControl {
    /// MAX_STREAMS of a type.
    pub(super) fn max_streams(ty: StreamType) -> Self {
        match ty {
            StreamType::Bidirectional => Self::MaxStreamsBidi,
            StreamType::Unidirectional => Self::MaxStreamsUni,
        }
    }

    /// STREAMS_BLOCKED of a type.
    pub(super) fn streams_blocked(ty: StreamType) -> Self {
        match ty {
            StreamType::Bidirectional => Self::StreamsBlockedBidi,
            StreamType::Unidirectional => Self::StreamsBlockedUni,
        }
    }
}

/// What is to be sent.
#[derive(Debug)]
pub(super) struct Outbound {
    /// Control frames of the connection.
    pub(super) connection: Set<ConnectionControl>,
    /// Streams with control frames.
    pub(super) control: VecDeque<StreamId>,
    /// Streams with data.
    pub(super) schedule: Schedule,
    /// The connection's credit.
    pub(super) credit: SendCredit,
    /// How often the peer's limits held us up.
    pub(super) blocked: Blocked,
    /// Streams that have more to send than the peer's limit for them lets through.
    pub(super) limited: u32,
}

impl Outbound {
    pub(super) fn new(burst: u64) -> Self {
        Self {
            connection: Set::default(),
            control: VecDeque::new(),
            schedule: Schedule::new(burst),
            credit: SendCredit::default(),
            blocked: Blocked::default(),
            limited: 0,
        }
    }

    /// Is there a frame to be sent now?
    pub(super) fn is_pending(&self) -> bool {
        !self.connection.is_empty()
            || !self.control.is_empty()
            || self.schedule.has_repairs()
            || (self.schedule.has_fresh() && self.credit.available() > 0)
    }

    /// Queues a control frame of a stream. A stream that is not `allowed` yet waits for
    /// [`plan`](Self::plan) to find it allowed.
    pub(super) fn control(&mut self, id: StreamId, stream: &mut Stream, control: Control, allowed: bool) {
        stream.control.insert(control);
        if allowed && stream.queued.insert(Queue::Control) {
            self.control.push_back(id);
        }
    }

    /// Puts a stream into the queues of all that it has to send. To be called whenever that may have grown.
    #[inline]
    pub(super) fn plan(&mut self, id: StreamId, stream: &mut Stream, allowed: bool) {
        if !allowed {
            return;
        }
        if stream.send.as_ref().is_some_and(SendSide::wants_cut) {
            stream.control.insert(Control::Reset);
        }
        if !stream.control.is_empty() && stream.queued.insert(Queue::Control) {
            self.control.push_back(id);
        }
        let Some(send) = &mut stream.send else { return };
        if send.wants_credit_free() && stream.queued.insert(Queue::Repair) {
            self.schedule.push(Kind::Repair, stream.priority, id);
        }
        if send.blocked_at.is_some() && !send.is_blocked() {
            send.blocked_at = None;
            self.limited -= 1;
        }
        if send.sendable() > 0 {
            if stream.queued.insert(Queue::Fresh) {
                self.schedule.push(Kind::Fresh, stream.priority, id);
            }
            self.note_blocked();
        } else if send.newly_blocked() {
            self.limited += u32::from(send.blocked_at.replace(send.max_data).is_none());
            self.blocked.stream += 1;
            self.control(id, stream, Control::Blocked, allowed);
        }
    }

    /// Tells the peer that its limit for the connection keeps us from sending, once for each limit (RFC 9000 §4.1).
    #[inline]
    pub(super) fn note_blocked(&mut self) {
        if self.is_blocked() && self.credit.blocked_at != Some(self.credit.limit) {
            self.credit.blocked_at = Some(self.credit.limit);
            self.blocked.connection += 1;
            self.connection.insert(ConnectionControl::DataBlocked);
        }
    }

    /// Is the connection's credit all that keeps data from being sent?
    pub(super) fn is_blocked(&self) -> bool {
        self.credit.available() == 0 && self.schedule.has_fresh()
    }

    /// Empties all queues and drops the credit (rejected 0-RTT). [`start_over`](Self::start_over) must follow for every
    /// stream in use.
    pub(super) fn drop_queues(&mut self) {
        self.credit = SendCredit::default();
        self.limited = 0;
        self.connection.remove(ConnectionControl::DataBlocked);
        self.control.clear();
        self.schedule.clear();
    }

    /// Makes all that a stream has sent unsent (rejected 0-RTT).
    pub(super) fn start_over(&mut self, id: StreamId, stream: &mut Stream, allowed: bool) {
        stream.queued = Set::default();
        if let Some(send) = &mut stream.send {
            send.rewind();
            if let SendState::ResetSent(_) = send.state {
                stream.control.insert(Control::Reset);
            }
        }
        if stream.recv.as_ref().is_some_and(|recv| recv.wants_stop().is_some()) {
            stream.control.insert(Control::Stop);
        }
        stream.control.remove(Control::Blocked);
        self.plan(id, stream, allowed);
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.connection = Set::default();
        self.control = VecDeque::new();
        self.schedule.clear();
        self.limited = 0;
    }

    /// Gives spare capacity back.
    pub(super) fn shrink(&mut self) {
        self.control.shrink_to_fit();
        self.schedule.shrink();
    }
}

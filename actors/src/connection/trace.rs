//! Journeys of sampled datagrams through a connection: in, up to the woken reader; out, from the application's command.

use wirepath_drivers::TxDatagram;
use wirepath_quic::Timestamp;
use wirepath_trace::{BatchClock, Direction, Journey, Nanos, Stage};

use super::{Connection, ConnectionMessage, transmit::ecn_to_quic};
use crate::{demux::Datagram, kit::Shift, traced::Traced};

/// What is known of the turn in hand.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub(super) begun: Nanos,
    /// Whether the application's commands began it.
    pub(super) is_commanded: bool,
    /// When what was received began to be told; known only while a journey is under way.
    pub(super) told_from: Nanos,
}

impl Connection {
    /// A sampled datagram from the peer, one of `batch`.
    #[cold]
    pub(super) fn on_traced(
        &mut self,
        now: Timestamp,
        mut datagram: Datagram,
        mut journey: Box<Journey>,
        batch: usize,
    ) {
        journey.set_connection(self.actor);
        let begun = BatchClock::read();
        // Behind those of its batch that came first.
        journey.hop(Stage::Connection, self.actor, self.turn.begun, begun, batch);
        let ecn = ecn_to_quic(datagram.ecn);
        self.quic.on_datagram(now, datagram.path, ecn, datagram.payload.as_mut_slice());
        journey.hop(Stage::Quic, self.actor, begun, BatchClock::read(), 1);
        self.arrived.push(0, journey);
    }

    /// Readers are awake: ends the journeys of what they were woken for.
    #[cold]
    pub(super) fn end_arrived(&mut self) {
        let now = BatchClock::read();
        self.arrived.hop(Stage::Stream, self.actor, self.turn.told_from, now, 1);
        self.arrived.finish("delivered");
    }

    /// Begins the journeys of those of the datagrams about to be handed over that are sampled.
    #[inline]
    pub(super) fn sample(&mut self, cx: &Shift<ConnectionMessage>, datagrams: &[TxDatagram]) -> Traced {
        let place = self.sampler.pick(&self.tables.tracer, datagrams.len() as u32);
        if place.is_none() && !self.tables.tracer.is_armed() {
            return Traced::default();
        }
        self.sample_now(cx, place, datagrams)
    }

    #[cold]
    fn sample_now(
        &self,
        cx: &Shift<ConnectionMessage>,
        place: Option<u32>,
        datagrams: &[TxDatagram],
    ) -> Traced {
        let (mut traced, tracer, now) = (Traced::default(), &self.tables.tracer, BatchClock::read());
        let cid = self.cids.first();
        let cid = cid.map_or(&[][..], |cid| cid.as_slice());
        for (n, datagram) in datagrams.iter().enumerate() {
            let is_wanted = tracer.is_armed() && tracer.wants(Some((datagram.local, datagram.remote)), cid);
            if !is_wanted && place != Some(n as u32) {
                continue;
            }
            let begin = if self.turn.is_commanded { cx.sent_at() } else { self.turn.begun };
            let mut journey = tracer.begin(Direction::Tx, begin);
            journey.set_path(datagram.local, datagram.remote, datagram.buf.len());
            journey.set_cid(cid);
            journey.set_payload(datagram.buf.as_slice(), datagram.segment_size);
            journey.set_connection(self.actor);
            if self.turn.is_commanded {
                journey.hop(Stage::Application, 0, self.turn.begun, self.turn.begun, 1);
            }
            journey.hop(Stage::Connection, self.actor, self.turn.begun, now, datagrams.len());
            traced.push(n, journey);
        }
        traced
    }
}

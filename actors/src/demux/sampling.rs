//! Which packets of a batch are sampled, and their journeys up to their bindings.

use std::sync::Arc;

use wirepath_trace::{BatchClock, Direction, Journey, Nanos, Sampler, Stage, Tracer};

use super::{Datagram, Demux};
use crate::tables::{LOCAL_CID_LEN, Socket};

/// What of a batch of received packets is sampled.
#[derive(Clone, Copy, Debug, Default)]
pub struct RxSample {
    /// When the device handed the batch on; 0 when nothing is sampled.
    pub(super) handed_at: Nanos,
    /// The packet whose turn it is.
    pub(super) place: Option<u32>,
    /// Whether a filter is armed.
    pub(super) armed: bool,
}

impl RxSample {
    /// Chooses among `count` packets. Reads the clock only if some may be sampled.
    #[inline]
    pub fn of(sampler: &mut Sampler, tracer: &Tracer, count: u32) -> Self {
        let (place, armed) = (sampler.pick(tracer, count), tracer.is_armed());
        if place.is_none() && !armed {
            return Self::default();
        }
        Self { handed_at: BatchClock::read(), place, armed }
    }

    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.handed_at != 0
    }
}

/// A batch some packets of which are sampled, while it is sorted.
#[derive(Debug)]
pub(super) struct Sampling {
    pub(super) sample: RxSample,
    pub(super) received_at: Nanos,
    pub(super) begun: Nanos,
    pub(super) device: u64,
    pub(super) count: usize,
    /// The journey of the packet in hand.
    pub(super) journey: Option<Box<Journey>>,
}

impl Sampling {
    fn begin(&self, tracer: &Arc<Tracer>) -> Box<Journey> {
        let mut journey = tracer.begin(Direction::Rx, self.received_at);
        journey.hop(Stage::Device, self.device, self.received_at, self.sample.handed_at, self.count);
        journey
    }
}

impl Demux {
    #[cold]
    pub(super) fn begin_journey(&mut self, place: usize) {
        let Some(sampling) = &mut self.sampling else { return };
        // One that is wanted only for how it is dropped is followed from here on; one that is wanted for its
        // addresses, once they are known.
        let unseen = sampling.sample.armed && self.tables.tracer.wants_unseen();
        sampling.journey = (unseen || sampling.sample.place == Some(place as u32))
            .then(|| sampling.begin(&self.tables.tracer));
    }

    #[cold]
    pub(super) fn describe_journey(&mut self, datagram: &Datagram, socket: Option<&Arc<Socket>>) {
        let Some(sampling) = &mut self.sampling else { return };
        let (path, tracer) = (datagram.path, &self.tables.tracer);
        let cid_len = socket.map_or(LOCAL_CID_LEN, |socket| socket.cid_len);
        let header = wirepath_quic::classify(datagram.payload.as_slice(), cid_len);
        let cid = header.as_ref().map_or(&[][..], |header| header.dcid());
        if sampling.journey.is_none()
            && sampling.sample.armed
            && tracer.wants(Some((path.local, path.remote)), cid)
        {
            sampling.journey = Some(sampling.begin(tracer));
        }
        if let Some(journey) = &mut sampling.journey {
            journey.set_path(path.local, path.remote, datagram.payload.len());
            journey.set_cid(cid);
            journey.set_payload(datagram.payload.as_slice(), None);
        }
    }

    /// Ends the journey of the packet in hand.
    #[inline]
    pub(super) fn end_journey(&mut self, outcome: &'static str) {
        if let Some(sampling) = &mut self.sampling
            && let Some(mut journey) = sampling.journey.take()
        {
            journey.hop(Stage::Demux, self.actor, sampling.begun, BatchClock::read(), sampling.count);
            journey.finish(outcome);
        }
    }
}

//! Where each UMEM frame is.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Where a UMEM frame can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Place {
    /// In the free list.
    Free = 0,
    /// With the kernel, to receive into: in the fill ring, being filled, or in the RX ring.
    Fill = 1,
    /// Received, in a [`UmemFrame`](super::UmemFrame) of the program.
    RxApp = 2,
    /// Leased to send, in a [`UmemFrame`](super::UmemFrame) of the program.
    TxApp = 3,
    /// With the kernel, being sent: in the TX ring, on its way, or in the completion ring.
    TxRing = 4,
    /// As [`TxRing`](Self::TxRing), but received before: it counts on the RX side until it is free again.
    TxRingOfRx = 5,
    /// Taken out of use: the kernel told something of it that can't be.
    Quarantined = 6,
}

impl Place {
    const COUNT: usize = 7;

    const ALL: [Self; Self::COUNT] =
        [Self::Free, Self::Fill, Self::RxApp, Self::TxApp, Self::TxRing, Self::TxRingOfRx, Self::Quarantined];

    /// Whether a frame here counts against what receiving may hold, and not sending.
    pub(super) fn is_rx(self) -> bool {
        matches!(self, Self::Fill | Self::RxApp | Self::TxRingOfRx)
    }
}

/// The place takes the low bits, the generation the rest: 2^29 lives of a frame before a number comes again.
const PLACE_BITS: u32 = 3;
const PLACE_MASK: u32 = (1 << PLACE_BITS) - 1;

/// A place and a generation in one word. The generation moves on whenever the frame becomes free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State(u32);

impl State {
    /// A word no frame is ever in: what a handle holds that no longer owns its frame.
    pub(super) const DETACHED: Self = Self(PLACE_MASK);

    pub(super) fn place(self) -> Option<Place> {
        Place::ALL.get((self.0 & PLACE_MASK) as usize).copied()
    }

    #[inline]
    pub(super) fn is(self, place: Place) -> bool {
        self.0 & PLACE_MASK == place as u32
    }

    #[inline]
    pub(super) fn at(self, place: Place) -> Self {
        Self(self.0 & !PLACE_MASK | place as u32)
    }

    #[inline]
    fn freed(self) -> Self {
        Self((self.0 & !PLACE_MASK).wrapping_add(1 << PLACE_BITS))
    }
}

/// One word a frame, and who has it.
#[derive(Debug)]
pub(super) struct Ledger {
    states: Box<[AtomicU32]>,
    /// A holder, and above it the state it was noted in: what was noted of an earlier life is known by that.
    holders: Box<[AtomicU64]>,
}

impl Ledger {
    /// All frames free, in their first life.
    pub(super) fn new(frames: u32) -> Self {
        Self {
            states: (0..frames).map(|_| AtomicU32::new(0)).collect(),
            // Noted in a state no frame is in.
            holders: (0..frames).map(|_| AtomicU64::new(u64::MAX)).collect(),
        }
    }

    /// Notes who holds a frame that is at `state`.
    #[inline]
    pub(super) fn hold(&self, index: u32, state: State, holder: u32) {
        self.holders[index as usize].store(u64::from(state.0) << 32 | u64::from(holder), Relaxed);
    }

    /// Where a frame is, since when in terms of lives, and with whom.
    pub(super) fn sight(&self, index: u32) -> FrameSight {
        let (state, noted) = (self.state(index), self.holders[index as usize].load(Relaxed));
        let holder = (noted >> 32 == u64::from(state.0)).then_some(noted as u32);
        FrameSight { place: state.place(), stay: state.0, holder }
    }

    pub(super) fn len(&self) -> u32 {
        self.states.len() as u32
    }

    #[inline]
    pub(super) fn state(&self, index: u32) -> State {
        State(self.states[index as usize].load(Relaxed))
    }

    /// Moves a frame from exactly `from`; `None` if it isn't there, and nothing changes.
    ///
    /// A load and a store suffice: whoever may move a frame out of a place is the only one to. Out of the app's
    /// places it is the owner of the handle, out of the kernel's the one thread that runs the rings.
    #[inline]
    pub(super) fn advance(&self, index: u32, from: State, to: Place) -> Option<State> {
        let word = &self.states[index as usize];
        if word.load(Relaxed) != from.0 {
            return None;
        }
        let next = if to == Place::Free { from.freed() } else { from.at(to) };
        word.store(next.0, Relaxed);
        Some(next)
    }

    /// Puts a frame that the caller just took off the free list, and so alone owns, at `to`.
    #[inline]
    pub(super) fn take(&self, index: u32, to: Place) -> State {
        let word = &self.states[index as usize];
        let next = State(word.load(Relaxed)).at(to);
        word.store(next.0, Relaxed);
        next
    }

    /// How many frames are at each place.
    pub(super) fn count(&self) -> [usize; Place::COUNT] {
        let mut counts = [0; Place::COUNT];
        for index in 0..self.len() {
            if let Some(place) = self.state(index).place() {
                counts[place as usize] += 1;
            }
        }
        counts
    }
}

/// What is to be seen of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameSight {
    /// Where it is; `None` only while it is moved.
    pub place: Option<Place>,
    /// Tells this stay at this place from every other: equal in two looks, the frame has been there all the time
    /// between.
    pub stay: u32,
    /// Who holds it there, if that was noted.
    pub holder: Option<u32>,
}

/// Where all frames of a pool are. Exact while nothing moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UmemAudit {
    /// All frames there are.
    pub capacity: usize,
    /// At [`Place::Free`].
    pub free: usize,
    /// At [`Place::Fill`].
    pub fill: usize,
    /// At [`Place::RxApp`].
    pub rx_app: usize,
    /// At [`Place::TxApp`].
    pub tx_app: usize,
    /// At [`Place::TxRing`] or [`Place::TxRingOfRx`].
    pub tx_ring: usize,
    /// At [`Place::Quarantined`].
    pub quarantined: usize,
    /// Entries of the free list, what was returned to it included; must equal `free`.
    pub free_list: usize,
    /// Entries of the free list that are there twice, or whose frame is elsewhere.
    pub free_list_wrong: usize,
    /// Addresses and handles refused because their frame was not where they said.
    pub rejected: u64,
}

impl UmemAudit {
    pub(super) fn of(counts: [usize; Place::COUNT], capacity: usize) -> Self {
        let at = |place: Place| counts[place as usize];
        Self {
            capacity,
            free: at(Place::Free),
            fill: at(Place::Fill),
            rx_app: at(Place::RxApp),
            tx_app: at(Place::TxApp),
            tx_ring: at(Place::TxRing) + at(Place::TxRingOfRx),
            quarantined: at(Place::Quarantined),
            ..Self::default()
        }
    }

    /// Whether every frame is at one known place and the free list holds exactly the free ones.
    pub fn is_sound(&self) -> bool {
        let placed = self.free + self.fill + self.rx_app + self.tx_app + self.tx_ring + self.quarantined;
        placed == self.capacity && self.free_list == self.free && self.free_list_wrong == 0
    }
}

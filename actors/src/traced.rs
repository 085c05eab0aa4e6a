//! Journeys of sampled datagrams, as they travel with batches: none mostly, and then a batch carries an empty list.

use wirepath_trace::{Journey, Nanos, Stage};

/// The journeys of some items of a batch, by their place in it, in order.
#[derive(Debug, Default)]
pub struct Traced(Vec<(u32, Box<Journey>)>);

impl Traced {
    /// Whether none is sampled.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the journey of an item.
    pub fn push(&mut self, place: usize, journey: Box<Journey>) {
        let at = self.0.partition_point(|(other, _)| *other <= place as u32);
        self.0.insert(at, (place as u32, journey));
    }

    /// An item is put in at this place: those from there on move up.
    pub fn make_room(&mut self, place: usize) {
        let behind = self.0.partition_point(|(other, _)| *other < place as u32);
        self.0[behind..].iter_mut().for_each(|(other, _)| *other += 1);
    }

    /// Takes the journey of an item.
    pub fn take(&mut self, place: usize) -> Option<Box<Journey>> {
        let at = self.0.iter().position(|(other, _)| *other as usize == place)?;
        Some(self.0.remove(at).1)
    }

    /// Notes a hop of all of them.
    pub fn hop(&mut self, stage: Stage, actor: u64, begun: Nanos, done: Nanos, batch: usize) {
        for (_, journey) in &mut self.0 {
            journey.hop(stage, actor, begun, done, batch);
        }
    }

    /// Ends all of them.
    pub fn finish(&mut self, outcome: &'static str) {
        self.0.drain(..).for_each(|(_, journey)| journey.finish(outcome));
    }

    /// The journeys with their places.
    pub fn drain(&mut self) -> impl Iterator<Item = (usize, Box<Journey>)> + '_ {
        self.0.drain(..).map(|(place, journey)| (place as usize, journey))
    }
}

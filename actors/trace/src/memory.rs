//! What the memory of watching is divided into: all of it is fixed when a stack is made.

/// Memory for all that is kept of journeys, captures, timelines, figures and recordings, unless told otherwise.
pub const DEFAULT_MEMORY: usize = 32 << 20;

/// The parts of it, in bytes. What is left out falls to figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Journeys that wait to be read.
    pub ring: usize,
    /// Bytes of sampled datagrams that wait to be read, where they are kept.
    pub captured: usize,
    /// Journeys that were read.
    pub journeys: usize,
    /// Timelines of connections.
    pub timelines: usize,
    /// Figures of actors and connections: the last ones, and in the rest of it recordings.
    pub figures: usize,
}

impl MemoryPlan {
    /// Divides `total` bytes.
    pub fn of(total: usize, keeps_payloads: bool) -> Self {
        let eighth = total / 8;
        let captured = if keeps_payloads { eighth } else { 0 };
        let (ring, journeys, timelines) = (eighth, eighth, eighth);
        Self { ring, captured, journeys, timelines, figures: total - ring - captured - journeys - timelines }
    }

    /// What the last figures take at most: a fifth of their part is for recordings, whatever there is to see.
    pub fn last_figures(&self) -> usize {
        self.figures / 5 * 4
    }

    /// The whole.
    pub fn total(&self) -> usize {
        self.ring + self.captured + self.journeys + self.timelines + self.figures
    }
}

impl Default for MemoryPlan {
    fn default() -> Self {
        Self::of(DEFAULT_MEMORY, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_the_whole() {
        for (total, keeps) in
            [(DEFAULT_MEMORY, false), (DEFAULT_MEMORY, true), (1001, true), (7, false), (0, true)]
        {
            let plan = MemoryPlan::of(total, keeps);
            assert_eq!(plan.total(), total);
            assert_eq!(plan.captured > 0, keeps && total >= 8);
        }
    }
}

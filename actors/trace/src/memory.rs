//! What the memory of watching is divided into: all of it is fixed when a stack is made.

/// Memory for all that is kept of journeys, captures, timelines and recordings, unless told otherwise.
pub const DEFAULT_MEMORY: usize = 32 << 20;

/// The parts of it, in bytes. What is left out falls to recordings.
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
    /// Recordings, the bytes of captured datagrams in them included.
    pub recordings: usize,
}

impl MemoryPlan {
    /// Divides `total` bytes.
    pub fn of(total: usize, keeps_payloads: bool) -> Self {
        let eighth = total / 8;
        let captured = if keeps_payloads { eighth } else { 0 };
        let (ring, journeys, timelines) = (2 * eighth, eighth, eighth);
        Self {
            ring,
            captured,
            journeys,
            timelines,
            recordings: total - ring - captured - journeys - timelines,
        }
    }

    /// The whole.
    pub fn total(&self) -> usize {
        self.ring + self.captured + self.journeys + self.timelines + self.recordings
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

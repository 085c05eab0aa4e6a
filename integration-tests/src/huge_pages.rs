//! Huge pages of the machine, for a while.

/// Reserves huge pages, and gives them back when dropped.
#[derive(Debug)]
pub struct HugePages(String);

impl HugePages {
    const FILE: &str = "/proc/sys/vm/nr_hugepages";

    /// Reserves so many more; `None` if memory is too fragmented for all of them.
    pub fn reserve(pages: u64) -> Option<Self> {
        let before = std::fs::read_to_string(Self::FILE).ok()?;
        let wanted = before.trim().parse::<u64>().ok()? + pages;
        std::fs::write(Self::FILE, wanted.to_string()).ok()?;
        let reserved = Self(before);
        // The kernel reserves as many as it finds.
        let got: u64 = std::fs::read_to_string(Self::FILE).ok()?.trim().parse().ok()?;
        (got == wanted).then_some(reserved)
    }

    /// How many nobody uses.
    ///
    /// # Panics
    /// If the kernel does not tell.
    pub fn free() -> u64 {
        let told = std::fs::read_to_string("/proc/meminfo").expect("/proc/meminfo");
        let free = told.lines().find_map(|line| line.strip_prefix("HugePages_Free:")).expect("it is told");
        free.trim().parse().expect("a number")
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        let _ = std::fs::write(Self::FILE, self.0.trim());
    }
}

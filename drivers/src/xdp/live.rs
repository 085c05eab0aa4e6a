//! The tables in force, mapped into memory so that small changes need no system call.
#![allow(unsafe_code, reason = "memory shared with the XDP program")]

use std::{
    io,
    os::fd::OwnedFd,
    ptr::NonNull,
    sync::atomic::{AtomicU16, AtomicU32, Ordering},
};

use super::{
    sys,
    tables::{RuleAction, RuleTables},
};

/// Ports compared at once, since few differ.
const CHUNK: usize = 256;

/// One rule set in a map of its own, shared with the program.
pub(super) struct LiveTables {
    memory: NonNull<RuleTables>,
    /// What the memory holds, to compare with.
    shadow: Box<RuleTables>,
    /// Rules that ever stood in these tables: beyond them no packet on its way can hold an index.
    used: usize,
}

// SAFETY: the mapping is this value's own and belongs to no thread; the program only reads it.
unsafe impl Send for LiveTables {}

impl LiveTables {
    /// Puts the tables of `rules` rules into a new map, which is to be put in force.
    pub(super) fn new(tables: Box<RuleTables>, rules: usize) -> io::Result<(Self, OwnedFd)> {
        let fd = sys::create_mappable_value(size_of::<RuleTables>())?;
        // SAFETY: the map was just made for one value of this size.
        let memory = unsafe { sys::map_value::<RuleTables>(&fd) }?;
        // SAFETY: the mapping is one value, page-aligned, and no program sees the map yet.
        unsafe { memory.copy_from_nonoverlapping(NonNull::from(&*tables), 1) };
        Ok((Self { memory, shadow: tables, used: rules }, fd))
    }

    /// Brings the tables to `next`, of `rules` rules, by single stores, if that is possible without any packet
    /// seeing anything but the old verdict or the new one. Returns whether it was.
    ///
    /// A packet reads one port entry and then the action of the rule it names. So port entries may change one
    /// by one, and actions may appear behind those that were ever in use; anything else needs a swap.
    pub(super) fn patch(&mut self, next: &RuleTables, rules: usize) -> bool {
        let used = self.used;
        let known = used.min(rules);
        let same_rest = self.shadow.settings() == next.settings()
            && self.shadow.actions()[..known] == next.actions()[..known]
            && self.shadow.search_bytes() == next.search_bytes();
        if !same_rest {
            return false;
        }
        for at in used..rules {
            self.store_action(at, next.actions()[at]);
        }
        for (table, (old, new)) in self.shadow.ports().into_iter().zip(next.ports()).enumerate() {
            for (chunk, (old, new)) in old.chunks(CHUNK).zip(new.chunks(CHUNK)).enumerate() {
                if old == new {
                    continue;
                }
                for (at, (old, new)) in old.iter().zip(new).enumerate() {
                    if old != new {
                        self.store_port(table, chunk * CHUNK + at, *new);
                    }
                }
            }
        }
        self.used = used.max(rules);
        self.shadow.copy_ports_and_actions(next, used..rules.max(used));
        true
    }

    fn store_action(&self, at: usize, action: RuleAction) {
        // SAFETY: `at` is below the array's length, which indexing checks; the mapping lives as long as `self`
        // and is aligned. The program may read the two words meanwhile, hence atomics.
        let words = unsafe {
            let place = &raw mut (*self.memory.as_ptr()).action[at];
            (AtomicU32::from_ptr(&raw mut (*place).action), AtomicU32::from_ptr(&raw mut (*place).counter))
        };
        words.0.store(action.action, Ordering::Relaxed);
        words.1.store(action.counter, Ordering::Relaxed);
    }

    fn store_port(&self, table: usize, at: usize, rule: u16) {
        // SAFETY: as in `store_action`.
        let entry = unsafe {
            let tables = self.memory.as_ptr();
            AtomicU16::from_ptr(match table {
                0 => &raw mut (*tables).udp_port[at],
                1 => &raw mut (*tables).tcp_port[at],
                2 => &raw mut (*tables).tcp_control_port[at],
                _ => &raw mut (*tables).protocol[at],
            })
        };
        // Release: a packet that reads this entry sees the action it names.
        entry.store(rule, Ordering::Release);
    }
}

impl Drop for LiveTables {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`; no reference into it outlives a method.
        unsafe { sys::unmap_value(self.memory) };
    }
}

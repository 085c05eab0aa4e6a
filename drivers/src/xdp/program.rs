//! The program itself.

use std::{
    ffi::CString,
    fmt, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{ArrayOfMaps, DevMap, MapData, PerCpuArray, PerCpuValues, XskMap},
    programs::{ProgramError, ProgramFd, TestRun, TestRunOptions, Xdp},
    util::nr_cpus,
};
use parking_lot::Mutex;
use wirepath_wire::rules::{Rule, Rules, Verdict};

use super::{
    attach::{XdpAttachment, XdpMode, XdpOptions, attempts, explain},
    counters::CounterSlots,
    error::{from_os, not_loaded, translate},
    holder_of,
    link::XdpLink,
    live::LiveTables,
    tables::RuleTables,
    transmit::XdpTransmitter,
};
use crate::DriverError;

/// Compiled by `make bpf` and checked in, so that building needs no clang.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/wirepath_xdp.bpf.o");

const SINGLE_BUFFER: &str = "wirepath_xdp";
const MULTI_BUFFER: &str = "wirepath_frags";

/// Queues of an interface that may have XSKs.
const MAX_QUEUES: u32 = 256;

/// Processes that may share the program at a time, each with queues and rules of its own.
pub(crate) const MAX_OWNERS: u16 = 8;

/// Names of the program's own counters, in the order of its `enum event`.
pub(crate) const EVENTS: [&str; 4] = [
    "xdp_unparsed_passed",
    "xdp_foreign_vlan_passed",
    "xdp_foreign_address_passed",
    "xdp_unclaimed_queue_passed",
];

/// An XDP program with its rules, loaded and mostly attached to an interface. It leaves the interface when this
/// value is dropped or the process ends, in whatever way.
///
/// It starts without rules: everything passes to the kernel.
pub struct XdpProgram {
    attached: Option<(XdpLink, XdpAttachment)>,
    program: ProgramFd,
    test: Mutex<Ebpf>,
    name: &'static str,
    maps: Mutex<Maps>,
}

struct Maps {
    rule_sets: ArrayOfMaps<MapData>,
    sockets: XskMap<MapData>,
    hits: PerCpuArray<MapData, u64>,
    events: PerCpuArray<MapData, u64>,
    batches: ArrayOfMaps<MapData>,
    slots: CounterSlots,
    rules: Rules,
    live: Option<LiveTables>,
}

/// How long a packet takes the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedRun {
    /// What it decided.
    pub verdict: Verdict,
    /// The mean time of one run, as the kernel measured it.
    pub mean: Duration,
}

impl XdpProgram {
    /// Loads the program and attaches it to `interface`, in driver mode if that can be had.
    /// [`attachment`](Self::attachment) tells what was obtained and why.
    ///
    /// # Errors
    /// [`DriverError::NoInterface`], [`DriverError::MissingRights`], [`DriverError::ProgramPresent`] when
    /// another program sits there (it is left alone), or [`DriverError::Unsupported`].
    pub fn attach(interface: &str, options: impl Into<XdpOptions>) -> Result<Self, DriverError> {
        let ifindex = ifindex(interface)?;
        let mut reasons = Vec::new();
        let mut ebpf = load_object()?;
        for (mode, multi_buffer) in attempts(options.into()) {
            let name = if multi_buffer { MULTI_BUFFER } else { SINGLE_BUFFER };
            let program = load_program(&mut ebpf, name)?;
            match XdpLink::create(program.as_fd(), ifindex, mode) {
                Ok(link) => {
                    let attachment = XdpAttachment {
                        interface: interface.to_owned(),
                        ifindex,
                        mode,
                        multi_buffer,
                        reason: reasons.join("; "),
                    };
                    return Self::new(ebpf, program, name, Some((link, attachment)));
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EBUSY | libc::EEXIST) => {
                        return Err(DriverError::ProgramPresent {
                            interface: interface.to_owned(),
                            holder: holder_of(ifindex),
                        });
                    }
                    Some(number @ (libc::EPERM | libc::ENODEV)) => {
                        return Err(from_os("attaching an XDP program", number, &error.to_string()));
                    }
                    _ => reasons.push(explain(mode, multi_buffer, &error)),
                },
            }
        }
        Err(DriverError::Unsupported { what: "attaching an XDP program", why: reasons.join("; ") })
    }

    /// Loads the program without attaching it, to ask it about frames with [`test_run`](Self::test_run).
    ///
    /// # Errors
    /// [`DriverError::MissingRights`] or [`DriverError::Unsupported`].
    pub fn load(multi_buffer: bool) -> Result<Self, DriverError> {
        let mut ebpf = load_object()?;
        let name = if multi_buffer { MULTI_BUFFER } else { SINGLE_BUFFER };
        let program = load_program(&mut ebpf, name)?;
        Self::new(ebpf, program, name, None)
    }

    fn new(
        mut ebpf: Ebpf,
        program: ProgramFd,
        name: &'static str,
        attached: Option<(XdpLink, XdpAttachment)>,
    ) -> Result<Self, DriverError> {
        let mut take = |name: &'static str| {
            ebpf.take_map(name).ok_or_else(|| DriverError::Unsupported {
                what: "opening an XDP program's maps",
                why: format!("the object has no map {name:?}"),
            })
        };
        if let Some((_, attachment)) = &attached {
            let mut device: DevMap<MapData> = take("transmit_device")?.try_into().map_err(map_error)?;
            device.set(0, attachment.ifindex, None, 0).map_err(|error| DriverError::Unsupported {
                what: "sending through XDP",
                why: error.to_string(),
            })?;
        }
        let maps = Maps {
            batches: take("transmit_batches")?.try_into().map_err(map_error)?,
            rule_sets: take("rule_sets")?.try_into().map_err(map_error)?,
            sockets: take("sockets")?.try_into().map_err(map_error)?,
            hits: take("hits")?.try_into().map_err(map_error)?,
            events: take("events")?.try_into().map_err(map_error)?,
            slots: CounterSlots::default(),
            rules: Rules::default(),
            live: None,
        };
        Ok(Self { attached, program, test: Mutex::new(ebpf), name, maps: Mutex::new(maps) })
    }

    /// Where and how the program is attached; `None` if only loaded.
    pub fn attachment(&self) -> Option<&XdpAttachment> {
        self.attached.as_ref().map(|(_, attachment)| attachment)
    }

    /// Whether the program still sits on its interface: not once the interface was deleted or an administrator
    /// forced the program off.
    pub fn is_attached(&self) -> bool {
        self.attached.as_ref().is_some_and(|(link, _)| link.is_attached())
    }

    /// Gives a queue's packets to an AF_XDP socket, which must be bound to that queue and have an RX ring. The
    /// entry goes by itself when the socket closes.
    ///
    /// # Errors
    /// [`DriverError::Unsupported`] for a queue beyond the program's table or a socket of another kind.
    pub fn register_socket(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), DriverError> {
        self.register_socket_of(0, queue, socket)
    }

    /// The same for one of several [owners](MAX_OWNERS): rules of others pass what comes to this queue to the kernel.
    pub(crate) fn register_socket_of(
        &self,
        owner: u16,
        queue: u32,
        socket: BorrowedFd<'_>,
    ) -> Result<(), DriverError> {
        let place = place_of(owner, queue)?;
        self.maps.lock().sockets.set(place, socket.as_raw_fd(), 0).map_err(map_error)
    }

    /// Takes a queue's socket out: packets that rules redirect pass to the kernel again.
    ///
    /// # Errors
    /// [`DriverError::Unsupported`] for a queue beyond the program's table.
    pub fn unregister_socket(&self, queue: u32) -> Result<(), DriverError> {
        self.unregister_socket_of(0, queue)
    }

    /// The same for one of several owners.
    pub(crate) fn unregister_socket_of(&self, owner: u16, queue: u32) -> Result<(), DriverError> {
        let place = place_of(owner, queue)?;
        match self.maps.lock().sockets.unset(place).map_err(map_error) {
            Err(DriverError::Io { source, .. }) if source.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            result => result,
        }
    }

    /// A place to send packets of a queue from, past the TX ring; see [`XdpTransmitter`]. `None` for a program in SKB
    /// mode or for several buffers a packet. Takes the kernel 5 to 30 ms, as [`set_rules`](Self::set_rules) may.
    ///
    /// # Errors
    /// [`DriverError::Unsupported`] for a queue beyond the program's table, [`DriverError::Io`] when the kernel has no
    /// memory for it.
    pub fn transmitter(&self, queue: u32) -> Result<Option<XdpTransmitter>, DriverError> {
        let Some((program, map)) = self.transmitter_parts(queue)? else { return Ok(None) };
        XdpTransmitter::over(program, map.as_fd(), queue).map(Some).map_err(io_error)
    }

    /// What a [`transmitter`](Self::transmitter) is made of, for another process: this program, and the map of its batch.
    pub(crate) fn transmitter_parts(&self, queue: u32) -> Result<Option<(OwnedFd, OwnedFd)>, DriverError> {
        let fits = |it: &XdpAttachment| it.mode == XdpMode::Driver && !it.multi_buffer;
        if !self.attachment().is_some_and(fits) {
            return Ok(None);
        }
        let program = self.program.as_fd().try_clone_to_owned().map_err(io_error)?;
        let map = XdpTransmitter::make_map().map_err(io_error)?;
        let inner = MapData::from_fd(map.try_clone().map_err(io_error)?).map_err(map_error)?;
        self.maps.lock().batches.set(queue, &inner, 0).map_err(map_error)?;
        Ok(Some((program, map)))
    }

    /// Puts a rule list in force. Each packet is judged by the old list or the new one as a whole; when this
    /// returns, the old one is out of use. Rules that stay keep their count of hits.
    ///
    /// A change that only moves ports in or out of rules, or appends rules about ports and protocols, takes well
    /// under a millisecond. Any other is in force as soon, but this then waits until the kernel has seen every
    /// packet out that met the old list: 5 to 30 ms, so not on a thread that packets wait for.
    ///
    /// # Errors
    /// [`DriverError::Io`] when the kernel has no memory for the tables.
    pub fn set_rules(&self, rules: &Rules) -> Result<(), DriverError> {
        self.set_rules_of(&[], rules)
    }

    /// The same where rules have several owners: each rule's, in their order, or 0 where the list ends.
    pub(crate) fn set_rules_of(&self, owners: &[u16], rules: &Rules) -> Result<(), DriverError> {
        let mut maps = self.maps.lock();
        let next = maps.slots.assign(rules.as_slice());
        let cpus = nr_cpus().map_err(|(_, source)| io_error(source))?;
        for slot in &next.fresh {
            let zeros = PerCpuValues::try_from(vec![0; cpus]).map_err(io_error)?;
            maps.hits.set(*slot, zeros, 0).map_err(map_error)?;
        }
        let tables = RuleTables::compile(rules, &next.slots(), owners);
        let count = rules.as_slice().len();
        if !maps.live.as_mut().is_some_and(|live| live.patch(&tables, count)) {
            let (live, fd) = LiveTables::new(tables, count).map_err(io_error)?;
            let inner = MapData::from_fd(fd).map_err(map_error)?;
            maps.rule_sets.set(0, &inner, 0).map_err(map_error)?;
            maps.live = Some(live);
        }
        maps.slots.adopt(next);
        maps.rules = rules.clone();
        Ok(())
    }

    /// The rule list in force.
    pub fn rules(&self) -> Rules {
        self.maps.lock().rules.clone()
    }

    /// Packets each rule decided about, in the order of the rules.
    ///
    /// # Errors
    /// [`DriverError::Io`].
    pub fn hits(&self) -> Result<Vec<u64>, DriverError> {
        let maps = self.maps.lock();
        maps.slots.iter().map(|slot| sum(&maps.hits, slot)).collect()
    }

    /// The rules in force, each with the packets it decided about.
    ///
    /// # Errors
    /// [`DriverError::Io`].
    pub fn rule_hits(&self) -> Result<Vec<(Rule, u64)>, DriverError> {
        let maps = self.maps.lock();
        let rules = maps.rules.as_slice().iter().cloned();
        rules.zip(maps.slots.iter()).map(|(rule, slot)| Ok((rule, sum(&maps.hits, slot)?))).collect()
    }

    /// What the program passed to the kernel without a rule saying so, by cause.
    ///
    /// # Errors
    /// [`DriverError::Io`].
    pub fn events(&self) -> Result<Vec<(&'static str, u64)>, DriverError> {
        let maps = self.maps.lock();
        EVENTS.iter().zip(0..).map(|(name, at)| Ok((*name, sum(&maps.events, at)?))).collect()
    }

    /// Asks the program about a frame, as if it had arrived on queue 0. Hits count as if it had.
    ///
    /// # Errors
    /// [`DriverError::Unsupported`] for frames under 14 bytes, or longer than the program's buffers.
    pub fn test_run(&self, frame: &[u8]) -> Result<Verdict, DriverError> {
        self.timed_run(frame, 1).map(|run| run.verdict)
    }

    /// Asks the program about a frame `repeat` times over and tells how long one run took.
    ///
    /// # Errors
    /// As [`test_run`](Self::test_run).
    pub fn timed_run(&self, frame: &[u8], repeat: u32) -> Result<TimedRun, DriverError> {
        const WHAT: &str = "a test run of the XDP program";
        let mut ebpf = self.test.lock();
        let program = program_mut(&mut ebpf, self.name)?;
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
        let result = program.test_run(options).map_err(|error| translate(WHAT, &error))?;
        let verdict = match result.return_value {
            1 => Verdict::Drop,
            2 => Verdict::Pass,
            3 => Verdict::L2Forward,
            4 => Verdict::Redirect(0),
            other => {
                return Err(DriverError::Unsupported { what: WHAT, why: format!("it returned {other}") });
            }
        };
        Ok(TimedRun { verdict, mean: result.duration })
    }
}

impl AsFd for XdpProgram {
    /// The program's descriptor, for those who hand it to another process.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}

impl fmt::Debug for XdpProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("XdpProgram").field("attachment", &self.attachment()).finish_non_exhaustive()
    }
}

/// A queue's place among the sockets.
fn place_of(owner: u16, queue: u32) -> Result<u32, DriverError> {
    if owner < MAX_OWNERS && queue < MAX_QUEUES {
        return Ok(u32::from(owner) * MAX_QUEUES + queue);
    }
    let why = format!("the program knows the first {MAX_QUEUES}");
    Err(DriverError::Unsupported { what: "an XSK on this queue", why })
}

fn ifindex(interface: &str) -> Result<u32, DriverError> {
    let missing = || DriverError::NoInterface { name: interface.to_owned() };
    let name = CString::new(interface).map_err(|_| missing())?;
    index_of(&name).ok_or_else(missing)
}

#[allow(unsafe_code, reason = "if_nametoindex")]
fn index_of(name: &std::ffi::CStr) -> Option<u32> {
    // SAFETY: the pointer is to a string that ends in NUL and outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => None,
        index => Some(index),
    }
}

fn load_object() -> Result<Ebpf, DriverError> {
    // Nothing in the object depends on the kernel's types, so its BTF need not be read.
    EbpfLoader::new().btf(None).load(OBJECT).map_err(|error| not_loaded(&error))
}

fn program_mut<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Xdp, DriverError> {
    let missing = || DriverError::Unsupported {
        what: "loading an XDP program",
        why: format!("the object has no program {name:?}"),
    };
    ebpf.program_mut(name).ok_or_else(missing)?.try_into().map_err(|_| missing())
}

fn load_program(ebpf: &mut Ebpf, name: &'static str) -> Result<ProgramFd, DriverError> {
    let program = program_mut(ebpf, name)?;
    match program.load() {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => {}
        Err(error) => return Err(not_loaded(&error)),
    }
    let fd = program.fd().map_err(|error| not_loaded(&error))?;
    fd.try_clone().map_err(|error| not_loaded(&error))
}

fn sum(map: &PerCpuArray<MapData, u64>, at: u32) -> Result<u64, DriverError> {
    let values = map.get(&at, 0).map_err(map_error)?;
    Ok(values.iter().sum())
}

fn map_error(error: aya::maps::MapError) -> DriverError {
    translate("changing an XDP program's maps", &error)
}

fn io_error(source: io::Error) -> DriverError {
    DriverError::Io { what: "changing an XDP program's maps", source }
}

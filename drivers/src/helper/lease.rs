//! The helper's interfaces, and who has which of their queues.

use std::{
    fmt,
    ops::Range,
    os::fd::BorrowedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use wirepath_wire::rules::Rules;

use super::{
    peer::Peer,
    shares::{Share, merge},
};
use crate::{DriverError, XdpOptions, XdpProgram, xdp::MAX_OWNERS};

/// How long a new client waits for a former one to be cleaned up after: a process that was killed and started again
/// at once is not to find its own remains.
const FREE_WITHIN: Duration = Duration::from_secs(1);

/// One interface whose queues clients may lease.
pub(super) struct Place {
    pub(super) interface: String,
    /// The program stays on the interface without a lease, too.
    keep_attached: bool,
    log: fn(&str),
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    program: Option<Arc<XdpProgram>>,
    /// By owner, ascending: whose rules come first.
    shares: Vec<Share>,
}

/// One client's hold on some queues of an interface. Everything of its is as before when this is dropped.
pub(super) struct Lease {
    place: Arc<Place>,
    owner: u16,
    pub(super) queues: Range<u32>,
    /// There until this is dropped.
    program: Option<Arc<XdpProgram>>,
    /// Queues whose XSKs are in the map.
    registered: Vec<u32>,
}

impl Place {
    pub(super) fn new(interface: String, keep_attached: bool, log: fn(&str)) -> Self {
        Self { interface, keep_attached, log, state: Mutex::default(), freed: Condvar::new() }
    }

    /// Attaches the program, for nobody yet.
    pub(super) fn attach(&self, options: XdpOptions) -> Result<(), DriverError> {
        let program = XdpProgram::attach(&self.interface, options)?;
        self.state.lock().program = Some(Arc::new(program));
        Ok(())
    }

    /// Gives queues of the interface to a client, once former ones have left them.
    ///
    /// # Errors
    /// Who has them; or why the program can't be attached.
    pub(super) fn lease(
        self: &Arc<Self>,
        peer: &Peer,
        options: XdpOptions,
        queues: Range<u32>,
    ) -> Result<Lease, LeaseError> {
        let mut state = self.state.lock();
        let deadline = Instant::now() + FREE_WITHIN;
        while let Some(share) = state.shares.iter().find(|share| share.overlaps(&queues)) {
            if Instant::now() >= deadline {
                return Err(LeaseError::Taken(share.peer.clone(), share.queues.clone()));
            }
            let _ = self.freed.wait_until(&mut state, deadline);
        }
        let is_free = |owner: &u16| state.shares.iter().all(|share| share.owner != *owner);
        let owner = (0..MAX_OWNERS).find(is_free).ok_or(LeaseError::Full)?;
        let program = match &state.program {
            Some(program) if program.is_attached() => program.clone(),
            // Those who have it are about to be told.
            Some(_) if !state.shares.is_empty() => {
                return Err(DriverError::Gone("the XDP program was just taken off by force".into()).into());
            }
            // None yet, or one that somebody forced off.
            _ => Arc::new(XdpProgram::attach(&self.interface, options)?),
        };
        state.program = Some(program.clone());
        let share = Share { owner, peer: peer.clone(), queues: queues.clone(), rules: Rules::default() };
        let at = state.shares.partition_point(|other| other.owner < owner);
        state.shares.insert(at, share);
        Ok(Lease { place: self.clone(), owner, queues, program: Some(program), registered: Vec::new() })
    }
}

impl Lease {
    pub(super) fn program(&self) -> Result<&XdpProgram, DriverError> {
        self.program.as_deref().ok_or_else(|| DriverError::Gone("the lease is over".into()))
    }

    /// Has packets of a queue that the client's rules redirect come to its XSK.
    pub(super) fn register(&mut self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), DriverError> {
        self.program()?.register_socket_of(self.owner, queue, socket)?;
        if !self.registered.contains(&queue) {
            self.registered.push(queue);
        }
        Ok(())
    }

    /// Puts the client's rules in force, beside those of others.
    ///
    /// # Errors
    /// With whose rules they don't go together, and why.
    pub(super) fn set_rules(&self, rules: &Rules) -> Result<(), LeaseError> {
        let mut state = self.place.state.lock();
        let Some(at) = state.shares.iter().position(|share| share.owner == self.owner) else {
            return Err(DriverError::Gone("the lease is over".into()).into());
        };
        let former = std::mem::replace(&mut state.shares[at].rules, rules.clone());
        let outcome = merge(&state.shares, self.owner).map_err(LeaseError::Rules).and_then(|merged| {
            let (owners, rules) = merged;
            Ok(self.program()?.set_rules_of(&owners, &rules)?)
        });
        outcome.inspect_err(|_| state.shares[at].rules = former)
    }

    /// How often each of the client's rules decided.
    pub(super) fn hits(&self) -> Result<Vec<u64>, DriverError> {
        let state = self.place.state.lock();
        let before = state.shares.iter().take_while(|share| share.owner < self.owner);
        let before = before.map(|share| share.rules.as_slice().len()).sum();
        let own = state.shares.iter().find(|share| share.owner == self.owner);
        let own = own.map_or(0, |share| share.rules.as_slice().len());
        Ok(self.program()?.hits()?.into_iter().skip(before).take(own).collect())
    }

    fn take_back(&self, program: &XdpProgram, shares: &[Share]) {
        let log = self.place.log;
        for queue in &self.registered {
            if let Err(error) = program.unregister_socket_of(self.owner, *queue) {
                log(&format!("the XSK of queue {queue} could not be taken out of the map: {error}"));
            }
        }
        let outcome = match merge(shares, self.owner) {
            Ok((owners, rules)) => program.set_rules_of(&owners, &rules).map_err(|error| error.to_string()),
            Err(why) => Err(why),
        };
        if let Err(why) = outcome {
            log(&format!("rules could not be taken out of force: {why}"));
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(program) = self.program.take() else { return };
        let mut state = self.place.state.lock();
        state.shares.retain(|share| share.owner != self.owner);
        let stays = self.place.keep_attached || !state.shares.is_empty();
        if stays && program.is_attached() {
            self.take_back(&program, &state.shares);
        } else if state.shares.is_empty() {
            state.program = None;
        }
        // The last hold, unless it stays: it leaves the interface here, before anybody else may come.
        drop(program);
        self.place.freed.notify_all();
    }
}

/// Why there is no lease, or what it is asked for can't be.
#[derive(Debug)]
pub(super) enum LeaseError {
    /// Somebody else has these queues.
    Taken(Peer, Range<u32>),
    /// As many as there may be share the interface.
    Full,
    /// Rules that don't go together with others'.
    Rules(String),
    Driver(DriverError),
}

impl From<DriverError> for LeaseError {
    fn from(error: DriverError) -> Self {
        Self::Driver(error)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("interface", &self.interface).finish_non_exhaustive()
    }
}

//! The helper's interfaces, and who has them.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use wirepath_wire::rules::Rules;

use super::peer::Peer;
use crate::{DriverError, XdpOptions, XdpProgram};

/// How long a new client waits for a former one to be cleaned up after: a process that was killed and started again
/// at once is not to find its own remains.
const FREE_WITHIN: Duration = Duration::from_secs(1);

/// One interface that clients may lease.
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
    holder: Option<Peer>,
    program: Option<Arc<XdpProgram>>,
}

/// One client's hold on an interface. Everything is as before when this is dropped.
pub(super) struct Lease {
    place: Arc<Place>,
    /// There until this is dropped.
    program: Option<Arc<XdpProgram>>,
    /// Queues whose XSKs are in the map.
    queues: Vec<u32>,
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

    /// Gives the interface to a client, once the former one has left it.
    ///
    /// # Errors
    /// Who has it; or why the program can't be attached.
    pub(super) fn lease(self: &Arc<Self>, peer: &Peer, options: XdpOptions) -> Result<Lease, LeaseError> {
        let mut state = self.state.lock();
        let deadline = Instant::now() + FREE_WITHIN;
        while let Some(holder) = &state.holder {
            if Instant::now() >= deadline {
                return Err(LeaseError::Taken(holder.clone()));
            }
            let _ = self.freed.wait_until(&mut state, deadline);
        }
        let program = match &state.program {
            Some(program) if program.is_attached() => program.clone(),
            // None yet, or one that somebody forced off.
            _ => Arc::new(XdpProgram::attach(&self.interface, options)?),
        };
        state.program = Some(program.clone());
        state.holder = Some(peer.clone());
        Ok(Lease { place: self.clone(), program: Some(program), queues: Vec::new() })
    }
}

impl Lease {
    pub(super) fn program(&self) -> Result<&XdpProgram, DriverError> {
        self.program.as_deref().ok_or_else(|| DriverError::Gone("the lease is over".into()))
    }

    /// Notes a queue whose XSK was put in the map.
    pub(super) fn note(&mut self, queue: u32) {
        if !self.queues.contains(&queue) {
            self.queues.push(queue);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(program) = self.program.take() else { return };
        let mut state = self.place.state.lock();
        if self.place.keep_attached && program.is_attached() {
            for queue in &self.queues {
                if let Err(error) = program.unregister_socket(*queue) {
                    (self.place.log)(&format!(
                        "the XSK of queue {queue} could not be taken out of the map: {error}"
                    ));
                }
            }
            if let Err(error) = program.set_rules(&Rules::default()) {
                (self.place.log)(&format!("rules could not be taken out of force: {error}"));
            }
        } else {
            state.program = None;
        }
        // The last hold, unless it stays: it leaves the interface here, before anybody else may come.
        drop(program);
        state.holder = None;
        self.place.freed.notify_one();
    }
}

/// Why there is no lease.
#[derive(Debug)]
pub(super) enum LeaseError {
    /// Somebody else has the interface.
    Taken(Peer),
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

//! Which connections have a log, and where it goes.

use std::fmt;
use std::sync::Arc;

use super::Sink;
use crate::cid::Cid;
use crate::role::Role;

type Open = dyn Fn(Role, &Cid) -> Option<Box<dyn Sink>> + Send + Sync;

/// Opens the logs of connections: asked for each as it begins, with the end that it is and the destination of the client's
/// first Initial packet, by which both ends' logs of a connection are found. Clones open the same logs.
#[derive(Clone)]
pub struct Logs(Arc<Open>);

impl Logs {
    /// Logs go where `open` says; `None` means that a connection has none.
    pub fn new(open: impl Fn(Role, &Cid) -> Option<Box<dyn Sink>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(open))
    }

    pub(crate) fn open(&self, role: Role, original_dcid: &Cid) -> Option<Box<dyn Sink>> {
        (self.0)(role, original_dcid)
    }
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Logs")
    }
}

impl PartialEq for Logs {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

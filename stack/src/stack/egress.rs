//! Which device a new connection sends through.

use std::{net::IpAddr, sync::Arc};

use wirepath_actors::{egress::Egress, nic::NicState, tables::Socket};
use wirepath_drivers::DriverError;

use super::Inner;
use crate::Error;

impl Inner {
    /// The XSK when the route leaves by its interface for another machine; the operating system's socket for
    /// local destinations, other interfaces, and when there is no XSK (any more).
    pub(super) fn egress(
        &self,
        queue: usize,
        socket: &Arc<Socket>,
        local: IpAddr,
        remote: IpAddr,
    ) -> Result<Arc<Egress>, Error> {
        let by_interface =
            |it: &&Arc<NicState>| it.has_address(local) && !it.has_address(remote) && !remote.is_loopback();
        let interface = self.interface.as_ref().filter(by_interface);
        let xsk = interface.and_then(|it| it.queue(queue)).and_then(|queue| queue.egress());
        if !socket.claim.carriers.udp {
            // It may be the interface that is missing.
            let why = self.interface.as_ref().and_then(|it| it.trouble());
            let why = why.unwrap_or_else(|| format!("{remote} is not reached through the stack's interface"));
            let unsupported = DriverError::Unsupported { what: "QTIP to this address", why };
            return xsk.and_then(|xsk| xsk.qtip().cloned()).ok_or_else(|| unsupported.into());
        }
        xsk.or_else(|| socket.os.get().cloned()).ok_or(Error::Closed)
    }
}

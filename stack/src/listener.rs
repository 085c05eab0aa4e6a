//! A listener, as applications hold it.

use std::{future::Future, net::SocketAddr, sync::Arc};

use wirepath_actors::listener::AcceptSink;

use crate::{
    Connection,
    stack::{Inner, Shared},
};

/// Listens on a local address. Dropping it stops listening; its connections go on, and the port is
/// free when the last of them has ended.
#[derive(Debug)]
pub struct Listener {
    shared: Arc<Shared>,
    accept: Arc<AcceptSink>,
    stack: Arc<Inner>,
}

impl Listener {
    pub(crate) fn new(shared: Arc<Shared>, accept: Arc<AcceptSink>, stack: Arc<Inner>) -> Self {
        Self { shared, accept, stack }
    }

    /// Takes the next connection whose handshake is complete; `None` once the stack is closed. Cancelling it
    /// loses none.
    pub async fn accept(&self) -> Option<Connection> {
        self.accept.queue().pop().await.map(Connection::new)
    }

    /// Runs `handler` for each connection, on the connection's own partition. From now on
    /// [`accept`](Self::accept) brings nothing.
    pub fn serve<H, F>(&self, handler: H)
    where
        H: Fn(Connection) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        self.accept.set_handler(Arc::new(move |link| {
            // Called on the connection's partition.
            tokio::spawn(handler(Connection::new(link)));
        }));
    }

    /// The address it listens on, with the port the system chose if it was asked to.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.socket.claim.local
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.accept.queue().close();
        self.stack.unlisten(&self.shared, &self.accept);
    }
}

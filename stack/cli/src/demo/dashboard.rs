//! The dashboards of the demo: the stacks are in network namespaces, the browser is not.

use std::{
    fs::File,
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    thread,
};

use nix::sched::{CloneFlags, setns};

/// Where a demo's process serves its dashboard.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Place {
    #[arg(long)]
    dashboard: Option<SocketAddr>,
    /// The network namespace that address is in.
    #[arg(long)]
    dashboard_net: Option<PathBuf>,
    /// It may hand out packets' bytes, keys and logs.
    #[arg(long)]
    pub(super) lay_open: bool,
}

impl Place {
    /// The socket to serve on; a free port if the one asked for is in use. `None`: no dashboard.
    ///
    /// # Errors
    /// The namespace can't be entered, or its loopback device has no room for a socket.
    pub(super) fn listen(&self) -> io::Result<Option<Arc<TcpListener>>> {
        let Some(addr) = self.dashboard else { return Ok(None) };
        let namespace = self.dashboard_net.as_ref().map(File::open).transpose()?;
        // A socket stays in the namespace it was made in, and only this thread goes there.
        let listener = thread::spawn(move || {
            if let Some(namespace) = namespace {
                setns(namespace, CloneFlags::CLONE_NEWNET)?;
            }
            TcpListener::bind(addr).or_else(|_| TcpListener::bind(SocketAddr::new(addr.ip(), 0)))
        });
        let listener = listener.join().map_err(|_| io::Error::other("the thread that binds it panicked"))?;
        listener.map(|it| Some(Arc::new(it)))
    }
}

//! Our own stack on both ends: a server that sends as much as it is asked for, and clients that ask.

use std::{net::SocketAddr, time::Duration};

use tokio::sync::oneshot;
use wirepath::{ClientConfig, Connection, Listener, ServerConfig, Stack, StackBuilder};

use crate::{
    cert::{ALPN, Identity, SERVER_NAME},
    fetch::{self, answer},
    netns::{Namespace, Task},
    world::INTERFACE,
};

/// Time that anything here takes at most.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A stack on [`INTERFACE`], over AF_XDP or not at all.
pub fn xdp() -> StackBuilder {
    xdp_on(INTERFACE)
}

/// A stack on another interface, over AF_XDP or not at all.
pub fn xdp_on(interface: &str) -> StackBuilder {
    Stack::builder().interface(interface).require_xdp(true)
}

/// Settings of a server with the usual name and protocol.
pub fn server_config(identity: &Identity) -> ServerConfig {
    let config = ServerConfig::new(identity.certificate.as_bytes(), identity.key.as_bytes());
    config.expect("a good certificate").alpn([ALPN])
}

/// Settings of a client that trusts it.
pub fn client_config(identity: &Identity) -> ClientConfig {
    ClientConfig::new(identity.certificate.as_bytes()).expect("a good certificate").alpn([ALPN])
}

/// A server in a namespace of its own thread. Ends when dropped.
#[derive(Debug)]
pub struct Server {
    /// Its stack.
    pub stack: Stack,
    stop: Option<oneshot::Sender<()>>,
    task: Option<Task<()>>,
}

impl Server {
    /// Answers each stream with as many bytes of the pattern as its first eight bytes say, at all these addresses.
    ///
    /// # Panics
    /// If it can't listen.
    pub fn start(
        namespace: &Namespace,
        builder: StackBuilder,
        at: impl IntoIterator<Item = (SocketAddr, ServerConfig)>,
    ) -> Self {
        Self::start_after(|| {}, namespace, builder, at)
    }

    /// The same, once its thread has been made ready.
    ///
    /// # Panics
    /// If it can't listen.
    pub fn start_after(
        ready: impl FnOnce() + Send + 'static,
        namespace: &Namespace,
        builder: StackBuilder,
        at: impl IntoIterator<Item = (SocketAddr, ServerConfig)>,
    ) -> Self {
        let at: Vec<_> = at.into_iter().collect();
        let (stop, stopped) = oneshot::channel::<()>();
        let (started, stack) = std::sync::mpsc::channel();
        let task = namespace.runtime(async move || {
            ready();
            let stack = builder.build().await.expect("a stack");
            let mut listeners: Vec<Listener> = Vec::new();
            for (at, config) in at {
                let listener = stack.listen(at, config).await.expect("a listener");
                listener.serve(answer);
                listeners.push(listener);
            }
            started.send(stack.clone()).expect("the starter waits");
            let _ = stopped.await;
            drop(listeners);
            stack.close().await;
        });
        let stack = stack.recv_timeout(DEADLINE).expect("it listens");
        Self { stack, stop: Some(stop), task: Some(task) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(task) = self.task.take().filter(|_| !std::thread::panicking()) {
            task.join(DEADLINE);
        }
    }
}

/// Asks for bytes on a stream of their own, and checks them.
///
/// # Panics
/// If they are others, or the connection fails.
pub async fn fetch(connection: &Connection, count: u64) {
    fetch::fetch(connection, count, || {}).await;
}

/// Connects with the usual name.
///
/// # Errors
/// As [`Stack::connect`].
pub async fn connect(
    stack: &Stack,
    to: SocketAddr,
    config: ClientConfig,
) -> Result<Connection, wirepath::Error> {
    stack.connect(to, SERVER_NAME, config).await
}

/// Takes off, by force, all XDP programs that this process has attached. Needs `bpftool`.
///
/// # Panics
/// If that fails.
pub fn take_programs_off(namespace: &Namespace) {
    for entry in std::fs::read_dir("/proc/self/fdinfo").unwrap().flatten() {
        // Closed since it was listed.
        let Ok(told) = std::fs::read_to_string(entry.path()) else { continue };
        let field = |name: &str| told.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if let (Some("xdp"), Some(id)) = (field("link_type:"), field("link_id:")) {
            namespace.command("bpftool", &["link", "detach", "id", id]).unwrap();
        }
    }
}

//! The HTTP server, on a thread and a runtime of its own.

mod guard;
mod routes;
mod stream;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
    time::Duration,
};

use parking_lot::RwLock;
use tokio::sync::{oneshot, watch};

pub use guard::Token;
pub(crate) use stream::Frame;

use wirepath_trace::MemoryPlan;

use crate::{
    model::{Model, TICK},
    reading::Source,
};

/// A reading is followed by at least so many times its own length: a twentieth of a core.
const RESTS: u32 = 20;
/// But there is one this often: pages tell the age of what they show.
const SLOWEST_TICK: Duration = Duration::from_secs(1);

/// How a dashboard is served.
#[derive(Debug, Default)]
pub struct Options {
    /// What requests must carry. Without one only loopback addresses are served.
    pub token: Option<Token>,
    /// Names in `Host` headers that are ours, besides the address itself and `localhost`.
    pub hosts: Vec<String>,
    /// What may be kept; the ring and the captured bytes are the tracer's.
    pub memory: MemoryPlan,
}

/// What requests share.
pub(crate) struct Shared {
    model: RwLock<Model>,
    frames: watch::Sender<Arc<Frame>>,
    guard: guard::Guard,
}

/// A dashboard being served, until this is dropped. Its end touches nothing else.
#[derive(Debug)]
pub struct Dashboard {
    addr: SocketAddr,
    url: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Dashboard {
    /// Binds an address and serves there.
    ///
    /// # Errors
    /// The address is in use, or not a loopback address and there is no token.
    pub fn bind(addr: SocketAddr, options: Options, source: Arc<dyn Source>) -> io::Result<Self> {
        Self::serve(TcpListener::bind(addr)?, options, source)
    }

    /// Serves a socket that listens already: one of another network namespace, say.
    ///
    /// # Errors
    /// It does not listen on a loopback address and there is no token; or there is no thread to be had.
    pub fn serve(listener: TcpListener, options: Options, source: Arc<dyn Source>) -> io::Result<Self> {
        let addr = listener.local_addr()?;
        if !addr.ip().is_loopback() && options.token.is_none() {
            let why = format!("{addr} is not a loopback address: serving it there needs a token");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        listener.set_nonblocking(true)?;
        let url = match &options.token {
            None => format!("http://{addr}/"),
            Some(token) => format!("http://{addr}/?token={}", token.reveal()),
        };
        let shared = Arc::new(Shared {
            model: RwLock::new(Model::new(source, options.memory)),
            frames: watch::channel(Arc::default()).0,
            guard: guard::Guard::new(addr, options),
        });
        // The first answers are there before the first question.
        shared.tick();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name("wirepath-dashboard".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    // Ends when told so, or when the dashboard's handle goes.
                    _ = stopped => {}
                    () = run(listener, shared) => {}
                }
            });
        })?;
        Ok(Self { addr, url, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it is served.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// What to open in a browser: the address, and the token if there is one.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            // A panic of the server has been told by the panic hook, and concerns nobody else.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Takes a reading and publishes it. Never waits for a viewer.
    fn tick(&self) -> bool {
        let mut model = self.model.write();
        model.viewers = self.frames.receiver_count() as u64;
        if !model.tick() {
            return false;
        }
        if model.viewers > 0 || self.frames.borrow().seq == 0 {
            let frame = model.live(|view| view.live()).map(|(t_ns, live)| (t_ns, serde_json::to_value(live)));
            drop(model);
            if let Some((t_ns, Ok(data))) = frame {
                let seq = self.frames.borrow().seq + 1;
                self.frames.send_replace(Arc::new(Frame { seq, t_ns, data }));
            }
        }
        true
    }
}

/// How long to rest after a reading that took so long: with many thousands of connections readings are rarer, rather than
/// that reading them takes a larger share of a core.
fn rest_after(took: Duration) -> Duration {
    (took * RESTS).clamp(TICK, SLOWEST_TICK).saturating_sub(took)
}

async fn run(listener: TcpListener, shared: Arc<Shared>) {
    let ticking = shared.clone();
    let ticker = tokio::spawn(async move {
        let mut rest = TICK;
        loop {
            tokio::time::sleep(rest).await;
            let begun = std::time::Instant::now();
            if !ticking.tick() {
                return;
            }
            rest = rest_after(begun.elapsed());
        }
    });
    match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => {
            if let Err(error) = axum::serve(listener, routes::router(shared)).await {
                tracing::warn!(%error, "the dashboard's server ended");
            }
        }
        Err(error) => tracing::warn!(%error, "the dashboard's socket can't be served"),
    }
    ticker.abort();
}

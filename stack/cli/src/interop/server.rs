//! The server.

use std::{
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use perf_protocol::Result;
use tokio::signal::unix::{SignalKind, signal};
use wirepath::{
    Connection, EarlyData, Listener, RetryPolicy, Role, ServerConfig, Stack, Stats, TransportConfig,
    VERSION_1, VERSION_2, tls::CipherSuite,
};

use super::{Case, ECHO, HQ, ServerOptions, echo, hq, resolve, stack, transport};
use crate::{identity::Identity, net::local_addresses};

/// How long a server that is told to end waits for what its clients said last, and how often it looks.
const SETTLE_WITHIN: Duration = Duration::from_millis(500);
const SETTLE_STEP: Duration = Duration::from_millis(5);

/// Serves until it is told to end.
pub(super) async fn serve(case: Case, options: ServerOptions) -> Result<()> {
    if let Some(unknown) = options.alpn.iter().find(|name| ![HQ, ECHO].contains(&name.as_str())) {
        return Err(format!("the application protocol {unknown:?} is not spoken here").into());
    }
    let mut ends = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
    let stack = stack(options.xdp.as_ref(), options.helper.as_ref()).await?;
    let listener = listen(&stack, case, &options).await?;
    let root = Arc::new(options.root);
    let seen = Arc::new(Seen::default());
    let told = seen.clone();
    listener.serve(move |connection| {
        let (root, seen) = (root.clone(), told.clone());
        async move {
            seen.running.fetch_add(1, Ordering::Relaxed);
            let (agreed, ()) = tokio::join!(connection.established(), handle(connection.clone(), root));
            // With early data it may be over with the very packets that complete its handshake.
            let resumed = connection.early_data() == EarlyData::Accepted
                || agreed.is_ok_and(|agreed| agreed.outcome.resumed);
            seen.note(case, &connection.stats(), resumed);
            seen.running.fetch_sub(1, Ordering::Relaxed);
        }
    });
    println!("listening on {}, data path {}", listener.local_addr(), stack.status());
    let [interrupt, terminate] = &mut ends;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    seen.settle().await;
    drop(listener);
    stack.close().await;
    match seen.missed(case) {
        Some(what) => Err(what.into()),
        None => Ok(()),
    }
}

/// What connections at their ends showed of the case.
#[derive(Default)]
struct Seen {
    missed: OnceLock<&'static str>,
    running: AtomicUsize,
    /// Set once there was one: whether any continued a session.
    continued: OnceLock<AtomicBool>,
}

impl Seen {
    /// Waits for connections whose clients are done, as far as they have said so.
    async fn settle(&self) {
        let end = tokio::time::Instant::now() + SETTLE_WITHIN;
        while self.running.load(Ordering::Relaxed) > 0 && tokio::time::Instant::now() < end {
            tokio::time::sleep(SETTLE_STEP).await;
        }
    }

    fn note(&self, case: Case, stats: &Stats, resumed: bool) {
        if let Some(what) = case.missed(Role::Server, stats) {
            let _ = self.missed.set(what);
        }
        self.continued.get_or_init(AtomicBool::default).fetch_or(resumed, Ordering::Relaxed);
    }

    fn missed(&self, case: Case) -> Option<&'static str> {
        let continued = self.continued.get().is_none_or(|any| any.load(Ordering::Relaxed));
        let wanted = matches!(case, Case::Resumption | Case::ZeroRtt);
        let all_new = (wanted && !continued).then_some("no connection continued the session of another");
        self.missed.get().copied().or(all_new)
    }
}

async fn handle(connection: Connection, root: Arc<std::path::PathBuf>) {
    if connection.alpn() == ECHO.as_bytes() {
        echo::serve(connection).await;
    } else {
        hq::serve(connection, root).await;
    }
}

async fn listen(stack: &Stack, case: Case, options: &ServerOptions) -> Result<Listener> {
    let identity = Identity::read(&options.cert, &options.key)?;
    let address = resolve(&options.listen)?;
    let transport = match case {
        Case::ConnectionMigration => prefer_another_port(transport()?, address)?,
        Case::V2 => transport()?.versions(vec![VERSION_2, VERSION_1]),
        _ => transport()?,
    };
    let config = ServerConfig::new(identity.certificate_pem.as_bytes(), identity.key_pem.as_bytes())?;
    let config = match case {
        Case::ChaCha20 => config.cipher_suites(&[CipherSuite::ChaCha20Poly1305])?,
        Case::ZeroRtt => config.early_data(true)?,
        _ => config,
    };
    let retry = if case == Case::Retry { RetryPolicy::Always } else { RetryPolicy::Never };
    let config = config.retry(retry).alpn(&options.alpn).key_log_from_env().transport(transport);
    match stack.listen(address, config.clone()).await {
        // A host without IPv6 has no such wildcard address.
        Err(error) if options.listen.starts_with("[::]:") => {
            let fallback = SocketAddr::new(IpAddr::from([0, 0, 0, 0]), address.port());
            stack.listen(fallback, config).await.map_err(|_| error.into())
        }
        outcome => Ok(outcome?),
    }
}

/// Names another port of the same host as the preferred address.
fn prefer_another_port(transport: TransportConfig, address: SocketAddr) -> Result<TransportConfig> {
    let hosts = match address.ip() {
        ip if ip.is_unspecified() => local_addresses()?,
        ip => vec![ip],
    };
    let v4 = hosts.iter().find_map(|ip| match ip {
        IpAddr::V4(ip) => Some(*ip),
        IpAddr::V6(_) => None,
    });
    let v6 = hosts.iter().find_map(|ip| match ip {
        IpAddr::V6(ip) => Some(*ip),
        IpAddr::V4(_) => None,
    });
    let v4 =
        v4.map(|ip| Ok::<_, std::io::Error>(SocketAddrV4::new(ip, free_port(ip.into(), address.port())?)));
    let v6 = v6.map(|ip| {
        Ok::<_, std::io::Error>(SocketAddrV6::new(ip, free_port(ip.into(), address.port())?, 0, 0))
    });
    Ok(transport.preferred_address_v4(v4.transpose()?).preferred_address_v6(v6.transpose()?))
}

/// The port after the given one, or any that is free.
fn free_port(ip: IpAddr, port: u16) -> std::io::Result<u16> {
    let next = port.checked_add(1).filter(|_| port != 0).unwrap_or(0);
    let socket = UdpSocket::bind((ip, next)).or_else(|_| UdpSocket::bind((ip, 0)))?;
    Ok(socket.local_addr()?.port())
}

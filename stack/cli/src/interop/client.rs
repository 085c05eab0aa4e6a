//! The client.

use std::{collections::HashSet, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use perf_protocol::Result;
use tokio::task::JoinSet;
use wirepath::{
    ClientConfig, Connecting, Connection, EarlyData, Role, Stack, TransportConfig, VERSION_1, VERSION_2,
    VarInt,
};

use super::{
    Case, ClientOptions, ECHO, HQ, echo, hq, probe, resolve, stack, transport,
    trust::{Tickets, client_tls},
};
use crate::identity::SERVER_NAME;

/// The port of URLs without one.
const DEFAULT_PORT: u16 = 443;

/// Flow control windows that have to grow for a file of a megabyte, in bytes.
const SMALL_STREAM_WINDOW: u64 = 64 * 1024;
const SMALL_CONNECTION_WINDOW: u64 = 96 * 1024;

/// How long a server may take to send a session ticket once a file has come.
const TICKET_WITHIN: Duration = Duration::from_secs(5);

/// How long the server's preferred address may take to answer before the client moves by itself.
const PREFERRED_WITHIN: Duration = Duration::from_secs(1);

/// Connections made at the same time, where each file has its own: enough that one with bad luck does not hold up all,
/// and few enough for any server.
const CONNECTIONS_AT_ONCE: usize = 4;

/// What a client does, and with whom.
struct Client {
    case: Case,
    stack: Stack,
    server: SocketAddr,
    name: String,
    config: ClientConfig,
    tickets: Arc<Tickets>,
    paths: Vec<String>,
    job: Job,
}

/// What is done about a path.
#[derive(Clone)]
struct Job {
    case: Case,
    echo: bool,
    out: Arc<PathBuf>,
}

/// Plays a case; done when all that was asked for has come.
pub(super) async fn play(case: Case, options: ClientOptions) -> Result<()> {
    let mut client = Client::new(case, options).await?;
    let stack = client.stack.clone();
    // On the partition, next to the connections: what is asked for early is there before the server has answered.
    let played = stack
        .spawn(0, async move {
            let outcome = client.play().await;
            drop(client);
            outcome.map_err(|error| error.to_string())
        })
        .await;
    stack.close().await;
    Ok(played??)
}

impl Client {
    async fn new(case: Case, options: ClientOptions) -> Result<Self> {
        if ![HQ, ECHO].contains(&options.alpn.as_str()) {
            return Err(format!("the application protocol {:?} is not spoken here", options.alpn).into());
        }
        let targets: Vec<_> = options.paths.iter().map(|path| target(path)).collect();
        let authority = options.connect.clone().or_else(|| targets.iter().find_map(|(host, _)| host.clone()));
        let authority = authority.ok_or("whom to connect to? Give --connect, or a URL")?;
        let server = resolve(&authority).or_else(|error| match authority.contains(':') {
            true => Err(error),
            false => resolve(&format!("{authority}:{DEFAULT_PORT}")),
        })?;
        let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
        let host = host.trim_matches(|c| "[]".contains(c));
        let any_name = options.server_name.is_none();
        let name = options.server_name.unwrap_or_else(|| match host.parse::<std::net::IpAddr>() {
            Ok(_) => SERVER_NAME.into(),
            Err(_) => host.into(),
        });
        let tickets = Arc::new(Tickets::default());
        let tls = client_tls(&options.ca, any_name, case, tickets.clone())?;
        let config = ClientConfig::with_tls(tls.alpn([&options.alpn]))
            .key_log_from_env()
            .early_data(case == Case::ZeroRtt)
            .transport(client_transport(case)?);
        let paths = targets.into_iter().map(|(_, path)| path).filter(|path| !path.is_empty()).collect();
        let stack = stack(options.xdp.as_ref(), options.helper.as_ref()).await?;
        std::fs::create_dir_all(&options.out)
            .map_err(|error| format!("{}: {error}", options.out.display()))?;
        let job = Job { case, echo: options.alpn == ECHO, out: Arc::new(options.out) };
        Ok(Self { case, stack, server, name, config, tickets, paths, job })
    }

    async fn play(&mut self) -> Result<()> {
        match self.case {
            Case::MultiConnect => self.one_by_one().await,
            Case::Resumption | Case::ZeroRtt => self.come_back().await,
            Case::VersionNegotiation => self.negotiate().await,
            _ => {
                let connection = self.connect().await?;
                self.use_connection(&connection).await?;
                if let Some(missed) = self.case.missed(Role::Client, &connection.stats()) {
                    return Err(missed.into());
                }
                connection.close(VarInt::from_u8(0), b"");
                Ok(())
            }
        }
    }

    async fn connect(&self) -> Result<Connection> {
        Ok(self.stack.connect(self.server, &self.name, self.config.clone()).await?)
    }

    /// Does what the case is about on a new connection, and fetches everything.
    async fn use_connection(&self, connection: &Connection) -> Result<()> {
        let agreed = connection.established().await?;
        match self.case {
            Case::V2 if agreed.version != VERSION_2 => {
                return Err("the server did not go over to version 2".into());
            }
            Case::Retry if !agreed.outcome.retried => return Err("the server sent no Retry".into()),
            Case::KeyUpdate => connection.update_keys().await?,
            Case::ConnectionMigration => relocate(connection, self.server).await?,
            _ => {}
        }
        self.fetch(connection, &self.paths).await
    }

    /// A connection for each file.
    async fn one_by_one(&self) -> Result<()> {
        let mut running = JoinSet::new();
        for path in &self.paths {
            if running.len() >= CONNECTIONS_AT_ONCE {
                finish_one(&mut running).await?;
            }
            let (stack, server, name) = (self.stack.clone(), self.server, self.name.clone());
            // A memory of its own: each handshake is a whole one.
            let (config, job, path) = (self.config.clone().resumption(false), self.job.clone(), path.clone());
            running.spawn(async move {
                let connection =
                    stack.connect(server, &name, config).await.map_err(|error| format!("{path}: {error}"))?;
                job.fetch(&connection, &path).await?;
                connection.close(VarInt::from_u8(0), b"");
                Ok(())
            });
        }
        while !running.is_empty() {
            finish_one(&mut running).await?;
        }
        Ok(())
    }

    /// A first connection for the first file, and a second one that continues its session for the others.
    async fn come_back(&self) -> Result<()> {
        let (first, rest) = match &self.paths[..] {
            [] => return Err("this case needs something to fetch".into()),
            [only] => (only, &self.paths[..]),
            [first, rest @ ..] => (first, rest),
        };
        let connection = self.connect().await?;
        self.fetch(&connection, std::slice::from_ref(first)).await?;
        let ticket = tokio::time::timeout(TICKET_WITHIN, self.tickets.next()).await;
        ticket.map_err(|_| "the server sent no session ticket")?;
        connection.close(VarInt::from_u8(0), b"");
        drop(connection);
        let connecting = self.stack.start_connecting(self.server, &self.name, self.config.clone()).await?;
        let connection = match self.case {
            Case::ZeroRtt => self.fetch_early(connecting, rest).await?,
            _ => {
                let connection = connecting.established().await?;
                self.fetch(&connection, rest).await?;
                connection
            }
        };
        if !connection.established().await?.outcome.resumed {
            return Err("the server did not continue the session".into());
        }
        connection.close(VarInt::from_u8(0), b"");
        Ok(())
    }

    async fn fetch_early(&self, connecting: Connecting, paths: &[String]) -> Result<Connection> {
        let early = connecting.early().ok_or("the server's session ticket allows no early data")?.clone();
        let (fetched, connection) = tokio::join!(self.fetch(&early, paths), connecting.established());
        let connection = connection?;
        fetched?;
        match connection.early_data() {
            EarlyData::Accepted => Ok(connection),
            other => Err(format!("early data was not accepted: {other:?}").into()),
        }
    }

    /// Offers a version that does not exist, and goes on with one that the server names.
    async fn negotiate(&self) -> Result<()> {
        let server = self.server;
        let versions = tokio::task::spawn_blocking(move || probe::negotiate(server)).await??;
        let known = [VERSION_1, VERSION_2].into_iter().find(|known| versions.contains(known));
        let version =
            known.ok_or_else(|| format!("the server speaks none of our versions, but {versions:x?}"))?;
        if self.paths.is_empty() {
            return Ok(());
        }
        let config = self.config.clone().transport(transport()?.versions(vec![version]));
        let connection = self.stack.connect(server, &self.name, config).await?;
        self.fetch(&connection, &self.paths).await?;
        connection.close(VarInt::from_u8(0), b"");
        Ok(())
    }

    /// Fetches all of these at the same time, as far as the server's limits go.
    async fn fetch(&self, connection: &Connection, paths: &[String]) -> Result<()> {
        let mut running = JoinSet::new();
        // The same twice is one file.
        let mut seen = HashSet::new();
        for path in paths.iter().filter(|path| seen.insert(path.as_str())) {
            let (connection, job, path) = (connection.clone(), self.job.clone(), path.clone());
            running.spawn(async move { job.fetch(&connection, &path).await });
        }
        while !running.is_empty() {
            finish_one(&mut running).await?;
        }
        Ok(())
    }
}

impl Job {
    async fn fetch(&self, connection: &Connection, path: &str) -> std::result::Result<(), String> {
        let done = match (self.echo, self.case) {
            (true, Case::Datagram) => echo::by_datagram(connection, path, &self.out).await,
            (true, _) => echo::by_stream(connection, path, &self.out).await,
            (false, _) => match hq::ask(connection, path).await {
                Ok(answer) => hq::store(answer, path, &self.out).await,
                Err(error) => Err(error),
            },
        };
        done.map_err(|error| error.to_string())
    }
}

async fn finish_one(running: &mut JoinSet<std::result::Result<(), String>>) -> Result<()> {
    match running.join_next().await {
        Some(done) => Ok(done??),
        None => Ok(()),
    }
}

/// Waits until the connection has gone over to the server's preferred address; without one it moves to another port of
/// this host.
async fn relocate(connection: &Connection, server: SocketAddr) -> Result<()> {
    connection.confirmed().await?;
    let before = (connection.local_addr(), connection.remote_addr());
    if before.1 != server {
        return Ok(());
    }
    match tokio::time::timeout(PREFERRED_WITHIN, connection.path_changed(before)).await {
        Ok(changed) => drop(changed?),
        Err(_) => {
            let any = SocketAddr::new(before.0.ip(), 0);
            connection.migrate(any).await.map_err(|error| format!("the connection can't move: {error}"))?;
            connection.path_changed(before).await?;
        }
    }
    Ok(())
}

fn client_transport(case: Case) -> Result<TransportConfig> {
    Ok(match case {
        Case::Transfer => {
            transport()?.stream_window(SMALL_STREAM_WINDOW).connection_window(SMALL_CONNECTION_WINDOW)
        }
        _ => transport()?,
    })
}

/// The authority of a URL, if it is one, and the path without its first slash.
fn target(text: &str) -> (Option<String>, String) {
    let (authority, path) = match text.split_once("://") {
        Some((_, rest)) => match rest.split_once('/') {
            Some((authority, path)) => (Some(authority.to_owned()), path),
            None => (Some(rest.to_owned()), ""),
        },
        None => (None, text),
    };
    (authority, path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_paths_are_told_apart() {
        assert_eq!(target("https://server4:443/a/b"), (Some("server4:443".into()), "a/b".into()));
        assert_eq!(target("https://[::1]:443/"), (Some("[::1]:443".into()), String::new()));
        assert_eq!(target("https://server"), (Some("server".into()), String::new()));
        assert_eq!(target("/a"), (None, "/a".into()));
    }
}

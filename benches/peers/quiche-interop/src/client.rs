//! The client.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use quiche::{Config, Connection, RecvInfo};

use crate::{
    ClientOptions, ECHO, Result, config,
    datagrams::Echoed,
    fetch::Fetch,
    socket::{Socket, connection_id},
};

/// The name that servers of tests have.
const SERVER_NAME: &str = "localhost";

/// Time for all of a connection.
const WITHIN: Duration = Duration::from_secs(60);

/// `ssl_early_data_accepted` of BoringSSL.
const EARLY_DATA_ACCEPTED: u32 = 2;

/// Plays a case.
pub(crate) fn play(options: &ClientOptions) -> Result<()> {
    let mut config = config::client(options)?;
    match (&options.test[..], &options.paths[..]) {
        ("resumption" | "zerortt", [first, rest @ ..]) => come_back(options, &mut config, first, rest),
        ("resumption" | "zerortt", []) => Err("this case needs something to fetch".into()),
        ("handshake" | "transfer" | "multiplexing" | "retry" | "datagram", paths) => {
            let mut visit = Visit::start(options, &mut config, None)?;
            if options.alpn == ECHO {
                for path in paths {
                    let mut echoed = Echoed::new(path, &options.out)?;
                    visit.drive(|connection| echoed.step(connection))?;
                }
            } else {
                visit.fetch(options, paths)?;
            }
            visit.end()
        }
        (other, _) => Err(format!("no case called {other:?} is played here").into()),
    }
}

/// A first connection for the first file, a second one that continues its session for the others.
fn come_back(options: &ClientOptions, config: &mut Config, first: &str, rest: &[String]) -> Result<()> {
    let mut visit = Visit::start(options, config, None)?;
    visit.fetch(options, &[first.to_owned()])?;
    visit.drive(|connection| Ok(connection.session().is_some()))?;
    let session = visit.connection.session().ok_or("no session ticket")?.to_vec();
    visit.end()?;
    let mut visit = Visit::start(options, config, Some(&session))?;
    visit.fetch(options, rest)?;
    if !visit.connection.is_resumed() {
        return Err("the server did not continue the session".into());
    }
    let reason = visit.connection.early_data_reason();
    if options.test == "zerortt" && reason != EARLY_DATA_ACCEPTED {
        return Err(format!("early data was not accepted: reason {reason}").into());
    }
    visit.end()
}

/// A connection.
struct Visit {
    socket: Socket,
    connection: Connection,
    until: Instant,
}

impl Visit {
    fn start(options: &ClientOptions, config: &mut Config, session: Option<&[u8]>) -> Result<Self> {
        let any: SocketAddr = match options.connect {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = Socket::connected(any, options.connect)?;
        let mut connection =
            quiche::connect(Some(SERVER_NAME), &connection_id()?, socket.local, options.connect, config)?;
        if let Some(session) = session {
            connection.set_session(session)?;
        }
        Ok(Self { socket, connection, until: Instant::now() + WITHIN })
    }

    fn fetch(&mut self, options: &ClientOptions, paths: &[String]) -> Result<()> {
        let mut fetch = Fetch::new(paths, options.out.clone());
        self.drive(|connection| fetch.step(connection))
    }

    /// Has the connection go on until `step`, called whenever streams may be used, says that it is done.
    fn drive(&mut self, mut step: impl FnMut(&mut Connection) -> Result<bool>) -> Result<()> {
        loop {
            self.socket.flush(&mut self.connection)?;
            let connection = &mut self.connection;
            if (connection.is_established() || connection.is_in_early_data()) && step(connection)? {
                return Ok(());
            }
            self.socket.flush(&mut self.connection)?;
            if self.connection.is_closed() {
                let errors = (self.connection.local_error(), self.connection.peer_error());
                return Err(format!("the connection was closed: {errors:?}").into());
            }
            if Instant::now() > self.until {
                return Err("it takes too long".into());
            }
            let (within, to) = (self.connection.timeout(), self.socket.local);
            match self.socket.receive(within)? {
                // What can't be read is dropped; what it means for the connection shows above.
                Some((datagram, from)) => _ = self.connection.recv(datagram, RecvInfo { from, to }),
                None => self.connection.on_timeout(),
            }
        }
    }

    fn end(&mut self) -> Result<()> {
        self.connection.close(true, 0, b"")?;
        self.socket.flush(&mut self.connection)
    }
}

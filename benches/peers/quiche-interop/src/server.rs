//! The server.

use std::{
    collections::HashMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use quiche::{Config, Connection, ConnectionId, Error, Header, RecvInfo, Shutdown, Type};

use crate::{
    ECHO, Result, ServerOptions, config, datagrams,
    socket::{Socket, connection_id},
};

/// Error code of a request that can't be answered.
const REFUSED: u64 = 1;

/// Serves until it is killed.
pub(crate) fn serve(options: &ServerOptions) -> Result<()> {
    if !["handshake", "transfer", "multiplexing", "retry", "resumption", "zerortt", "datagram"]
        .contains(&&options.test[..])
    {
        return Err(format!("no case called {:?} is played here", options.test).into());
    }
    let mut server = Server {
        config: config::server(options)?,
        socket: Socket::bind(options.listen)?,
        retry: options.test == "retry",
        root: options.root.clone(),
        served: Vec::new(),
        routes: HashMap::new(),
    };
    println!("listening on {}, quiche", server.socket.local);
    loop {
        server.turn()?;
    }
}

struct Server {
    config: Config,
    socket: Socket,
    retry: bool,
    root: PathBuf,
    served: Vec<Served>,
    /// Connections by the IDs their packets are addressed to.
    routes: HashMap<Vec<u8>, usize>,
}

struct Served {
    connection: Connection,
    /// Requests as far as they have come, and what is left of answers, by stream.
    requests: HashMap<u64, Vec<u8>>,
    answers: HashMap<u64, Vec<u8>>,
}

impl Server {
    fn turn(&mut self) -> Result<()> {
        let within = self.served.iter().filter_map(|served| served.connection.timeout()).min();
        let to = self.socket.local;
        match self.socket.receive(within)? {
            Some((datagram, from)) => {
                let mut datagram = datagram.to_vec();
                if let Some(place) = self.place_of(&mut datagram, from)? {
                    let served = &mut self.served[place];
                    // What can't be read is dropped, or closes the connection.
                    let _ = served.connection.recv(&mut datagram, RecvInfo { from, to });
                    served.work(&self.root)?;
                }
            }
            None => self.served.iter_mut().for_each(|served| served.connection.on_timeout()),
        }
        for served in &mut self.served {
            // A connection that fails has told its peer.
            let _ = self.socket.flush(&mut served.connection);
        }
        Ok(())
    }

    /// The connection a datagram is for: one that is there, or a new one.
    fn place_of(&mut self, datagram: &mut [u8], from: SocketAddr) -> Result<Option<usize>> {
        let Ok(header) = Header::from_slice(datagram, quiche::MAX_CONN_ID_LEN) else { return Ok(None) };
        if let Some(place) = self.routes.get(header.dcid.as_ref()) {
            return Ok(Some(*place));
        }
        if header.ty != Type::Initial {
            return Ok(None);
        }
        if !quiche::version_is_supported(header.version) {
            let write = |out: &mut [u8]| quiche::negotiate_version(&header.scid, &header.dcid, out);
            self.socket.answer(from, write)?;
            return Ok(None);
        }
        let (scid, original) = match header.token.as_deref() {
            Some(token) if self.retry && !token.is_empty() => {
                let Some(original) = original_of(token, from) else { return Ok(None) };
                (ConnectionId::from_vec(header.dcid.to_vec()), Some(original))
            }
            _ if self.retry => {
                let scid = connection_id()?;
                let token = token(&header, from);
                let write = |out: &mut [u8]| {
                    quiche::retry(&header.scid, &header.dcid, &scid, &token, header.version, out)
                };
                self.socket.answer(from, write)?;
                return Ok(None);
            }
            _ => (connection_id()?, None),
        };
        let local = self.socket.local;
        let connection = quiche::accept(&scid, original.as_ref(), local, from, &mut self.config)?;
        let place = self.served.len();
        self.routes.insert(scid.to_vec(), place);
        self.routes.insert(header.dcid.to_vec(), place);
        self.served.push(Served { connection, requests: HashMap::new(), answers: HashMap::new() });
        Ok(Some(place))
    }
}

impl Served {
    fn work(&mut self, root: &Path) -> Result<()> {
        if !self.connection.is_established() && !self.connection.is_in_early_data() {
            return Ok(());
        }
        if self.connection.application_proto() == ECHO.as_bytes() {
            return datagrams::echo(&mut self.connection);
        }
        let writable: Vec<_> = self.connection.writable().collect();
        for stream in writable {
            self.go_on(stream);
        }
        let readable: Vec<_> = self.connection.readable().collect();
        for stream in readable {
            self.read(stream, root);
        }
        Ok(())
    }

    fn read(&mut self, stream: u64, root: &Path) {
        let mut buffer = [0; 4096];
        while let Ok((len, finished)) = self.connection.stream_recv(stream, &mut buffer) {
            self.requests.entry(stream).or_default().extend_from_slice(&buffer[..len]);
            if finished && let Some(request) = self.requests.remove(&stream) {
                match file(&request, root) {
                    Some(file) => {
                        self.answers.insert(stream, file);
                        self.go_on(stream);
                    }
                    // Fails only for a stream that is closed already.
                    None => _ = self.connection.stream_shutdown(stream, Shutdown::Write, REFUSED),
                }
                return;
            }
        }
    }

    /// Sends more of an answer.
    fn go_on(&mut self, stream: u64) {
        let Some(rest) = self.answers.get_mut(&stream) else { return };
        match self.connection.stream_send(stream, rest, true) {
            Ok(len) if len == rest.len() => _ = self.answers.remove(&stream),
            Ok(len) => _ = rest.drain(..len),
            Err(Error::Done) => {}
            Err(_) => _ = self.answers.remove(&stream),
        }
    }
}

/// The file that a request is for, of the folder itself.
fn file(request: &[u8], root: &Path) -> Option<Vec<u8>> {
    let name = std::str::from_utf8(request).ok()?.strip_prefix("GET /")?.trim_end();
    (!name.contains('/')).then(|| fs::read(root.join(name)).ok()).flatten()
}

/// A token for a Retry: only for tests, anybody could make one.
fn token(header: &Header<'_>, from: SocketAddr) -> Vec<u8> {
    [from.to_string().as_bytes(), b"|", &header.dcid].concat()
}

/// The connection ID that the client chose first, if the token was made for its address.
fn original_of(token: &[u8], from: SocketAddr) -> Option<ConnectionId<'static>> {
    let rest = token.strip_prefix(from.to_string().as_bytes())?.strip_prefix(b"|")?;
    Some(ConnectionId::from_vec(rest.to_vec()))
}

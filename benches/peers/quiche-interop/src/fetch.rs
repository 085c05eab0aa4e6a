//! Files fetched, each by a request on a stream of its own.

use std::{
    collections::{HashMap, VecDeque},
    fs,
    path::PathBuf,
};

use quiche::{Connection, Error};

use crate::Result;

/// What is still to come.
pub(crate) struct Fetch {
    wanted: VecDeque<String>,
    /// A request that is on its way, but for so many of its bytes.
    asking: Option<(u64, Vec<u8>)>,
    coming: HashMap<u64, (String, Vec<u8>)>,
    next_stream: u64,
    out: PathBuf,
}

impl Fetch {
    pub(crate) fn new(paths: &[String], out: PathBuf) -> Self {
        Self {
            wanted: paths.iter().cloned().collect(),
            asking: None,
            coming: HashMap::new(),
            next_stream: 0,
            out,
        }
    }

    /// Asks and reads as far as it goes now; true when all has come.
    pub(crate) fn step(&mut self, connection: &mut Connection) -> Result<bool> {
        while self.ask(connection)? {}
        let readable: Vec<_> = connection.readable().collect();
        for stream in readable {
            self.read(connection, stream)?;
        }
        Ok(self.wanted.is_empty() && self.asking.is_none() && self.coming.is_empty())
    }

    fn ask(&mut self, connection: &mut Connection) -> Result<bool> {
        if self.asking.is_none() {
            let Some(path) = self.wanted.front() else { return Ok(false) };
            self.asking = Some((self.next_stream, format!("GET /{path}\r\n").into_bytes()));
        }
        let Some((stream, rest)) = &mut self.asking else { return Ok(false) };
        match connection.stream_send(*stream, rest, true) {
            Ok(len) if len == rest.len() => {
                if let Some(path) = self.wanted.pop_front() {
                    self.coming.insert(*stream, (path, Vec::new()));
                }
                self.next_stream += 4;
                self.asking = None;
                Ok(true)
            }
            Ok(len) => {
                rest.drain(..len);
                Ok(false)
            }
            Err(Error::Done | Error::StreamLimit) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn read(&mut self, connection: &mut Connection, stream: u64) -> Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let (len, finished) = match connection.stream_recv(stream, &mut buffer) {
                Ok(read) => read,
                Err(Error::Done) => return Ok(()),
                Err(error) => return Err(format!("stream {stream}: {error}").into()),
            };
            let Some((_, come)) = self.coming.get_mut(&stream) else {
                return Err(format!("stream {stream} is none of ours").into());
            };
            come.extend_from_slice(&buffer[..len]);
            if finished && let Some((path, whole)) = self.coming.remove(&stream) {
                fs::write(self.out.join(path), whole)?;
                return Ok(());
            }
        }
    }
}

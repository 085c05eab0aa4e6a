//! As much of HTTP as asking our own dashboard takes.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use perf_protocol::Result;
use serde::de::DeserializeOwned;
use wirepath_dashboard::api::{Envelope, ErrorBody};

/// An answer that takes longer comes no more.
const TIMEOUT: Duration = Duration::from_secs(10);
/// No answer is longer: a page of 1000 rows is half a megabyte.
const MAX_ANSWER: u64 = 16 << 20;

pub(super) struct Client {
    address: SocketAddr,
    token: Option<String>,
}

impl Client {
    pub(super) fn new(address: SocketAddr, token: Option<String>) -> Self {
        Self { address, token }
    }

    /// Asks for `/api/v1/<path>`.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let address = self.address;
        let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)
            .map_err(|error| format!("no dashboard answers at {address}: {error}"))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let token = match &self.token {
            Some(token) => format!("Authorization: Bearer {token}\r\n"),
            None => String::new(),
        };
        // HTTP/1.0: the answer ends with the connection, and comes in one piece.
        write!(stream, "GET /api/v1/{path} HTTP/1.0\r\nHost: {address}\r\n{token}\r\n")?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
        parse(&answer)
    }
}

fn parse<T: DeserializeOwned>(answer: &[u8]) -> Result<T> {
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n").ok_or("that is no dashboard's answer")?;
    let (head, body) = (String::from_utf8_lossy(&answer[..end]), &answer[end + 4..]);
    if head.split(' ').nth(1) != Some("200") {
        let error = serde_json::from_slice::<ErrorBody>(body).map(|it| it.error);
        return Err(error.unwrap_or_else(|_| head.lines().next().unwrap_or_default().to_owned()).into());
    }
    Ok(serde_json::from_slice::<Envelope<T>>(body)?.data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_refusals_are_told_apart() {
        let answer = b"HTTP/1.0 200 OK\r\na: b\r\n\r\n{\"v\":1,\"t_ns\":5,\"data\":7}";
        assert_eq!(parse::<u32>(answer).expect("an answer"), 7);
        let refusal = b"HTTP/1.0 401 Unauthorized\r\n\r\n{\"error\":\"a token is needed\"}";
        assert_eq!(parse::<u32>(refusal).expect_err("refused").to_string(), "a token is needed");
        assert!(parse::<u32>(b"SSH-2.0-OpenSSH").is_err());
    }
}

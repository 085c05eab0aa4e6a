//! Being watched while it is measured: what the dashboard costs.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use perf_protocol::Result;

use crate::net::PathChoice;

/// How closely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    /// Nothing is sampled, and there is no dashboard.
    Off,
    /// One datagram in 1024 is followed; there is no dashboard.
    Traced,
    /// A dashboard is served, and one viewer has it open.
    Viewed,
    /// And its recorder is on.
    Recorded,
    /// And a filter is armed that matches all traffic: every other datagram is followed.
    Armed,
}

impl Watch {
    pub(super) fn parse(text: Option<&str>) -> Result<Self> {
        Ok(match text {
            None | Some("off") => Self::Off,
            Some("traced") => Self::Traced,
            Some("viewed") => Self::Viewed,
            Some("recorded") => Self::Recorded,
            Some("armed") => Self::Armed,
            Some(other) => {
                return Err(
                    format!("--opt watch is off, traced, viewed, recorded or armed, not {other}").into()
                );
            }
        })
    }

    fn has_dashboard(self) -> bool {
        !matches!(self, Self::Off | Self::Traced)
    }

    pub(super) fn prepare(self, choice: &mut PathChoice) -> io::Result<()> {
        if self == Self::Traced {
            choice.trace_one_in = Some(1024);
        }
        if self.has_dashboard() {
            choice.dashboard = Some(Arc::new(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?));
        }
        Ok(())
    }

    /// Begins to look at the dashboard, whose traffic has one end at `local`.
    pub(super) fn begin(self, dashboard: SocketAddr, local: IpAddr) -> io::Result<()> {
        match self {
            Self::Recorded => post(dashboard, "recordings", r#"{"seconds":600}"#)?,
            Self::Armed => post(dashboard, "traces", &format!(r#"{{"address":"{local}"}}"#))?,
            Self::Off | Self::Traced | Self::Viewed => {}
        }
        let mut stream = ask(dashboard, "GET /api/v1/stream", "")?;
        thread::Builder::new().name("viewer".into()).spawn(move || {
            let mut buffer = [0; 65_536];
            while stream.read(&mut buffer).is_ok_and(|len| len > 0) {}
        })?;
        Ok(())
    }
}

fn post(dashboard: SocketAddr, path: &str, body: &str) -> io::Result<()> {
    let mut answer = [0; 12];
    ask(dashboard, &format!("POST /api/v1/{path}"), body)?.read_exact(&mut answer)?;
    match answer.ends_with(b"200") {
        true => Ok(()),
        false => Err(io::Error::other(format!("the dashboard answers {}", String::from_utf8_lossy(&answer)))),
    }
}

fn ask(dashboard: SocketAddr, request: &str, body: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(dashboard)?;
    let len = body.len();
    let head = format!(
        "{request} HTTP/1.1\r\nHost: {dashboard}\r\nContent-Type: application/json\r\nContent-Length: {len}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_viewed_has_a_dashboard() {
        for (text, has) in
            [("off", false), ("traced", false), ("viewed", true), ("recorded", true), ("armed", true)]
        {
            let mut choice = PathChoice::default();
            Watch::parse(Some(text)).expect(text).prepare(&mut choice).expect("a port is free");
            assert_eq!(choice.dashboard.is_some(), has, "{text}");
        }
        assert!(Watch::parse(Some("closely")).is_err());
    }
}

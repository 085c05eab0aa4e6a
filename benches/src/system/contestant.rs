//! Who takes part.

use std::{
    path::{self, PathBuf},
    process::Command,
};

use perf_protocol::Result;

use super::case::Case;

/// A program with the perf command line.
#[derive(Debug)]
pub(super) struct Contestant {
    pub(super) name: &'static str,
    /// For the table's legend.
    pub(super) what: &'static str,
    package: &'static str,
    program: &'static str,
    /// Its workspace, from the repository's root.
    workspace: &'static str,
    /// Options of both its sides.
    pub(super) options: &'static [&'static str],
    /// The only kinds of work it does, by how their names begin; all if there are none.
    only: &'static [&'static str],
}

const OURS: Contestant = Contestant {
    name: "",
    what: "",
    package: "wirepath-cli",
    program: "wirepath-perf",
    workspace: ".",
    options: &[],
    only: &[],
};
const PEER: Contestant = Contestant { workspace: "benches/peers", ..OURS };

static ALL: [Contestant; 13] = [
    Contestant { name: "ours-xdp", what: "wirepath over AF_XDP", options: &["--opt", "path=xdp"], ..OURS },
    Contestant { name: "ours-udp", what: "wirepath over OS UDP", options: &["--opt", "path=udp"], ..OURS },
    Contestant {
        name: "ours-traced",
        what: "wirepath over AF_XDP; one datagram in 1024 is followed",
        options: &["--opt", "path=xdp", "--opt", "watch=traced"],
        ..OURS
    },
    Contestant {
        name: "ours-viewed",
        what: "the same with a dashboard on the same core, and a viewer on it who has it open",
        options: &["--opt", "path=xdp", "--opt", "watch=viewed"],
        ..OURS
    },
    Contestant {
        name: "ours-recorded",
        what: "and its recorder is on",
        options: &["--opt", "path=xdp", "--opt", "watch=recorded"],
        ..OURS
    },
    Contestant {
        name: "ours-armed",
        what: "and a filter is armed that matches every datagram: every other one is followed",
        options: &["--opt", "path=xdp", "--opt", "watch=armed"],
        ..OURS
    },
    Contestant {
        name: "ours-counted",
        what: "wirepath over AF_XDP with an allocator that counts",
        package: "benches",
        program: "wirepath-perf-counted",
        options: &["--opt", "path=xdp"],
        ..OURS
    },
    Contestant {
        name: "quinn",
        what: "quinn 0.11.12, GSO and GRO, rustls with ring's AES and aws-lc's key exchange",
        package: "peer-quinn",
        program: "peer-quinn",
        ..PEER
    },
    Contestant {
        name: "quiche",
        what: "quiche 0.30.0 in an event loop of the bench, GSO and GRO, no pacing, BoringSSL",
        package: "peer-quiche",
        program: "peer-quiche",
        ..PEER
    },
    Contestant {
        name: "s2n-udp",
        what: "s2n-quic 1.91.0 over UDP, GSO and GRO, s2n-tls",
        package: "peer-s2n",
        program: "peer-s2n",
        ..PEER
    },
    Contestant {
        name: "s2n-xdp",
        what: "s2n-quic 1.91.0 over its AF_XDP provider, native and copy mode, no UDP checksums",
        package: "peer-s2n-xdp",
        program: "peer-s2n-xdp",
        ..PEER
    },
    Contestant {
        name: "limit",
        what: "no QUIC: AF_XDP at both ends, each packet sealed and opened with AES-128-GCM",
        package: "benches",
        program: "wirepath-limit",
        only: &["bulk", "upload"],
        ..OURS
    },
    Contestant {
        name: "tls",
        what: "no QUIC: bare TLS sessions of rustls, their flights in UDP datagrams",
        package: "benches",
        program: "wirepath-tls",
        only: &["hps"],
        ..OURS
    },
];

pub(super) fn find(names: &[String]) -> Result<Vec<&'static Contestant>> {
    let find_one = |name: &String| {
        ALL.iter().find(|contestant| contestant.name == name).ok_or_else(|| {
            let known: Vec<_> = ALL.iter().map(|contestant| contestant.name).collect();
            format!("no contestant is called {name}; there are {}", known.join(", ")).into()
        })
    };
    names.iter().map(find_one).collect()
}

impl Contestant {
    /// Whether it does this kind of work.
    pub(super) fn does(&self, case: &Case) -> bool {
        self.only.is_empty() || self.only.iter().any(|begin| case.name.starts_with(begin))
    }

    /// Builds it, one package at a time: so cargo joins no features of different peers.
    pub(super) fn build(self: &&Self) -> Result<()> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(["build", "--release", "--locked", "--package", self.package])
            .current_dir(self.workspace)
            .env("CARGO_TARGET_DIR", self.target()?)
            .status()?;
        if status.success() { Ok(()) } else { Err(format!("{} does not build", self.package).into()) }
    }

    pub(super) fn program(&self) -> Result<PathBuf> {
        Ok(self.target()?.join("release").join(self.program))
    }

    /// Absolute, as its workspace is not where this process is.
    fn target(&self) -> Result<PathBuf> {
        Ok(match std::env::var_os("CARGO_TARGET_DIR") {
            Some(shared) => path::absolute(shared)?,
            None => path::absolute(self.workspace)?.join("target"),
        })
    }
}

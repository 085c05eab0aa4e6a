//! The program under test, its files, and where it runs.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use integration_tests::{
    cert::Identity,
    gate::quiche,
    netns::{Namespace, Task},
    world::INTERFACE,
};

pub(crate) const DEADLINE: Duration = Duration::from_secs(100);

pub(crate) static IDENTITY: LazyLock<Identity> = LazyLock::new(Identity::new);

/// A folder of the test's own with certificates, files to serve and room for what comes; gone with it.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("wirepath-interop-{}-{number}", std::process::id()));
        for folder in ["www", "downloads", "qlog"] {
            fs::create_dir_all(path.join(folder)).unwrap();
        }
        Self(path).with(&IDENTITY)
    }

    pub(crate) fn with(self, identity: &Identity) -> Self {
        fs::write(self.path("cert.pem"), &identity.certificate).unwrap();
        fs::write(self.path("key.pem"), &identity.key).unwrap();
        self
    }

    /// A folder that suits a case.
    pub(crate) fn of(test: &str) -> Self {
        match test {
            // Three times what a client sends first is at most some 7 KB.
            "amplificationlimit" => Self::new().with(&Identity::large(12_000)),
            _ => Self::new(),
        }
    }

    /// Checks that both ends have logged each connection, under the name that the runner looks for, and that a log is one.
    pub(crate) fn check_logs(&self) {
        let names = fs::read_dir(self.0.join("qlog")).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let of = |vantage: &str| {
            let ids = names.iter().filter_map(|name| name.strip_suffix(vantage).map(str::to_owned));
            let mut ids: Vec<_> = ids.collect();
            ids.sort();
            ids
        };
        let (clients, servers) = (of("_client.sqlog"), of("_server.sqlog"));
        assert!(!clients.is_empty() && clients == servers, "{names:?}");
        for name in &names {
            let text = fs::read_to_string(self.0.join("qlog").join(name)).unwrap();
            let mut records = text.split('\u{1e}').skip(1).map(|record| {
                serde_json::from_str::<serde_json::Value>(record)
                    .unwrap_or_else(|error| panic!("{error}: {record}"))
            });
            let header = records.next().expect("a header");
            assert_eq!(
                (&header["qlog_format"], &header["qlog_version"]),
                (&"JSON-SEQ".into(), &"0.3".into())
            );
            let last = records.last().expect("events");
            assert!(
                last["time"].is_number() && last["name"].is_string() && last["data"].is_object(),
                "{last}"
            );
        }
    }

    /// Makes files of these sizes to be served.
    pub(crate) fn files(&self, sizes: &[usize]) -> Vec<String> {
        let names = sizes.iter().enumerate().map(|(number, size)| {
            let name = format!("file{number}");
            fs::write(self.0.join("www").join(&name), contents(number, *size)).unwrap();
            name
        });
        names.collect()
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// Checks that these files have come, whole.
    pub(crate) fn check(&self, names: &[String]) {
        for name in names {
            let come = fs::read(self.0.join("downloads").join(name))
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(come == fs::read(self.0.join("www").join(name)).unwrap(), "{name} came changed");
        }
    }
}

impl Folder {
    /// Checks that both ends have written down the secrets of their connections, and the same.
    pub(crate) fn check_secrets(&self) {
        let text = fs::read_to_string(self.0.join("secrets")).unwrap();
        let mut counts = HashMap::new();
        for line in text.lines().filter(|line| line.contains("_TRAFFIC_SECRET_0 ")) {
            *counts.entry(line).or_insert(0) += 1;
        }
        assert!(!counts.is_empty() && counts.values().all(|&count| count == 2), "{text}");
    }

    /// Is there a record with this text in a server's log?
    pub(crate) fn server_logged(&self, text: &str) -> bool {
        self.logged("_server.sqlog", text)
    }

    /// Is there a record with this text in a client's log?
    pub(crate) fn client_logged(&self, text: &str) -> bool {
        self.logged("_client.sqlog", text)
    }

    fn logged(&self, whose: &str, text: &str) -> bool {
        let logs = fs::read_dir(self.0.join("qlog")).unwrap().map(|entry| entry.unwrap().path());
        logs.filter(|path| path.to_str().is_some_and(|path| path.ends_with(whose)))
            .any(|path| fs::read_to_string(path).unwrap().contains(text))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

pub(crate) fn contents(number: usize, size: usize) -> Vec<u8> {
    (0..size).map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ number.wrapping_mul(101)) as u8).collect()
}

/// Which program runs, and where: in the test's own namespace over OS UDP, or in a host's; there ours is over AF_XDP.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) namespace: Option<&'a Namespace>,
    pub(crate) program: Program,
}

/// A program with an interop endpoint.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// The one under test.
    Ours,
    /// quiche's.
    Quiche,
}

impl<'a> Place<'a> {
    /// Ours in a namespace.
    pub(crate) fn ours(namespace: Option<&'a Namespace>) -> Self {
        Self { namespace, program: Program::Ours }
    }

    fn spawn(&self, folder: &Folder, arguments: &[String]) -> Child {
        let mut command = match self.program {
            Program::Ours => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_wirepath"));
                command.arg("interop");
                command
            }
            Program::Quiche => Command::new(quiche().expect("looked for before")),
        };
        command
            .args(arguments)
            .env("QLOGDIR", folder.0.join("qlog"))
            .env("SSLKEYLOGFILE", folder.0.join("secrets"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if self.namespace.is_some() && self.program == Program::Ours {
            command.args(["--xdp", INTERFACE]);
        }
        match self.namespace {
            Some(namespace) => namespace.run(|| command.spawn()),
            None => command.spawn(),
        }
        .expect("the program starts")
    }
}

/// A server that listens.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn start(place: Place<'_>, folder: &Folder, at: SocketAddr, test: &str, alpn: &str) -> Self {
        let arguments = [
            "server",
            "--listen",
            &at.to_string(),
            "--cert",
            &folder.path("cert.pem"),
            "--key",
            &folder.path("key.pem"),
            "--root",
            &folder.path("www"),
            "--alpn",
            alpn,
            "--test",
            test,
        ];
        let mut child = place.spawn(folder, &arguments.map(str::to_owned));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address =
            line.strip_prefix("listening on ").and_then(|rest| rest.split(',').next()?.parse().ok());
        let Some(address) = address else {
            child.kill().unwrap();
            panic!("{line:?} {:?}", child.wait_with_output())
        };
        Self { child, address }
    }
}

impl Server {
    /// Ends it as the runner does. It succeeds if all that its case is about has happened.
    pub(crate) fn end(mut self) -> Result<(), String> {
        let ended = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(ended.success());
        let mut told = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        if self.child.wait().unwrap().success() { Ok(()) } else { Err(told) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn start_client(
    place: Place<'_>,
    folder: &Folder,
    to: SocketAddr,
    test: &str,
    alpn: &str,
    paths: &[String],
) -> Child {
    let arguments = [
        "client",
        "--connect",
        &to.to_string(),
        "--ca",
        &folder.path("cert.pem"),
        "--out",
        &folder.path("downloads"),
        "--alpn",
        alpn,
        "--test",
        test,
    ];
    place.spawn(folder, &[&arguments.map(str::to_owned), paths].concat())
}

pub(crate) fn ended(child: Child) -> Output {
    Task::start("client".into(), move || child.wait_with_output().unwrap()).join(DEADLINE)
}

pub(crate) fn run_client(place: Place<'_>, folder: &Folder, to: SocketAddr, test: &str, paths: &[String]) {
    let output = ended(start_client(place, folder, to, test, "hq-interop", paths));
    assert!(output.status.success(), "{test}: {}", String::from_utf8_lossy(&output.stderr));
}

pub(crate) const LOOPBACK: Place<'static> = Place { namespace: None, program: Program::Ours };

pub(crate) fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Files that suit a case.
pub(crate) fn sizes(test: &str) -> Vec<usize> {
    match test {
        "multiplexing" => vec![32; 2000],
        "zerortt" => vec![32; 40],
        "transfer" | "blackhole" | "rebind-port" | "rebind-addr" => vec![2 << 20, 1 << 20, 0],
        "chacha20" | "keyupdate" | "connectionmigration" => vec![3 << 20],
        "multiconnect" | "handshakeloss" | "handshakecorruption" => vec![1024; 20],
        _ => vec![1024, 10_240],
    }
}

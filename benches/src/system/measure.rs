//! One run of one contestant.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use perf_protocol::{READY, Result};
use serde_json::{Map, Value};
use wirepath_cli::world::{Host, World};

use super::{
    Folder,
    case::{Case, Metric},
    contestant::Contestant,
    machine,
};

/// How long a server may take until it listens: a queue is free only some time after its last socket.
const READY_WAIT: Duration = Duration::from_secs(10);

/// Beyond what it measures, a client connects, warms up and comes to an end; an idle run asks all connections.
const CLIENT_EXTRA: Duration = Duration::from_secs(60);

/// A run is disturbed when other programs took more of a core than this.
const FOREIGN_SHARE: f64 = 0.1;

/// How much of a failed program's last words is kept.
const LAST_WORDS_LEN: usize = 300;

/// Where and how everything runs.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) world: World,
    pub(super) folder: Folder,
    pub(super) server_core: usize,
    pub(super) client_core: usize,
    pub(super) mtu: u16,
    pub(super) secs: f64,
    pub(super) nice: i32,
    pub(super) quiet: f64,
}

/// What came of a run: the client's JSON, or why there is none.
#[derive(Clone, Debug)]
pub(super) struct Row(Result<Map<String, Value>, String>);

impl Bench {
    pub(super) fn measure(&self, contestant: &Contestant, case: &Case) -> Row {
        machine::wait_until_quiet(Duration::from_secs_f64(self.quiet));
        Row(self.try_measure(contestant, case).map_err(|error| error.to_string()))
    }

    fn try_measure(&self, contestant: &Contestant, case: &Case) -> Result<Map<String, Value>> {
        let server_addr = format!("{}:4433", self.world.server.address());
        let mut arguments = vec!["server", "--bind", &server_addr];
        let (certificate, key) = (self.folder.path("cert.pem"), self.folder.path("key.pem"));
        arguments.extend(["--cert", &certificate, "--key", &key]);
        arguments.extend(case.server);
        let mut server = self.start(&self.world.server, self.server_core, contestant, &arguments)?;
        server
            .wait_for_line(READY_WAIT, |line| line.contains(READY))
            .map_err(|error| format!("server: {error}"))?;

        let client_addr = format!("{}:0", self.world.client.address());
        let (pid, secs) = (server.child.id().to_string(), self.secs.to_string());
        let mut arguments = vec!["client", "--connect", &server_addr, "--bind", &client_addr];
        arguments.extend(["--ca", &certificate, "--server-pid", &pid, "--secs", &secs]);
        arguments.extend(case.client);
        let mut client = self.start(&self.world.client, self.client_core, contestant, &arguments)?;
        let limit = CLIENT_EXTRA + Duration::from_secs_f64(self.secs);
        let line = client
            .wait_for_line(limit, |line| line.starts_with('{'))
            .map_err(|error| format!("client: {error}"))?;
        if let Some(status) = server.child.try_wait()? {
            return Err(format!("server ended by itself: {status}: {}", server.last_words()).into());
        }
        // Its last packets are to leave before its device goes.
        client.wait(Duration::from_secs(5));
        Ok(serde_json::from_str(&line)?)
    }

    fn start(
        &self,
        host: &Host,
        core: usize,
        contestant: &Contestant,
        arguments: &[&str],
    ) -> Result<Running> {
        let program = contestant.program()?;
        if !program.exists() {
            return Err(format!("{} is not there; build it first", program.display()).into());
        }
        // Both of these become the program, so its process is the one started here, and dies with this one.
        let mut command = Command::new("nice");
        command.args(["-n", &self.nice.to_string(), "setpriv", "--pdeathsig", "KILL", "--"]).arg(program);
        command.args(arguments).args(["--iface", host.interface(), "--mtu", &self.mtu.to_string()]);
        command.args(contestant.options);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running::new(host.spawn(command, Some(core))?)
    }
}

/// A process; killed when dropped.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
    errors: Option<thread::JoinHandle<String>>,
}

impl Running {
    fn new(mut child: Child) -> Result<Self> {
        let output = child.stdout.take().ok_or("no pipe for the output")?;
        let mut errors = child.stderr.take().ok_or("no pipe for the errors")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let errors = thread::spawn(move || {
            let mut text = Vec::new();
            drop(errors.read_to_end(&mut text));
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Self { child, lines, errors: Some(errors) })
    }

    fn wait_for_line(&mut self, limit: Duration, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if wanted(&line) => return Ok(line),
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    return Err(format!("no word in {} s: {}", limit.as_secs(), self.last_words()).into());
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(self.last_words().into()),
            }
        }
    }

    /// Ends it if it has not ended by itself, and returns the end of what it complained of.
    fn last_words(&mut self) -> String {
        drop(self.child.kill());
        let text = self.errors.take().and_then(|reader| reader.join().ok()).unwrap_or_default();
        let text = text.trim();
        let begin = text.len().saturating_sub(LAST_WORDS_LEN);
        let begin = (begin..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or_default();
        text[begin..].to_owned()
    }

    /// Waits until it has ended by itself, or for so long.
    fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
        None
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Row {
    pub(super) fn value(&self, metric: &Metric) -> Option<f64> {
        self.0.as_ref().ok()?.get(metric.field)?.as_f64()
    }

    /// It came to its end, and no other program took part.
    pub(super) fn is_clean(&self) -> bool {
        self.0.is_ok() && !self.is_disturbed()
    }

    pub(super) fn failed(&self) -> bool {
        self.0.is_err()
    }

    pub(super) fn is_disturbed(&self) -> bool {
        let Ok(fields) = &self.0 else { return false };
        let field = |name| fields.get(name).and_then(Value::as_f64);
        field("foreign_cpu_s").unwrap_or(0.0) > FOREIGN_SHARE * field("secs").unwrap_or(1.0)
    }

    /// For the log.
    pub(super) fn outcome(&self) -> String {
        let fields = match &self.0 {
            Ok(fields) => fields,
            Err(error) => return format!("failed: {error}"),
        };
        let shown = [
            "gbps",
            "rps",
            "hps",
            "dps",
            "p50_us",
            "p99_us",
            "server_rss_per_conn",
            "client_allocations_per_mb",
            "client_allocations_per_op",
        ];
        let mut text: Vec<String> = shown
            .iter()
            .filter_map(|name| Some(format!("{name} {:.2}", fields.get(*name)?.as_f64()?)))
            .collect();
        if self.is_disturbed() {
            text.push("(disturbed by other programs)".into());
        }
        text.join(", ")
    }

    pub(super) fn to_json(&self) -> Value {
        match &self.0 {
            Ok(fields) => Value::Object(fields.clone()),
            Err(error) => serde_json::json!({ "error": error }),
        }
    }

    #[cfg(test)]
    pub(super) fn of(fields: Value) -> Self {
        match fields {
            Value::Object(fields) => Self(Ok(fields)),
            other => Self(Err(other.to_string())),
        }
    }
}

/// The machine's model of processor, as the kernel tells it.
pub(super) fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    line.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

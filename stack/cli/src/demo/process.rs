//! The demo's processes: each is this program again, in its own namespace.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use nix::sys::{prctl, signal::Signal};
use perf_protocol::Result;

use super::{Stage, report::Report};

/// A process that says nothing for so long has failed. Progress comes ten times a second; opening an AF_XDP socket
/// may wait seconds for a queue that is just being freed.
const SILENCE: Duration = Duration::from_secs(30);

/// A process and the reports it makes.
pub(super) struct Party {
    name: &'static str,
    child: Child,
    reports: Receiver<Report>,
}

impl Party {
    /// Starts `wirepath demo-…` on its host.
    pub(super) fn start(stage: &Stage, name: &'static str, arguments: &[String]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        // A group of its own: Ctrl-C is for the one that tells the story, and this dies with that.
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut child = stage.spawn(name, command)?;
        let output = child.stdout.take().ok_or("no pipe from the process")?;
        let (sender, reports) = mpsc::channel();
        thread::Builder::new().name(format!("{name}-reports")).spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let Some(report) = Report::parse(&line) else {
                    println!("  {name}: {line}");
                    continue;
                };
                if sender.send(report).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { name, child, reports })
    }

    /// The next report; `None` when the process has ended well.
    pub(super) fn next(&mut self) -> Result<Option<Report>> {
        match self.reports.recv_timeout(SILENCE) {
            Ok(report) => Ok(Some(report)),
            Err(RecvTimeoutError::Timeout) => {
                Err(format!("the {} has said nothing for {} s", self.name, SILENCE.as_secs()).into())
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status: ExitStatus = self.child.wait()?;
                if status.success() {
                    Ok(None)
                } else {
                    Err(format!("the {} failed: {status}", self.name).into())
                }
            }
        }
    }

    /// The next report, of a process that has more to say.
    pub(super) fn expect(&mut self) -> Result<Report> {
        self.next()?.ok_or_else(|| format!("the {} ended too early", self.name).into())
    }

    /// Gives the process its input.
    pub(super) fn tell(&mut self, text: &str) -> Result<()> {
        let input = self.child.stdin.as_mut().ok_or("the process has no input")?;
        Ok(input.write_all(text.as_bytes())?)
    }

    /// Ends the process's input: a client's certificate is complete, a server is to stop.
    pub(super) fn end_input(&mut self) {
        self.child.stdin = None;
    }
}

impl Drop for Party {
    fn drop(&mut self) {
        // Ended already, if all went well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Makes this process die with the one that started it, even by `kill -9`; with it goes its namespace.
///
/// Should the other have gone before this is called, its pipe is closed, and a side ends when its input does.
pub(super) fn die_with_parent() -> Result<()> {
    Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)
}

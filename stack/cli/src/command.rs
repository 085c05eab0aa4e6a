//! The command line of `wirepath`.

use std::process::ExitCode;

use clap::Parser;
use perf_protocol::{Result, Role};

use crate::{demo, doctor, explain, helper, interop, perf, rules, top, transfer};

#[derive(Parser)]
#[command(name = "wirepath", version, about = "QUIC over AF_XDP.")]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Moves a file there and back between two hosts made for it, over AF_XDP, and tells how it went.
    Demo(demo::Options),
    /// Serves the files of a folder.
    Serve(transfer::ServeOptions),
    /// Fetches a file from `wirepath serve`.
    Get(transfer::GetOptions),
    /// Drops, passes or sends back packets on an interface by XDP rules, until Ctrl-C, and counts them.
    Rules(rules::Options),
    /// Tells which rule, socket and connection would take a packet, or what would drop it.
    Explain(explain::Options),
    /// Shows in the terminal what a stack's dashboard tells.
    Top(top::Options),
    /// Lets processes without rights use AF_XDP: does for them what takes rights, until Ctrl-C.
    Helper(helper::Options),
    /// Tells what stands between this machine and AF_XDP, and what to type.
    Doctor(doctor::Options),
    /// Measures: the server and the client of the benchmarks.
    #[command(subcommand)]
    Perf(Role),
    /// Plays the cases of the QUIC interop runner.
    #[command(subcommand)]
    Interop(interop::Role),
    #[command(hide = true)]
    DemoServer(demo::ServerSide),
    #[command(hide = true)]
    DemoClient(demo::ClientSide),
}

/// Runs `wirepath`.
pub fn main() -> ExitCode {
    let arguments = interop::arguments(std::env::args_os().collect(), |name| std::env::var(name).ok());
    exit_code(match Program::parse_from(arguments).command {
        Command::Demo(options) => demo::run(&options),
        Command::Serve(options) => block_on(transfer::serve(options)),
        Command::Get(options) => block_on(transfer::get(options)),
        Command::Rules(options) => block_on(rules::run(options)),
        Command::Explain(options) => explain::run(&options),
        Command::Top(options) => top::run(&options),
        Command::Helper(options) => block_on(helper::run(options)),
        Command::Doctor(options) => block_on(doctor::run(options)),
        Command::Perf(role) => block_on(perf::run(role)),
        Command::Interop(role) => return interop::run(role, block_on),
        Command::DemoServer(side) => block_on(demo::serve(side)),
        Command::DemoClient(side) => block_on(demo::request(side)),
    })
}

/// Runs `wirepath perf` as a program of its own: `wirepath-perf server …`, `wirepath-perf client …`.
pub fn perf_main() -> ExitCode {
    #[derive(Parser)]
    #[command(name = "wirepath-perf", version, about = "The benchmarks' server and client over wirepath.")]
    struct PerfProgram {
        #[command(subcommand)]
        role: Role,
    }
    exit_code(block_on(perf::run(PerfProgram::parse().role)))
}

/// This thread only waits; the work is done on the stack's partition.
fn block_on(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

fn exit_code(outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wirepath: {error}");
            ExitCode::FAILURE
        }
    }
}

//! `make bench`.

use std::process::ExitCode;

use benches::system::{self, Options};
use clap::Parser;

#[derive(Parser)]
#[command(
    name = "wirepath-bench",
    about = "Runs QUIC stacks side by side over a veth pair, and prints medians."
)]
struct Program {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    match system::run(&Program::parse().options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wirepath-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

//! The `wirepath` command.

fn main() -> std::process::ExitCode {
    wirepath_cli::command::main()
}

//! `wirepath perf`, as a program of its own.

fn main() -> std::process::ExitCode {
    wirepath_cli::command::perf_main()
}

//! `wirepath top`: what the dashboard tells, in a terminal, over the same API.

mod client;
mod screen;

use std::{
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    thread,
    time::Duration,
};

use perf_protocol::Result;
use wirepath_dashboard::api::{ActorRow, ConnectionRow, Overview, Page};

use client::Client;

/// Clears the screen and goes to its upper left corner.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Options of `wirepath top`.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Where the dashboard is served.
    #[arg(default_value = "127.0.0.1:9650", value_name = "ADDRESS")]
    address: SocketAddr,
    /// Its token, if it has one. `WIREPATH_TOKEN` in the environment does as well.
    #[arg(long)]
    token: Option<String>,
    /// Seconds between two looks.
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    interval: f64,
    /// Looks once.
    #[arg(long)]
    once: bool,
    /// Actors and connections to show.
    #[arg(long, default_value_t = 10)]
    rows: u64,
}

/// What one look sees.
pub(crate) struct Look {
    pub(crate) overview: Overview,
    pub(crate) actors: Page<ActorRow>,
    pub(crate) connections: Page<ConnectionRow>,
}

/// Shows until Ctrl-C.
///
/// # Errors
/// The dashboard does not answer, or wants a token.
pub fn run(options: &Options) -> Result<()> {
    let token = options.token.clone().or_else(|| std::env::var("WIREPATH_TOKEN").ok());
    let client = Client::new(options.address, token);
    let rows = options.rows;
    loop {
        let look = Look {
            overview: client.get("overview")?,
            actors: client.get(&format!("actors?sort=busy_share&desc=true&limit={rows}"))?,
            connections: client.get(&format!("connections?sort=tx_bytes_per_s&desc=true&limit={rows}"))?,
        };
        let clear = if options.once || !io::stdout().is_terminal() { "" } else { CLEAR };
        print!("{clear}{}", screen::text(&look));
        io::stdout().flush()?;
        if options.once {
            return Ok(());
        }
        thread::sleep(Duration::from_secs_f64(options.interval.clamp(0.1, 3600.0)));
    }
}

//! quiche as a peer of the bench: over a UDP socket, with GSO and GRO.
//!
//! quiche does no I/O, so the event loop around it is ours: one for all connections, in [`driver`].

mod config;
mod connection;
mod driver;
mod socket;
mod transport;

use std::sync::Arc;

use clap::Parser;
use driver::{Driver, Endpoint};
use perf_protocol::{Options, READY, Result, Role, client, serve_connection};
use socket::Socket;
use transport::{Connected, QuicheConnector};

#[derive(Parser)]
#[command(about)]
struct Program {
    #[command(subcommand)]
    role: Role,
}

fn main() -> Result<()> {
    let role = Program::parse().role;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match role {
            Role::Server(options) => serve(&options).await,
            Role::Client(options) => request(&options).await,
        }
    })
}

async fn serve(options: &Options) -> Result<()> {
    let socket = Socket::new(options.bind_udp(options.listen_addr()?)?)?;
    let endpoint = Arc::new(Endpoint::new(socket.local, config::server(options)?));
    let datagrams = options.wants_datagrams();
    let accept = move |connection| {
        tokio::spawn(serve_connection(Connected(connection), datagrams));
    };
    let driver = Driver::new(socket, endpoint, options, Some(Box::new(accept)));
    println!("{READY}");
    // A task of its own, as that of `block_on` has its turn before all others.
    Ok(tokio::spawn(driver.run()).await??)
}

async fn request(options: &Options) -> Result<()> {
    let socket = Socket::new(options.bind_udp(options.local_addr())?)?;
    let endpoint = Arc::new(Endpoint::new(socket.local, config::client(options)?));
    tokio::spawn(Driver::new(socket, endpoint.clone(), options, None).run());
    let connector = QuicheConnector { endpoint, server: options.connect_addr()? };
    client::run("quiche", connector, options).await?;
    // Thousands of idle connections would take their time to go.
    std::process::exit(0)
}

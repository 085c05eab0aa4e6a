//! quinn as a peer of the bench: over UDP sockets, with GSO and GRO.

mod config;
mod transport;

use std::sync::Arc;

use clap::Parser;
use perf_protocol::{Options, READY, Result, Role, client, serve_connection};
use quinn::{Endpoint, TokioRuntime};
use transport::{Connected, QuinnConnector};

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
    let endpoint = Endpoint::new(
        config::endpoint(options)?,
        Some(config::server(options)?),
        options.bind_udp(options.listen_addr()?)?,
        Arc::new(TokioRuntime),
    )?;
    println!("{READY}");
    let datagrams = options.wants_datagrams();
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            if let Ok(connection) = incoming.await {
                serve_connection(Connected(connection), datagrams).await;
            }
        });
    }
    Ok(())
}

async fn request(options: &Options) -> Result<()> {
    let mut endpoint = Endpoint::new(
        config::endpoint(options)?,
        None,
        options.bind_udp(options.local_addr())?,
        Arc::new(TokioRuntime),
    )?;
    endpoint.set_default_client_config(config::client(options)?);
    let connector = QuinnConnector { endpoint, server: options.connect_addr()? };
    client::run("quinn", connector, options).await?;
    // Thousands of idle connections would take their time to go.
    std::process::exit(0)
}

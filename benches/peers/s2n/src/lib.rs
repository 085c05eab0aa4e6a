//! s2n-quic as a peer of the bench, but for its I/O provider: UDP sockets in this crate's program, AF_XDP in
//! `peer-s2n-xdp`.

mod transport;

use std::time::Duration;

use clap::Parser;
use perf_protocol::{ALPN, Options, READY, Result, Role, client, serve_connection};
use s2n_quic::provider::{datagram, io, limits::Limits, tls::s2n_tls};
use transport::{Accepted, S2nConnector};

/// Packets a stream fills before the next has its turn. The default of 1 costs many-stream bulk a third and
/// changes nothing else.
const STREAM_BATCH: u8 = 16;

const DATAGRAM_SEND_QUEUE: usize = 1024;
const DATAGRAM_RECEIVE_QUEUE: usize = 8192;

#[derive(Parser)]
#[command(about)]
struct Program {
    #[command(subcommand)]
    role: Role,
}

/// Runs a side of the bench, as the command line tells, on one thread.
pub fn block_on(side: impl AsyncFnOnce(Role) -> Result<()>) -> Result<()> {
    let role = Program::parse().role;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(side(role))
}

/// The server, until it is killed.
pub async fn serve(options: &Options, io: impl io::Provider) -> Result<()> {
    let tls = s2n_tls::Server::builder()
        .with_certificate(options.cert.as_path(), options.key.as_path())?
        .with_application_protocols([ALPN])?
        .build()?;
    let builder = s2n_quic::Server::builder().with_io(io)?.with_limits(limits(options)?)?.with_tls(tls)?;
    let datagrams = options.wants_datagrams();
    // Another provider is another type of builder, hence the two ends.
    let mut server =
        if datagrams { builder.with_datagram(datagram_queues()?)?.start()? } else { builder.start()? };
    println!("{READY}");
    while let Some(connection) = server.accept().await {
        tokio::spawn(serve_connection(Accepted::new(connection), datagrams));
    }
    Ok(())
}

/// The client: one run.
pub async fn request(name: &str, options: &Options, io: impl io::Provider) -> Result<()> {
    let tls = s2n_tls::Client::builder()
        .with_empty_trust_store()?
        .with_certificate(options.ca.as_path())?
        .with_application_protocols([ALPN])?
        .build()?;
    let builder = s2n_quic::Client::builder().with_io(io)?.with_limits(limits(options)?)?.with_tls(tls)?;
    let endpoint = if options.wants_datagrams() {
        builder.with_datagram(datagram_queues()?)?.start()?
    } else {
        builder.start()?
    };
    let connector = S2nConnector { endpoint, server: options.connect_addr()?, mtu: options.mtu };
    client::run(name, connector, options).await?;
    // Thousands of idle connections would take their time to go.
    std::process::exit(0)
}

fn limits(options: &Options) -> Result<Limits> {
    Ok(Limits::new()
        .with_data_window(options.conn_window)?
        .with_bidirectional_local_data_window(options.stream_window)?
        .with_bidirectional_remote_data_window(options.stream_window)?
        .with_max_send_buffer_size(u32::try_from(options.send_buffer)?)?
        .with_max_open_remote_bidirectional_streams(options.max_streams)?
        .with_max_open_local_bidirectional_streams(options.max_streams)?
        .with_stream_batch_size(STREAM_BATCH)?
        .with_max_idle_timeout(Duration::from_secs(120))?
        .with_max_handshake_duration(Duration::from_secs(30))?)
}

fn datagram_queues() -> Result<datagram::default::Endpoint> {
    Ok(datagram::default::Endpoint::builder()
        .with_send_capacity(DATAGRAM_SEND_QUEUE)?
        .with_recv_capacity(DATAGRAM_RECEIVE_QUEUE)?
        .build()?)
}

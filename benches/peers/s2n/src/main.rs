//! s2n-quic over UDP sockets, with GSO and GRO.

use std::net::SocketAddr;

use perf_protocol::{Options, Result, Role};
use s2n_quic::provider::io::tokio::Provider;

/// Between the endpoint and the socket. The default of 128 KiB holds two GSO buffers, and bulk starves.
const SEND_RING_LEN: usize = 1 << 20;

fn main() -> Result<()> {
    peer_s2n::block_on(async |role| match role {
        Role::Server(options) => peer_s2n::serve(&options, provider(&options, options.listen_addr()?)?).await,
        Role::Client(options) => {
            peer_s2n::request("s2n-udp", &options, provider(&options, options.local_addr())?).await
        }
    })
}

fn provider(options: &Options, addr: SocketAddr) -> Result<Provider> {
    Ok(Provider::builder()
        .with_rx_socket(options.bind_udp(addr)?)?
        .with_max_mtu(options.mtu)?
        .with_internal_send_buffer_size(SEND_RING_LEN)?
        .build()?)
}

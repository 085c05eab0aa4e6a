//! s2n-quic over AF_XDP, by the provider it ships: one socket for each queue of the interface, native mode, copy
//! mode (veth has no other).
//!
//! Two things are better here than as it ships: a flush repeats the `sendto` until the TX ring is empty (copy mode
//! sends 32 packets a call), and the rings hold 4,096 packets. UDP checksums are off, as UDP over veth computes
//! none either.

mod program;
mod sockets;

use std::{ffi::CString, net::UdpSocket};

use perf_protocol::{Options, Result, Role};
use s2n_quic::provider::io::xdp::{
    PathHandle, Provider, encoder,
    io::{self, router::Router},
    socket::{self, stats},
    tx::{self, TxExt as _},
};
use sockets::Sockets;

/// From the frame size it is told, the provider takes the headers' 42 bytes and calls the rest the MTU.
const HEADERS_LEN: u16 = 42;

fn main() -> Result<()> {
    peer_s2n::block_on(async |role| match role {
        Role::Server(options) => serve(&options).await,
        Role::Client(options) => request(&options).await,
    })
}

async fn serve(options: &Options) -> Result<()> {
    let interface = interface(options)?;
    let addr = options.listen_addr()?;
    // Holds the port; the packets themselves go to the AF_XDP sockets.
    let _reserved = socket::bind_udp(&interface, addr)?;
    let sockets = Sockets::open(&interface)?;
    program::attach(&interface, addr.port(), &sockets.descriptors)?;
    let provider = Provider::builder()
        .with_rx(io::rx::Rx::new(sockets.rx, sockets.umem.clone()))
        .with_tx(io::tx::Tx::new(sockets.tx, sockets.umem.clone(), without_checksums()))
        .with_frame_size(frame_size(options))?
        .build();
    peer_s2n::serve(options, provider).await
}

async fn request(options: &Options) -> Result<()> {
    let interface = interface(options)?;
    // The first packets leave through the kernel, which resolves the neighbour's address; the answer tells the
    // provider's router what to write from then on.
    let udp: UdpSocket = socket::bind_udp(&interface, options.local_addr())?;
    udp.set_nonblocking(true)?;
    let port = udp.local_addr()?.port();
    let sockets = Sockets::open(&interface)?;
    program::attach(&interface, port, &sockets.descriptors)?;
    let (stats_sender, stats_receiver) = stats::channel();
    let (udp_tx, udp_task) = tx::channel(udp, stats_sender);
    tokio::spawn(udp_task);
    let xdp_tx = io::tx::Tx::new(sockets.tx, sockets.umem.clone(), without_checksums());
    let udp_tx = udp_tx.with_handle_map(|path: &PathHandle| path.into());
    let provider = Provider::builder()
        .with_rx(io::rx::Rx::new(sockets.rx, sockets.umem.clone()))
        .with_tx(xdp_tx.with_router(Router::default(), udp_tx))
        .with_frame_size(frame_size(options))?
        .with_stats(stats_receiver)
        .build();
    peer_s2n::request("s2n-xdp", options, provider).await
}

fn interface(options: &Options) -> Result<CString> {
    let name = options.iface.as_deref().ok_or("AF_XDP needs --iface NAME")?;
    Ok(CString::new(name)?)
}

fn frame_size(options: &Options) -> u16 {
    (options.mtu + HEADERS_LEN).min(sockets::FRAME_SIZE as u16)
}

fn without_checksums() -> encoder::Config {
    let mut config = encoder::Config::default();
    config.set_checksum(false);
    config
}

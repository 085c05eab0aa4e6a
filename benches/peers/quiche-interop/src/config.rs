//! quiche's settings.

use quiche::{Config, PROTOCOL_VERSION};

use crate::{ClientOptions, Result, ServerOptions};

/// Streams a client may have open at first: fewer than the case `multiplexing` wants, so that the limit has to grow.
const STREAMS: u64 = 100;

const STREAM_WINDOW: u64 = 1 << 20;
const CONNECTION_WINDOW: u64 = 8 << 20;
const DATAGRAM_QUEUE: usize = 1024;
const IDLE_MILLIS: u64 = 30_000;

/// Fits a link of 1500 bytes, IPv6 too.
const UDP_PAYLOAD: usize = 1452;

pub(crate) fn server(options: &ServerOptions) -> Result<Config> {
    let mut config = common(&options.alpn, &options.test)?;
    config.load_cert_chain_from_pem_file(&options.cert)?;
    config.load_priv_key_from_pem_file(&options.key)?;
    Ok(config)
}

pub(crate) fn client(options: &ClientOptions) -> Result<Config> {
    let mut config = common(std::slice::from_ref(&options.alpn), &options.test)?;
    config.load_verify_locations_from_file(&options.ca)?;
    config.verify_peer(true);
    Ok(config)
}

fn common(alpn: &[String], test: &str) -> Result<Config> {
    let mut config = Config::new(PROTOCOL_VERSION)?;
    let protocols: Vec<_> = alpn.iter().map(|name| name.as_bytes()).collect();
    config.set_application_protos(&protocols)?;
    config.set_max_idle_timeout(IDLE_MILLIS);
    config.set_max_recv_udp_payload_size(UDP_PAYLOAD);
    config.set_max_send_udp_payload_size(UDP_PAYLOAD);
    config.set_initial_max_data(CONNECTION_WINDOW);
    config.set_initial_max_stream_data_bidi_local(STREAM_WINDOW);
    config.set_initial_max_stream_data_bidi_remote(STREAM_WINDOW);
    config.set_initial_max_streams_bidi(STREAMS);
    config.enable_dgram(true, DATAGRAM_QUEUE, DATAGRAM_QUEUE);
    if test == "zerortt" {
        config.enable_early_data();
    }
    Ok(config)
}

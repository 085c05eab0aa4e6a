//! The benches' common settings, as quiche has them: AES-128-GCM (BoringSSL's first choice) and X25519, every
//! handshake a full one, large windows, CUBIC, path MTU discovery up to the link's MTU.

use std::path::Path;

use boring::ssl::{SslContextBuilder, SslMethod, SslOptions};
use perf_protocol::{ALPN, Options, Result};
use quiche::{Config, CongestionControlAlgorithm, PROTOCOL_VERSION};

const DATAGRAM_RECEIVE_QUEUE: usize = 8192;
const DATAGRAM_SEND_QUEUE: usize = 1024;

pub(crate) fn server(options: &Options) -> Result<Config> {
    let mut config = common(options, tls()?)?;
    config.load_cert_chain_from_pem_file(text(&options.cert)?)?;
    config.load_priv_key_from_pem_file(text(&options.key)?)?;
    Ok(config)
}

pub(crate) fn client(options: &Options) -> Result<Config> {
    let mut tls = tls()?;
    tls.set_ca_file(&options.ca)?;
    let mut config = common(options, tls)?;
    config.verify_peer(true);
    Ok(config)
}

fn tls() -> Result<SslContextBuilder> {
    let mut tls = SslContextBuilder::new(SslMethod::tls())?;
    tls.set_options(SslOptions::NO_TICKET);
    Ok(tls)
}

fn common(options: &Options, tls: SslContextBuilder) -> Result<Config> {
    let mut config = Config::with_boring_ssl_ctx_builder(PROTOCOL_VERSION, tls)?;
    config.set_curves_list("X25519")?;
    config.set_application_protos(&[ALPN])?;
    config.grease(false);
    config.set_max_idle_timeout(120_000);
    let max_payload = usize::from(options.max_udp_payload());
    config.set_max_recv_udp_payload_size(max_payload);
    config.set_max_send_udp_payload_size(max_payload);
    config.discover_pmtu(true);
    config.set_initial_max_data(options.conn_window);
    config.set_max_connection_window(options.conn_window);
    config.set_initial_max_stream_data_bidi_local(options.stream_window);
    config.set_initial_max_stream_data_bidi_remote(options.stream_window);
    config.set_max_stream_window(options.stream_window);
    config.set_initial_max_streams_bidi(options.max_streams);
    config.set_disable_active_migration(true);
    config.set_cc_algorithm(CongestionControlAlgorithm::CUBIC);
    // It only tells when a packet should leave. To obey takes a queueing discipline, which the bench's link has
    // not, or a timer between trains that are some microseconds apart.
    config.enable_pacing(false);
    if options.wants_datagrams() {
        config.enable_dgram(true, DATAGRAM_RECEIVE_QUEUE, DATAGRAM_SEND_QUEUE);
    }
    Ok(config)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| format!("{} is not UTF-8", path.display()).into())
}

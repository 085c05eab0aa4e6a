//! Keys that rest, made here and by another provider's suites.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite as foreign};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, SupportedCipherSuite};
use s2n_quic_core::crypto::OneRttKey as _;

use super::handshake::{carries, same_masks};
use super::{Pair, certificate};
use crate::header::{VERSION_1, VERSION_2};
use crate::tls::{CipherSuite, ClientConfig, ServerConfig};

/// rustls' own suites on aws-lc, which protect packets by its code and not by ours.
pub(crate) const FOREIGN: [SupportedCipherSuite; 3] = [
    foreign::TLS13_AES_128_GCM_SHA256,
    foreign::TLS13_AES_256_GCM_SHA384,
    foreign::TLS13_CHACHA20_POLY1305_SHA256,
];

fn provider(suites: &[SupportedCipherSuite]) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { cipher_suites: suites.to_vec(), ..aws_lc_rs::default_provider() })
}

/// A server with suites of another provider.
pub(crate) fn foreign_server(chain: &str, key: &str, suites: &[SupportedCipherSuite]) -> ServerConfig {
    let chain = vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let mut tls = rustls::ServerConfig::builder_with_provider(provider(suites))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    tls.alpn_protocols = vec![b"test".to_vec()];
    ServerConfig::from_rustls(Arc::new(tls)).unwrap()
}

/// A client with suites of another provider.
pub(crate) fn foreign_client(roots: &str, suites: &[SupportedCipherSuite]) -> ClientConfig {
    let mut store = RootCertStore::empty();
    store.add(CertificateDer::from_pem_slice(roots.as_bytes()).unwrap()).unwrap();
    let mut tls = rustls::ClientConfig::builder_with_provider(provider(suites))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"test".to_vec()];
    ClientConfig::from_rustls(Arc::new(tls)).unwrap()
}

/// Keys rest on either side and go on as if they had not, through three generations.
fn rest_and_go_on(mut pair: Pair) {
    let (mut key, mut header) = pair.client.context.one_rtt.take().unwrap();
    let (mut other, mut other_header) = pair.server.context.one_rtt.take().unwrap();
    for _generation in 0..3 {
        assert!(carries(&mut key, &other) && carries(&mut other, &key));
        key.rest();
        header.rest();
        assert!(carries(&mut key, &other) && carries(&mut other, &key));
        other.rest();
        other_header.rest();
        other.wake();
        other_header.wake();
        assert!(carries(&mut key, &other) && carries(&mut other, &key));
        assert!(same_masks(&header, &other_header));
        (key, other) = (key.derive_next_key(), other.derive_next_key());
    }
}

#[test]
fn rested_keys_are_those_of_rustls_with_every_suite_and_version() {
    let (chain, key) = certificate(&["localhost"]);
    let own = |suite| {
        let client = ClientConfig::new(chain.as_bytes()).unwrap().alpn(["test"]);
        let server = ServerConfig::new(chain.as_bytes(), key.as_bytes()).unwrap().alpn(["test"]);
        (client.cipher_suites(&[suite]).unwrap(), server.cipher_suites(&[suite]).unwrap())
    };
    for (&suite, theirs) in CipherSuite::DEFAULT.iter().zip(FOREIGN) {
        let foreign = (foreign_client(&chain, &[theirs]), foreign_server(&chain, &key, &[theirs]));
        for version in [VERSION_1, VERSION_2] {
            let (client, server) = own(suite);
            let pairs =
                [(&client, &server), (&client, &foreign.1), (&foreign.0, &server), (&foreign.0, &foreign.1)];
            for (client, server) in pairs {
                let mut pair = Pair::with_version(client, server, version);
                pair.run().unwrap();
                rest_and_go_on(pair);
            }
        }
    }
}

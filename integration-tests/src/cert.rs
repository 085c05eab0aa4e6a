//! Certificates for tests: ECDSA P-256, each signed by itself.

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, date_time_ymd};

/// The name that servers of tests have.
pub const SERVER_NAME: &str = "localhost";

/// The protocol that tests speak.
pub const ALPN: &[u8] = b"wirepath-test";

/// A certificate and its key, as PEM text.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate; also what a client has to trust.
    pub certificate: String,
    /// The private key, PKCS #8.
    pub key: String,
}

impl Identity {
    /// A good certificate for [`SERVER_NAME`].
    pub fn new() -> Self {
        Self::named(SERVER_NAME)
    }

    /// A certificate for [`SERVER_NAME`] and so many other names that it has this many bytes and more.
    pub fn large(bytes: usize) -> Self {
        let names = (0..bytes / 32).map(|number| format!("host-{number:05}.subdomain.example.test"));
        let names: Vec<_> = std::iter::once(SERVER_NAME.to_owned()).chain(names).collect();
        Self::signed(CertificateParams::new(names).expect("names are ASCII"))
    }

    /// A certificate for another name.
    pub fn named(name: &str) -> Self {
        Self::signed(parameters(name))
    }

    /// A certificate for [`SERVER_NAME`] that expired long ago.
    pub fn expired() -> Self {
        let mut parameters = parameters(SERVER_NAME);
        parameters.not_before = date_time_ymd(2001, 1, 1);
        parameters.not_after = date_time_ymd(2002, 1, 1);
        Self::signed(parameters)
    }

    fn signed(parameters: CertificateParams) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("P-256 is supported");
        let certificate = parameters.self_signed(&key).expect("the parameters are sound");
        Self { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self::new()
    }
}

fn parameters(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::new([name.to_owned()]).expect("names are ASCII");
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters
}

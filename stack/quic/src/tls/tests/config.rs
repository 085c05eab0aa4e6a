//! Configurations that can't work say what to do.

use super::{certificate, configs};
use crate::header::VERSION_1;
use crate::tls::{ClientConfig, ConfigError, ServerConfig, Session};

#[test]
fn server_inputs() {
    let (chain, key) = certificate(&["localhost"]);
    let (_, other_key) = certificate(&["localhost"]);
    let new = |chain: &str, key: &str| ServerConfig::new(chain.as_bytes(), key.as_bytes()).unwrap_err();

    assert_eq!(new("", &key), ConfigError::NoCertificate);
    assert_eq!(new("no PEM at all", &key), ConfigError::NoCertificate);
    assert_eq!(new(&key, &key), ConfigError::NoCertificate);
    assert_eq!(new(&chain, ""), ConfigError::NoPrivateKey);
    assert_eq!(new(&chain, &chain), ConfigError::NoPrivateKey);
    assert_eq!(new(&chain, &other_key), ConfigError::KeyMismatch);

    let cut = &chain[..chain.len() / 2];
    assert!(matches!(new(cut, &key), ConfigError::BadPem { what: "certificate chain", .. }));
    let cut = &key[..key.len() / 2];
    assert!(matches!(new(&chain, cut), ConfigError::BadPem { what: "private key", .. }));

    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(new(nonsense, &key), ConfigError::BadCertificate { .. }));
    let nonsense = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert!(matches!(new(&chain, nonsense), ConfigError::BadKey { .. }));
}

#[test]
fn client_inputs() {
    let (chain, key) = certificate(&["localhost"]);
    assert_eq!(ClientConfig::new(b"").unwrap_err(), ConfigError::NoRoots);
    assert_eq!(ClientConfig::new(key.as_bytes()).unwrap_err(), ConfigError::NoRoots);
    let cut = &chain.as_bytes()[..chain.len() / 2];
    assert!(matches!(ClientConfig::new(cut), Err(ConfigError::BadPem { what: "root certificate", .. })));
    let nonsense = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(ClientConfig::new(nonsense), Err(ConfigError::BadCertificate { .. })));
}

#[test]
fn protocols_and_suites() {
    let (client, server) = configs();
    let none: [&str; 0] = [];
    assert_eq!(client.clone().alpn(none).validate(), Err(ConfigError::EmptyAlpn));
    assert_eq!(server.clone().alpn(none).validate(), Err(ConfigError::EmptyAlpn));
    assert_eq!(server.clone().alpn([""]).validate(), Err(ConfigError::BadAlpn { len: 0 }));
    assert_eq!(client.clone().alpn(["x".repeat(256)]).validate(), Err(ConfigError::BadAlpn { len: 256 }));
    assert_eq!(client.clone().cipher_suites(&[]).unwrap_err(), ConfigError::NoCipherSuite);
    assert_eq!(server.clone().cipher_suites(&[]).unwrap_err(), ConfigError::NoCipherSuite);
    assert_eq!((client.validate(), server.validate()), (Ok(()), Ok(())));

    let session = |name| Session::client(&client, name, VERSION_1, false, Vec::new());
    assert!(matches!(session(""), Err(ConfigError::BadServerName { .. })));
    assert!(matches!(session("two words"), Err(ConfigError::BadServerName { .. })));
    assert!(session("::1").is_ok() && session("192.0.2.1").is_ok() && session("example.com").is_ok());
    let silent = client.clone().alpn(none);
    assert!(matches!(
        Session::client(&silent, "a", VERSION_1, false, Vec::new()),
        Err(ConfigError::EmptyAlpn)
    ));
    let silent = server.alpn(none);
    assert!(matches!(Session::server(&silent, VERSION_1, Vec::new()), Err(ConfigError::EmptyAlpn)));
}

#[test]
fn texts_say_what_to_do() {
    let text = ConfigError::KeyMismatch.to_string();
    assert!(text.contains("does not match") && text.contains("give the key"), "{text}");
    let text = ConfigError::EmptyAlpn.to_string();
    assert!(text.contains("at least one ALPN name"), "{text}");
}

#[test]
fn nothing_secret_is_shown() {
    let (client, server) = configs();
    assert_eq!(
        format!("{server:?}"),
        r#"tls::ServerConfig { alpn: ["test"], tickets: 2, early_data: false, .. }"#
    );
    assert!(format!("{client:?}").starts_with(r#"tls::ClientConfig { alpn: ["test"]"#));
}

//! What can't be done is refused, with an error that says what to do about it.

use std::{net::UdpSocket, time::Duration};

use integration_tests::{
    cert::{ALPN, Identity, SERVER_NAME},
    needs,
    netns::{Namespace, Task},
    world::{INTERFACE, World},
};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use wirepath::{ClientConfig, ServerConfig, Stack, TransportConfig};

const DEADLINE: Duration = Duration::from_secs(20);

/// Runs async work on a thread of its own, within the deadline.
fn wait<R: Send + 'static>(work: impl AsyncFnOnce() -> R + Send + 'static) -> R {
    Task::runtime("refusal".into(), work).join(DEADLINE)
}

fn server(identity: &Identity) -> ServerConfig {
    ServerConfig::new(identity.certificate.as_bytes(), identity.key.as_bytes())
        .expect("a good identity")
        .alpn([ALPN])
}

fn client(trusted: &Identity) -> ClientConfig {
    ClientConfig::new(trusted.certificate.as_bytes()).expect("a good certificate").alpn([ALPN])
}

async fn os_udp() -> Stack {
    Stack::builder().os_udp().build().await.expect("a stack over OS UDP")
}

/// Checks that a message has these words in it.
#[track_caller]
fn says(error: impl std::fmt::Display, words: &[&str]) {
    let text = error.to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{text:?} does not say all of {words:?}");
}

#[test]
fn an_interface_that_does_not_exist() {
    let error = wait(async || Stack::builder().interface("nosuch0").build().await.map(drop).unwrap_err());
    says(error, &["nosuch0", "ip link"]);
}

#[test]
fn xdp_required_without_an_interface() {
    let error = wait(async || Stack::builder().require_xdp(true).build().await.map(drop).unwrap_err());
    says(error, &["AF_XDP", "interface"]);
}

#[test]
fn a_port_of_another_process() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = wait(async move || {
        let stack = os_udp().await;
        stack.listen(address, server(&Identity::new())).await.map(drop).unwrap_err()
    });
    says(error, &[&address.port().to_string(), "in use", "ss -lunp"]);
    drop(taken);
    wait(async move || {
        let stack = os_udp().await;
        // A child process that another test is just starting holds the socket too, until it is another program.
        while let Err(error) = stack.listen(address, server(&Identity::new())).await {
            says(error, &["in use"]);
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_port_of_the_same_stack() {
    wait(async || {
        let stack = os_udp().await;
        let listener = stack.listen(([127, 0, 0, 1], 0).into(), server(&Identity::new())).await.unwrap();
        let again = stack.listen(listener.local_addr(), server(&Identity::new())).await;
        says(again.map(drop).unwrap_err(), &[&listener.local_addr().port().to_string(), "already serves"]);
    });
}

#[test]
fn a_port_of_another_process_with_xdp() {
    needs!(Xdp);
    let world = World::pair(1500, 1).unwrap();
    let address = world.server.socket(integration_tests::world::Family::V4, 4433);
    let task = world.server.namespace.runtime(async move || {
        let _taken = UdpSocket::bind(address).unwrap();
        let stack = Stack::builder().interface(INTERFACE).require_xdp(true).build().await.unwrap();
        stack.listen(address, server(&Identity::new())).await.map(drop).unwrap_err()
    });
    says(task.join(DEADLINE), &["4433", "in use"]);
}

/// Drops all rights of the calling thread, and so of those it starts.
fn drop_rights() {
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none }).unwrap();
}

#[test]
fn missing_rights_are_named_and_os_udp_is_used_instead() {
    needs!(Xdp);
    let world = World::pair(1500, 1).unwrap();
    let address = world.server.socket(integration_tests::world::Family::V4, 4433);
    let task = world.server.namespace.runtime(async move || {
        drop_rights();
        let required = Stack::builder().interface(INTERFACE).require_xdp(true).build().await;
        let stack = Stack::builder().interface(INTERFACE).build().await.expect("OS UDP needs no rights");
        let _listener =
            stack.listen(address, server(&Identity::new())).await.expect("nor does a port above 1023");
        (required.map(drop).unwrap_err().to_string(), stack.status())
    });
    let (required, status) = task.join(DEADLINE);
    says(&required, &["AF_XDP", "CAP_", "root"]);
    assert!(!status.is_xdp());
    says(status.fallback.as_deref().unwrap_or_default(), &["CAP_"]);
    says(&status, &["OS UDP", "CAP_"]);
}

#[test]
fn certificates_that_can_not_be_read() {
    let good = Identity::new();
    let (certificate, key) = (good.certificate.as_bytes(), good.key.as_bytes());
    says(ServerConfig::new(b"", key).unwrap_err(), &["certificate"]);
    says(ServerConfig::new(b"not a certificate", key).unwrap_err(), &["certificate"]);
    says(ServerConfig::new(certificate, b"").unwrap_err(), &["key"]);
    says(ServerConfig::new(certificate, certificate).unwrap_err(), &["key"]);
    says(
        ServerConfig::new(certificate, Identity::new().key.as_bytes()).unwrap_err(),
        &["key", "certificate"],
    );
    says(ClientConfig::new(b"").unwrap_err(), &["certificate"]);
    says(ClientConfig::new(&certificate[..certificate.len() / 2]).unwrap_err(), &["PEM"]);
}

#[test]
fn no_application_protocol() {
    wait(async || {
        let stack = os_udp().await;
        let good = Identity::new();
        let config = ServerConfig::new(good.certificate.as_bytes(), good.key.as_bytes()).unwrap();
        let refused = stack.listen(([127, 0, 0, 1], 0).into(), config).await;
        says(refused.map(drop).unwrap_err(), &["ALPN"]);
    });
}

#[test]
fn windows_of_nothing() {
    wait(async || {
        let stack = os_udp().await;
        let config = server(&Identity::new()).transport(TransportConfig::default().stream_window(0));
        let refused = stack.listen(([127, 0, 0, 1], 0).into(), config).await;
        says(refused.map(drop).unwrap_err(), &["stream_window", "0"]);
    });
}

/// What a client says that connects to `served` trusting `trusted`.
fn connect_fails(served: Identity, trusted: Identity, name: &'static str, alpn: &'static [u8]) -> String {
    wait(async move || {
        let stack = os_udp().await;
        let listener = stack.listen(([127, 0, 0, 1], 0).into(), server(&served)).await.unwrap();
        let config = ClientConfig::new(trusted.certificate.as_bytes()).unwrap().alpn([alpn]);
        let refused = stack.connect(listener.local_addr(), name, config).await;
        refused.map(drop).unwrap_err().to_string()
    })
}

#[test]
fn a_server_of_an_unknown_issuer() {
    says(connect_fails(Identity::new(), Identity::new(), SERVER_NAME, ALPN), &["certificate"]);
}

#[test]
fn a_server_of_another_name() {
    let identity = Identity::named("elsewhere");
    says(connect_fails(identity.clone(), identity, SERVER_NAME, ALPN), &["certificate", "name"]);
}

#[test]
fn a_server_whose_certificate_has_expired() {
    let identity = Identity::expired();
    says(connect_fails(identity.clone(), identity, SERVER_NAME, ALPN), &["certificate", "expired"]);
}

#[test]
fn a_server_that_speaks_another_protocol() {
    let identity = Identity::new();
    says(connect_fails(identity.clone(), identity, SERVER_NAME, b"another"), &["protocol"]);
}

#[test]
fn a_server_name_that_is_none() {
    let identity = Identity::new();
    says(connect_fails(identity.clone(), identity, "not a name", ALPN), &["name"]);
}

#[test]
fn a_server_that_is_not_there() {
    let error = wait(async || {
        // Bound, so that no other server gets the port; never answered.
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let transport = TransportConfig::default().handshake_timeout(Duration::from_millis(700));
        let config = client(&Identity::new()).transport(transport);
        let refused = os_udp().await.connect(silent.local_addr().unwrap(), SERVER_NAME, config).await;
        refused.map(drop).unwrap_err()
    });
    says(error, &["handshake"]);
}

#[test]
fn a_family_that_has_no_address_here() {
    needs!(Root);
    let lonely = Namespace::new("lonely").unwrap();
    let task = lonely.runtime(async || {
        let config = client(&Identity::new());
        let refused = os_udp().await.connect("192.0.2.1:4433".parse().unwrap(), SERVER_NAME, config).await;
        refused.map(drop).unwrap_err()
    });
    says(task.join(DEADLINE), &["unreachable"]);
}

//! Several listeners on one address, told apart by their application protocols.

use wirepath::{ClientConfig, CloseReason, Error, Listener, ServerConfig, Stack, TransportConfig};

fn identity() -> (ServerConfig, ClientConfig) {
    let own = rcgen::generate_simple_self_signed(["localhost".into()]).expect("a certificate");
    let (certificate, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    let server = ServerConfig::new(certificate.as_bytes(), key.as_bytes()).expect("valid");
    (server, ClientConfig::new(certificate.as_bytes()).expect("valid"))
}

async fn listening(config: ServerConfig) -> (Stack, Listener) {
    let stack = Stack::builder().build().await.expect("build");
    let listener = stack.listen("127.0.0.1:0".parse().expect("an address"), config).await.expect("listen");
    (stack, listener)
}

#[tokio::test]
async fn each_client_reaches_the_listener_of_its_protocol_and_sees_its_certificate() {
    let (chat, to_chat) = identity();
    let (file, to_file) = identity();
    let (stack, chats) = listening(chat.alpn(["chat", "chat-2"])).await;
    let at = chats.local_addr();
    let files = stack.listen(at, file.alpn(["file"])).await.expect("another protocol");
    assert_eq!(files.local_addr(), at);
    let client = Stack::builder().build().await.expect("build");
    for protocol in ["chat", "chat-2", "chat"] {
        let config = to_chat.clone().alpn([protocol]);
        let (connected, accepted) = tokio::join!(client.connect(at, "localhost", config), chats.accept());
        assert_eq!(connected.expect("connected").alpn(), accepted.expect("accepted").alpn());
    }
    let (connected, accepted) =
        tokio::join!(client.connect(at, "localhost", to_file.clone().alpn(["file"])), files.accept());
    assert!(connected.is_ok() && accepted.is_some());
    // Of several the first listener's wins, whatever the client prefers.
    let (connected, accepted) = tokio::join!(
        client.connect(at, "localhost", to_chat.clone().alpn(["file", "chat-2"])),
        chats.accept()
    );
    assert!(connected.is_ok() && accepted.is_some());
    let nobody = client.connect(at, "localhost", to_chat.clone().alpn(["mail"])).await;
    assert!(matches!(nobody, Err(Error::Connection(_))), "{nobody:?}");

    // Without the first the second goes on; and the protocol is free.
    drop(chats);
    match client.connect(at, "localhost", to_chat.clone().alpn(["chat"])).await {
        Err(error) => assert!(matches!(error, Error::Connection(_)), "{error}"),
        // The partition had not heard of it yet.
        Ok(connection) => assert!(matches!(connection.closed().await, CloseReason::Application { .. })),
    }
    let (connected, accepted) =
        tokio::join!(client.connect(at, "localhost", to_file.alpn(["file"])), files.accept());
    assert!(connected.is_ok() && accepted.is_some());
    let (chat, to_chat) = identity();
    let chats = stack.listen(at, chat.alpn(["chat"])).await.expect("free again");
    let (connected, accepted) =
        tokio::join!(client.connect(at, "localhost", to_chat.alpn(["chat"])), chats.accept());
    assert!(connected.is_ok() && accepted.is_some());
}

#[tokio::test]
async fn a_protocol_is_served_once_and_settings_are_shared() {
    let server_config = || identity().0;
    let (stack, listener) = listening(server_config().alpn(["test"])).await;
    let at = listener.local_addr();
    let same = stack.listen(at, server_config().alpn(["other", "test"])).await;
    assert!(matches!(same, Err(Error::ProtocolInUse(told)) if told == at), "{same:?}");
    let other = server_config().alpn(["other"]).transport(TransportConfig::default().max_bidi_streams(7));
    let differs = stack.listen(at, other).await;
    assert!(matches!(differs, Err(Error::SettingsDiffer(told)) if told == at), "{differs:?}");
}

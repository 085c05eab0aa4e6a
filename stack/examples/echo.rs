//! An echo server: `cargo run --example echo -- CERT.pem KEY.pem [INTERFACE]`, with ALPN `echo` on UDP port 4433.

use std::{env, fs};

use wirepath::{Connection, ServerConfig, Stack};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [cert, key, interface @ ..] = &args[..] else {
        return Err("usage: echo CERT.pem KEY.pem [INTERFACE]".into());
    };
    let mut builder = Stack::builder();
    if let Some(interface) = interface.first() {
        builder = builder.interface(interface);
    }
    let stack = builder.build().await?;
    let config = ServerConfig::new(&fs::read(cert)?, &fs::read(key)?)?.alpn(["echo"]);
    let listener = stack.listen("[::]:4433".parse()?, config).await?;
    println!("echoing on {} over {}", listener.local_addr(), stack.status());
    listener.serve(echo);
    std::future::pending().await
}

async fn echo(connection: Connection) {
    while let Ok((mut send, mut receive)) = connection.accept_bi().await {
        connection
            .spawn(async move { tokio::io::copy(&mut receive, &mut send).await.map(|_| send.finish()) });
    }
}

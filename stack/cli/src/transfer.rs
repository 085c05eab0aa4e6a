//! `wirepath serve` and `wirepath get`.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::Arc,
};

use perf_protocol::{Result, transport::Connection};

use crate::{
    files::{self, Store},
    identity::{Identity, SERVER_NAME, read_pem},
    net::{Network, PathChoice, Target, bulk_transport},
};

/// Options of `wirepath serve`.
#[derive(clap::Args, Clone, Debug)]
pub struct ServeOptions {
    /// The folder whose files are served.
    folder: PathBuf,
    /// The address to listen on.
    #[arg(long, default_value = "0.0.0.0:4433")]
    bind: SocketAddr,
    /// The network interface to run AF_XDP on; OS UDP without one.
    #[arg(long, value_name = "NAME", alias = "interface")]
    iface: Option<String>,
    /// The socket of a `wirepath helper`, for a process without rights of its own.
    #[arg(long, value_name = "PATH", requires = "iface")]
    helper: Option<PathBuf>,
    /// Certificate chain, PEM. Where it and the key are missing, a self-signed one is made and kept there.
    #[arg(long, default_value = "cert.pem", value_name = "FILE")]
    cert: PathBuf,
    /// Private key, PEM.
    #[arg(long, default_value = "key.pem", value_name = "FILE")]
    key: PathBuf,
}

/// Options of `wirepath get`.
#[derive(clap::Args, Clone, Debug)]
pub struct GetOptions {
    /// The server's address.
    server: SocketAddr,
    /// The file's name on the server.
    name: String,
    /// Where to put it; by default a file of the same name, here.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The network interface to run AF_XDP on; OS UDP without one.
    #[arg(long, value_name = "NAME", alias = "interface")]
    iface: Option<String>,
    /// The socket of a `wirepath helper`, for a process without rights of its own.
    #[arg(long, value_name = "PATH", requires = "iface")]
    helper: Option<PathBuf>,
    /// The certificates it trusts, PEM.
    #[arg(long, default_value = "cert.pem", value_name = "FILE")]
    ca: PathBuf,
    /// The name the server's certificate is for.
    #[arg(long, default_value = SERVER_NAME, value_name = "NAME")]
    server_name: String,
}

/// Serves until Ctrl-C.
///
/// # Errors
/// The text says what to do.
pub async fn serve(options: ServeOptions) -> Result<()> {
    if !options.folder.is_dir() {
        return Err(format!("{} is no folder", options.folder.display()).into());
    }
    let identity = identity(&options)?;
    let network = Network::open(&PathChoice::prefer(options.iface).through(options.helper)).await?;
    let store = Arc::new(Store::Folder(options.folder));
    let handler = move |connection| files::serve_connection(store.clone(), connection);
    let listener = network.serve(options.bind, &identity, files::ALPN, bulk_transport(), handler).await?;
    println!("listening on {}, data path {}", listener.local_addr(), network.path());
    tokio::signal::ctrl_c().await?;
    drop(listener);
    network.close().await;
    Ok(())
}

/// Fetches one file.
///
/// # Errors
/// The text says what to do.
pub async fn get(options: GetOptions) -> Result<()> {
    let output = match options.output {
        Some(path) => path,
        None => PathBuf::from(options.name.rsplit('/').next().unwrap_or_default()),
    };
    let roots = read_pem(&options.ca)?;
    let target =
        Target::new(options.server, &options.server_name, roots.as_bytes(), files::ALPN, bulk_transport())?;
    let network = Network::open(&PathChoice::prefer(options.iface).through(options.helper)).await?;
    let connection = network.connect(&target).await?;
    // Under its name there is never less than the whole file.
    let partial = output.with_added_extension("part");
    let file = File::create(&partial).map_err(|error| format!("{}: {error}", partial.display()))?;
    let (fetcher, name) = (connection.clone(), options.name);
    let fetched = connection.spawn(async move { files::get(&fetcher, &name, file, |_, _| ()).await }).await?;
    let digest = fetched.inspect_err(|_| drop(fs::remove_file(&partial)))?;
    fs::rename(&partial, &output)?;
    println!("{digest}  {}", output.display());
    connection.close();
    network.close().await;
    Ok(())
}

fn identity(options: &ServeOptions) -> Result<Identity> {
    if options.cert.exists() || options.key.exists() {
        return Identity::read(&options.cert, &options.key);
    }
    let identity = Identity::generate()?;
    fs::write(&options.cert, &identity.certificate_pem)?;
    // Nobody else is to read the key.
    let mut key = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&options.key)?;
    key.write_all(identity.key_pem.as_bytes())?;
    Ok(identity)
}

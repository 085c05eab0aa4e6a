//! Logs of connections as qlog files, for [qvis](https://qvis.quictools.info) and the like.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
};

use wirepath_quic::Role;
pub use wirepath_quic::qlog::{Logs, Sink};

/// A file for each connection, `ORIGINAL-DESTINATION-ID_client.sqlog` or `…_server.sqlog`, in this folder, which is made if
/// it is not there. For [`TransportConfig::qlog`](crate::TransportConfig::qlog).
///
/// Records are gathered and written by 16 KiB, on the connection's partition: to be used for looking closely, on a disk that
/// keeps up. A connection whose file can't be made has no log; a log that can't be written any more ends there.
///
/// # Errors
/// If the folder can't be made.
pub fn to_folder(folder: impl Into<PathBuf>) -> io::Result<Logs> {
    let folder = folder.into();
    fs::create_dir_all(&folder)?;
    Ok(Logs::new(move |role, original_dcid| {
        let vantage = match role {
            Role::Client => "client",
            Role::Server => "server",
        };
        let id: String = original_dcid.as_slice().iter().map(|byte| format!("{byte:02x}")).collect();
        let mut file = File::create(folder.join(format!("{id}_{vantage}.sqlog"))).ok();
        let sink = move |records: &[u8]| {
            if file.as_mut().is_some_and(|file| file.write_all(records).is_err()) {
                file = None;
            }
        };
        Some(Box::new(sink))
    }))
}

//! `hq-interop`: HTTP/0.9 over QUIC. A request is `GET /name` and CR LF on a bidirectional stream; the answer is the
//! file and FIN, or a reset.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use perf_protocol::Result;
use wirepath::{Connection, RecvStream, SendStream, VarInt};

use crate::files::open_below;

/// Longest request read, in bytes: a name has at most 255 bytes, and a few folders may stand before it.
const MAX_REQUEST: usize = 4096;

/// Bytes read from a file at once.
const CHUNK: usize = 64 * 1024;

/// Error code of a request that can't be answered.
const REFUSED: VarInt = VarInt::from_u8(1);

/// Answers each stream of a connection with a file below the folder.
pub(super) async fn serve(connection: Connection, root: Arc<PathBuf>) {
    while let Ok((send, receive)) = connection.accept_bi().await {
        let root = root.clone();
        tokio::spawn(async move { answer(send, receive, &root).await });
    }
}

async fn answer(mut send: SendStream, mut receive: RecvStream, root: &Path) {
    let file = match request(&mut receive).await {
        Some(name) => open_below(root, &name).ok(),
        None => None,
    };
    let sent = match file {
        Some(file) => send_file(&mut send, file).await,
        None => Err("nothing to send".into()),
    };
    if sent.is_err() {
        // The peer takes no part for the whole; if it has gone, it does not matter.
        let _ = send.reset(REFUSED);
    }
}

/// The name asked for.
async fn request(receive: &mut RecvStream) -> Option<String> {
    let mut read = BytesMut::new();
    while !read.contains(&b'\n') && read.len() < MAX_REQUEST {
        match receive.read_chunk().await {
            Ok(Some(chunk)) => read.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(_) => return None,
        }
    }
    parse(&read)
}

fn parse(request: &[u8]) -> Option<String> {
    let line = request.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?.trim_end();
    let name = line.strip_prefix("GET ")?.trim_start_matches('/');
    (!name.is_empty() && request.len() <= MAX_REQUEST).then(|| name.to_owned())
}

async fn send_file(send: &mut SendStream, mut file: File) -> Result<()> {
    let mut left = file.metadata()?.len();
    while left > 0 {
        let mut chunk = BytesMut::zeroed(left.min(CHUNK as u64) as usize);
        file.read_exact(&mut chunk)?;
        left -= chunk.len() as u64;
        send.write_chunk(chunk.freeze()).await?;
    }
    Ok(send.finish()?)
}

/// Asks for a file on a stream of its own.
pub(super) async fn ask(connection: &Connection, path: &str) -> Result<RecvStream> {
    let (mut send, receive) = connection.open_bi().await?;
    let request = format!("GET /{}\r\n", path.trim_start_matches('/'));
    send.write_finish(Bytes::from(request)).await?;
    Ok(receive)
}

/// Puts the answer into a folder, under the path's last component. Under its name there is never less than the whole.
pub(super) async fn store(mut answer: RecvStream, path: &str, folder: &Path) -> Result<()> {
    let name = file_name(path)?;
    let partial = folder.join(format!("{name}.part"));
    let mut file = File::create(&partial).map_err(|error| format!("{}: {error}", partial.display()))?;
    loop {
        match answer.read_chunk().await {
            Ok(Some(chunk)) => file.write_all(&chunk)?,
            Ok(None) => break,
            Err(error) => {
                drop(fs::remove_file(&partial));
                return Err(format!("{path}: {error}").into());
            }
        }
    }
    Ok(fs::rename(&partial, folder.join(name))?)
}

/// A path's last component.
pub(super) fn file_name(path: &str) -> Result<&str> {
    let name = path.rsplit('/').next().unwrap_or_default();
    if matches!(name, "" | "." | "..") || name.contains('\0') {
        return Err(format!("{path:?} names no file").into());
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_and_nonsense_is_not() {
        for (request, name) in [
            (&b"GET /a\r\n"[..], Some("a")),
            (b"GET /a/b.bin\n", Some("a/b.bin")),
            (b"GET a", Some("a")),
            (b"GET /\r\n", None),
            (b"POST /a\r\n", None),
            (b"GET /\xff\r\n", None),
            (b"", None),
        ] {
            assert_eq!(parse(request).as_deref(), name, "{request:?}");
        }
        assert_eq!(parse(&[b"GET /".as_slice(), &[b'a'; MAX_REQUEST]].concat()), None);
    }

    #[test]
    fn what_comes_is_put_under_the_last_component() {
        assert_eq!(file_name("/a/b/c").unwrap(), "c");
        assert_eq!(file_name("c").unwrap(), "c");
        for path in ["", "/", "a/..", ".", "a/"] {
            assert!(file_name(path).is_err(), "{path}");
        }
    }
}

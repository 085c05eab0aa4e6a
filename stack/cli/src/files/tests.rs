//! The protocol over channels, with real files.

use std::{
    fs::{self, File},
    io::{Read, Seek, Write},
    sync::Arc,
};

use perf_protocol::{
    Json,
    transport::{Connection, Receiver, Sender},
};
use tokio::sync::mpsc;

use super::*;

struct Outgoing(Option<mpsc::Sender<Bytes>>);
struct Incoming(mpsc::Receiver<Bytes>);

impl Sender for Outgoing {
    async fn write(&mut self, data: Bytes) -> Result<()> {
        Ok(self.0.as_ref().ok_or("finished")?.send(data).await?)
    }

    async fn finish(&mut self, last: Bytes) -> Result<()> {
        self.write(last).await?;
        self.0 = None;
        Ok(())
    }
}

impl Receiver for Incoming {
    async fn read(&mut self) -> Result<Option<Bytes>> {
        Ok(self.0.recv().await)
    }

    async fn discard(&mut self) -> Result<Option<usize>> {
        Ok(self.read().await?.map(|chunk| chunk.len()))
    }
}

/// Every stream opened is answered from the store.
#[derive(Clone)]
struct Channels(Arc<Store>);

impl Connection for Channels {
    type Sender = Outgoing;
    type Receiver = Incoming;

    async fn open(&self) -> Result<(Outgoing, Incoming)> {
        let (out, server_in) = mpsc::channel(2);
        let (server_out, into) = mpsc::channel(2);
        let store = self.0.clone();
        tokio::spawn(
            async move { answer(&store, Outgoing(Some(server_out)), Incoming(server_in)).await.ok() },
        );
        Ok((Outgoing(Some(out)), Incoming(into)))
    }

    async fn accept(&self) -> Option<(Outgoing, Incoming)> {
        None
    }

    fn max_datagram(&self) -> Option<usize> {
        None
    }

    async fn send_datagram(&self, _data: Bytes) -> Result<()> {
        Err("none".into())
    }

    async fn receive_datagrams(&self) -> Result<u64> {
        Err("none".into())
    }

    fn close(&self) {}

    fn report(&self, json: Json) -> Json {
        json
    }
}

/// A folder of the test's own, gone with it.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("wirepath-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn sample(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 % 251) as u8).collect()
}

fn scratch() -> File {
    crate::demo::unnamed_file().unwrap()
}

fn read_all(mut file: File) -> Vec<u8> {
    let mut contents = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut contents).unwrap();
    contents
}

#[tokio::test]
async fn a_file_goes_there_and_back() {
    for len in [0, 1, 1_000_003] {
        let connection = Channels(Arc::new(Store::Slot(scratch())));
        let mut original = scratch();
        original.write_all(&sample(len)).unwrap();
        let mut told = (0, len as u64);
        let there = put(&connection, "any", original, |done, of| told = (done, of)).await.unwrap();
        assert_eq!(told, (len as u64, len as u64));
        let copy = scratch();
        let back = get(&connection, "any", copy.try_clone().unwrap(), |_, _| ()).await.unwrap();
        assert_eq!(there, back);
        assert_eq!(read_all(copy), sample(len));
    }
}

#[tokio::test]
async fn several_read_the_slot_at_once_and_each_gets_all_of_it() {
    let connection = Channels(Arc::new(Store::Slot(scratch())));
    let mut original = scratch();
    original.write_all(&sample(3_000_000)).unwrap();
    let there = put(&connection, "any", original, |_, _| ()).await.unwrap();
    let fetch = || get(&connection, "any", scratch(), |_, _| ());
    let (one, other, third) = tokio::join!(fetch(), fetch(), fetch());
    for back in [one, other, third] {
        assert_eq!(back.unwrap(), there);
    }
}

#[tokio::test]
async fn only_what_is_below_the_folder_is_served() {
    let folder = Folder::new("below");
    fs::create_dir(folder.0.join("public")).unwrap();
    fs::write(folder.0.join("public/file"), "open").unwrap();
    fs::write(folder.0.join("secret"), "closed").unwrap();
    std::os::unix::fs::symlink("../secret", folder.0.join("public/link")).unwrap();
    let connection = Channels(Arc::new(Store::Folder(folder.0.join("public"))));
    let copy = scratch();
    get(&connection, "file", copy.try_clone().unwrap(), |_, _| ()).await.unwrap();
    assert_eq!(read_all(copy), b"open");
    for (name, cause) in [
        ("../secret", "not allow"),
        ("/etc/passwd", "not allow"),
        ("link", "not allow"),
        ("", "not allow"),
        ("none", "no such file"),
        (".", "not allow"),
    ] {
        let error = get(&connection, name, scratch(), |_, _| ()).await.unwrap_err();
        assert!(error.to_string().contains(cause), "{name}: {error}");
    }
    let error = put(&connection, "file", scratch(), |_, _| ()).await.unwrap_err();
    assert!(error.to_string().contains("not allow"), "{error}");
}

#[tokio::test]
async fn requests_are_read_as_they_are_written() {
    let long = "n".repeat(MAX_NAME_LEN);
    for request in [Request::Get("a/b".into()), Request::Put(String::new()), Request::Get(long)] {
        let (sender, receiver) = mpsc::channel(MAX_NAME_LEN + 8);
        for byte in request.encode().unwrap() {
            sender.send(Bytes::copy_from_slice(&[byte])).await.unwrap();
        }
        assert_eq!(Request::read(&mut reader::Reader::new(Incoming(receiver))).await.unwrap(), request);
    }
    assert!(Request::Get("n".repeat(MAX_NAME_LEN + 1)).encode().is_err());
}

#[tokio::test]
async fn a_senseless_request_is_an_error() {
    for bytes in [&[9, 0, 0][..], &[1, 0, 9, b'x'], &[1, 0xff, 0xff], &[1, 0, 1, 0xff]] {
        let (sender, receiver) = mpsc::channel(1);
        sender.send(Bytes::copy_from_slice(bytes)).await.unwrap();
        drop(sender);
        assert!(Request::read(&mut reader::Reader::new(Incoming(receiver))).await.is_err(), "{bytes:?}");
    }
}

//! Where a server's files are.

use std::{
    fs::{File, OpenOptions},
    io,
    path::{Component, Path, PathBuf},
};

use super::Status;

/// What a server offers.
#[derive(Debug)]
pub enum Store {
    /// The files below a folder, to read.
    Folder(PathBuf),
    /// One file, whatever it is called, to write and read.
    Slot(File),
}

impl Store {
    pub(super) fn open_to_read(&self, name: &str) -> Result<File, Status> {
        match self {
            Self::Folder(root) => open_below(root, name),
            Self::Slot(file) => file.try_clone().map_err(|_| Status::Failed),
        }
    }

    pub(super) fn open_to_write(&self) -> Result<File, Status> {
        match self {
            Self::Folder(_) => Err(Status::Forbidden),
            Self::Slot(file) => file.try_clone().map_err(|_| Status::Failed),
        }
    }
}

/// Opens a file below a folder, and none elsewhere.
pub(crate) fn open_below(root: &Path, name: &str) -> Result<File, Status> {
    let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if !plain || name.is_empty() {
        return Err(Status::Forbidden);
    }
    let status = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Status::Missing,
        io::ErrorKind::PermissionDenied => Status::Forbidden,
        _ => Status::Failed,
    };
    // A symbolic link may lead out of the folder; what it comes to may not.
    let root = root.canonicalize().map_err(status)?;
    let path = root.join(name).canonicalize().map_err(status)?;
    if !path.starts_with(&root) {
        return Err(Status::Forbidden);
    }
    let file = OpenOptions::new().read(true).open(&path).map_err(status)?;
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(file),
        _ => Err(Status::Missing),
    }
}

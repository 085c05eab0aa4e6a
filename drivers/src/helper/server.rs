//! The helper: listens, admits, and serves each client on a thread of its own.

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{FileTypeExt, PermissionsExt, chown},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
        shutdown, socket_with,
    },
};

use super::{
    channel::Channel,
    lease::Place,
    message::{Refusal, Reply},
    peer::Peer,
    policy::HelperPolicy,
    session::Session,
};
use crate::{DriverError, Nic, XdpOptions};

/// Clients at a time. One leases an interface; more than that wait, or only ask.
const MAX_CLIENTS: usize = 64;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 16;

/// How long a refusal may take to be sent: there is room for it, the connection is new.
const REFUSAL_PATIENCE: Duration = Duration::from_millis(100);

/// Wait after a failed accept (out of descriptors), so that the processor has something else to do.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What a helper serves.
#[derive(Clone, Debug)]
pub struct HelperOptions {
    /// Where it listens.
    pub socket: PathBuf,
    /// The interfaces that may be leased.
    pub interfaces: Vec<String>,
    /// Who may ask, and for what.
    pub policy: HelperPolicy,
    /// Attaches its programs at once, so, and leaves them on their interfaces between leases. `None`: attached for
    /// each lease, as the client wishes.
    pub keep_attached: Option<XdpOptions>,
    /// Told, a line each, who comes, what is refused, and why somebody is gone.
    pub log: fn(&str),
}

/// A helper that listens and serves. When this is dropped it takes no more clients, and its socket's file goes; those
/// who have a lease keep it.
#[derive(Debug)]
pub struct Helper {
    socket: Arc<OwnedFd>,
    path: PathBuf,
}

/// What the threads of a helper share.
#[derive(Debug)]
pub(super) struct Office {
    pub(super) policy: HelperPolicy,
    pub(super) places: Vec<Arc<Place>>,
    pub(super) log: fn(&str),
    clients: AtomicUsize,
}

impl Helper {
    /// Listens and serves, on threads of its own; attaches programs if they are to stay attached.
    ///
    /// # Errors
    /// [`DriverError::NoInterface`]; [`DriverError::Helper`] when another helper listens there, or the file can't be
    /// made; whatever attaching says.
    pub fn start(options: HelperOptions) -> Result<Self, DriverError> {
        let HelperOptions { socket: path, interfaces, policy, keep_attached, log } = options;
        let mut places = Vec::new();
        for interface in interfaces {
            let place = Place::new(Nic::by_name(&interface)?.name, keep_attached.is_some(), log);
            if let Some(options) = keep_attached {
                place.attach(options)?;
            }
            places.push(Arc::new(place));
        }
        let fail = |error: io::Error| DriverError::Helper { path: path.clone(), why: error.to_string() };
        let socket = Arc::new(open(&path).map_err(fail)?);
        let helper = Self { socket: socket.clone(), path: path.clone() };
        grant(&path, &policy).map_err(fail)?;
        listen(&socket, BACKLOG).map_err(|error| fail(error.into()))?;
        let office = Arc::new(Office { policy, places, log, clients: AtomicUsize::new(0) });
        thread::Builder::new().name("helper".into()).spawn(move || office.receive(&socket)).map_err(fail)?;
        Ok(helper)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        // Wakes the thread that accepts, with EINVAL.
        let _ = shutdown(&self.socket, Shutdown::Both);
    }
}

impl Office {
    /// Takes clients until the socket is shut down.
    fn receive(self: Arc<Self>, socket: &OwnedFd) {
        loop {
            match accept_with(socket, SocketFlags::CLOEXEC) {
                Ok(client) => self.admit(client),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::INVAL) => return,
                Err(error) => {
                    (self.log)(&format!("a client can't be accepted: {error}"));
                    thread::sleep(ACCEPT_RETRY);
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, client: OwnedFd) {
        let peer = match Peer::of(client.as_fd()) {
            Ok(peer) => peer,
            Err(error) => return (self.log)(&format!("a client can't be told from others: {error}")),
        };
        let channel = Channel::new(client);
        let full = self.clients.load(Relaxed) >= MAX_CLIENTS;
        let verdict = self.policy.admit(&peer).and_then(|()| match full {
            true => Err(format!("it has {MAX_CLIENTS} clients already")),
            false => Ok(()),
        });
        if let Err(why) = verdict {
            (self.log)(&format!("{peer} is turned away: {why}"));
            let refusal = Reply::Refused(Refusal::Other(why)).encode();
            // It may have gone already.
            let _ = channel.send(&refusal, &[], REFUSAL_PATIENCE);
            return;
        }
        self.clients.fetch_add(1, Relaxed);
        let place = ClientPlace(self.clone());
        let session = Session::new(channel, peer, self.clone());
        let started = thread::Builder::new().name("client".into()).spawn(move || {
            let _place = place;
            session.run();
        });
        if let Err(error) = started {
            (self.log)(&format!("no thread for a client: {error}"));
        }
    }
}

/// Counts as one client while it lives.
struct ClientPlace(Arc<Office>);

impl Drop for ClientPlace {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Relaxed);
    }
}

/// A socket bound to the path, in the place of one that nobody listens at any more.
fn open(path: &Path) -> io::Result<OwnedFd> {
    let make = || socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let address = SocketAddrUnix::new(path)?;
    if fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        match connect(&make()?, &address) {
            Err(Errno::CONNREFUSED) => fs::remove_file(path)?,
            _ => return Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens there already")),
        }
    }
    let socket = make()?;
    bind(&socket, &address)?;
    Ok(socket)
}

/// Lets those connect that the policy admits, and as few others as the file's owner, group and mode can tell. The
/// policy has the last word in any case. Nobody can connect before: nobody listens yet.
fn grant(path: &Path, policy: &HelperPolicy) -> io::Result<()> {
    let owner = (policy.uids.len() == 1).then(|| policy.uids[0]);
    let group = (policy.gids.len() == 1).then(|| policy.gids[0]);
    if owner.is_some() || group.is_some() {
        chown(path, owner, group)?;
    }
    let told = policy.uids.len() <= 1 && policy.gids.len() <= 1;
    let mode = match (told, policy.gids.is_empty()) {
        (true, true) => 0o600,
        (true, false) => 0o660,
        (false, _) => 0o666,
    };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

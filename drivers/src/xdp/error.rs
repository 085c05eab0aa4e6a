//! What the kernel's refusals mean to a caller.

use std::{error::Error, io};

use rustix::thread::{CapabilitySet, capabilities};

use crate::DriverError;

/// What working with the program takes. Raw sockets are needed by AF_XDP, not here.
const RIGHTS: &str = "CAP_BPF and CAP_NET_ADMIN";

/// Turns an error of the loader into ours, by the system call's answer that is somewhere behind it.
pub(super) fn translate(what: &'static str, error: &(dyn Error + 'static)) -> DriverError {
    match os_error(error) {
        Some(number) => from_os(what, number, &error.to_string()),
        None => DriverError::Unsupported { what, why: error.to_string() },
    }
}

/// As [`translate`], of what only those with rights may do.
pub(super) fn not_loaded(error: &(dyn Error + 'static)) -> DriverError {
    const WHAT: &str = "loading an XDP program";
    match lacks_rights() {
        true => DriverError::MissingRights { what: WHAT, rights: RIGHTS },
        false => translate(WHAT, error),
    }
}

/// Whether the process may load no XDP program. The kernel's answer doesn't always say so: where
/// `kernel.unprivileged_bpf_disabled` is 0, anybody may make some maps, and is told of the first he may not as of a
/// wrong argument.
fn lacks_rights() -> bool {
    let sufficient = CapabilitySet::BPF | CapabilitySet::SYS_ADMIN;
    capabilities(None).is_ok_and(|sets| !sets.effective.intersects(sufficient))
}

/// Turns an answer of the kernel into ours. A verifier that refuses says `EACCES`; missing rights say `EPERM`.
pub(super) fn from_os(what: &'static str, number: i32, detail: &str) -> DriverError {
    match number {
        libc::EPERM => DriverError::MissingRights { what, rights: RIGHTS },
        libc::ENOSYS => {
            DriverError::Unsupported { what, why: "this kernel was built without BPF".to_owned() }
        }
        libc::EACCES | libc::EINVAL | libc::E2BIG | libc::EOPNOTSUPP => {
            DriverError::Unsupported { what, why: detail.to_owned() }
        }
        libc::ENODEV | libc::ENXIO => DriverError::Gone(format!("{what}: {detail}")),
        _ => DriverError::Io { what, source: io::Error::from_raw_os_error(number) },
    }
}

fn os_error(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    // Loader errors nest a few levels deep.
    for _ in 0..8 {
        let error = next?;
        if let Some(number) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(number);
        }
        next = error.source();
    }
    None
}

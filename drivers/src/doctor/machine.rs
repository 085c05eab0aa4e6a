//! The kernel's features, the process's rights, and the limits on both.

use std::fs;

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, socket_with},
    process::{Resource, getrlimit},
    thread::{CapabilitySet, capabilities},
};

use super::Finding;
use crate::{AfXdpOptions, DriverError, HelperClient, Nic, XdpProgram, af_xdp};

/// Where `wirepath helper` listens unless told otherwise.
const DEFAULT_SOCKET: &str = "/run/wirepath.sock";

/// What huge pages hold: see `umem::region`.
const HUGE_PAGE: u64 = 2 << 20;

pub(super) fn examine(nics: &[Nic]) -> Vec<Finding> {
    let rights = Rights::own();
    let need = nics.iter().map(umem_bytes).max().unwrap_or_default();
    vec![
        kernel(),
        rights.xsk(),
        rights.program(),
        rights.helper(),
        program(&rights),
        jit(),
        rights.memlock(need),
        huge_pages(need),
    ]
}

/// Bytes of UMEM that all queues of an interface take with the default options.
fn umem_bytes(nic: &Nic) -> u64 {
    let options = AfXdpOptions::new(nic.name.as_str(), 0);
    u64::from(nic.queues.rx) * af_xdp::umem_bytes(&options, nic.mtu)
}

fn kernel() -> Finding {
    const SUBJECT: &str = "kernel";
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    match socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None) {
        Err(Errno::AFNOSUPPORT) => Finding::broken(
            SUBJECT,
            format!("Linux {release} has no AF_XDP"),
            "boot a kernel built with CONFIG_XDP_SOCKETS=y",
        ),
        _ => Finding::good(SUBJECT, format!("Linux {release} has AF_XDP")),
    }
}

fn program(rights: &Rights) -> Finding {
    const SUBJECT: &str = "XDP program";
    match XdpProgram::load(false) {
        Ok(_) => Finding::good(SUBJECT, "the kernel's verifier takes ours"),
        Err(DriverError::MissingRights { .. }) => {
            Finding::improvable(SUBJECT, "it can't be tried without rights", rights.remedy())
        }
        Err(error) => {
            Finding::broken(SUBJECT, error.to_string(), "boot Linux 5.15 or later with CONFIG_BPF_SYSCALL=y")
        }
    }
}

fn jit() -> Finding {
    const SUBJECT: &str = "BPF JIT";
    // Readable by root only; kernels with CONFIG_BPF_JIT_ALWAYS_ON have it on and refuse other values.
    match fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").as_deref().map(str::trim) {
        Ok("0") => Finding::improvable(
            SUBJECT,
            "off: the XDP program is interpreted, at several times the cost",
            "sysctl -w net.core.bpf_jit_enable=1",
        ),
        Ok(_) => Finding::good(SUBJECT, "on"),
        Err(error) => Finding::good(SUBJECT, format!("not told ({error})")),
    }
}

fn huge_pages(need: u64) -> Finding {
    const SUBJECT: &str = "huge pages";
    let wanted = need.div_ceil(HUGE_PAGE);
    let told = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free = meminfo(&told, "HugePages_Free:").unwrap_or_default();
    let total = meminfo(&told, "HugePages_Total:").unwrap_or_default();
    let found = format!("{free} of {total} reserved ones are free");
    if total == 0 {
        // Nobody who did not ask for them misses them.
        return Finding::good(SUBJECT, "none reserved: the UMEM lies on ordinary pages");
    }
    if free >= wanted {
        return Finding::good(SUBJECT, found);
    }
    let reserve = total + wanted - free;
    let found = format!("{found}; the UMEM takes {wanted}, or lies on ordinary pages");
    Finding::improvable(SUBJECT, found, format!("sysctl -w vm.nr_hugepages={reserve}"))
}

fn meminfo(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// What the process may do.
struct Rights {
    effective: CapabilitySet,
    program: String,
}

impl Rights {
    fn own() -> Self {
        // Can't fail for the calling thread; if it should, no rights are assumed.
        let effective = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
        let program = std::env::current_exe().map_or("PROGRAM".into(), |path| path.display().to_string());
        Self { effective, program }
    }

    fn remedy(&self) -> String {
        format!("sudo setcap cap_net_raw,cap_net_admin,cap_bpf+ep {}", self.program)
    }

    fn xsk(&self) -> Finding {
        const SUBJECT: &str = "rights: sockets";
        let needed = [("CAP_NET_RAW", CapabilitySet::NET_RAW), ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN)];
        self.check(SUBJECT, &needed, "AF_XDP sockets")
    }

    fn program(&self) -> Finding {
        const SUBJECT: &str = "rights: program";
        let bpf = match self.effective.contains(CapabilitySet::SYS_ADMIN) {
            // As before Linux 5.8, the one includes the other.
            true => ("CAP_SYS_ADMIN", CapabilitySet::SYS_ADMIN),
            false => ("CAP_BPF", CapabilitySet::BPF),
        };
        self.check(SUBJECT, &[bpf, ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN)], "the XDP program")
    }

    fn check(&self, subject: &'static str, needed: &[(&str, CapabilitySet)], what: &str) -> Finding {
        let (held, lacking): (Vec<_>, Vec<_>) =
            needed.iter().partition(|(_, right)| self.effective.contains(*right));
        let names = |rights: &[&(&str, CapabilitySet)]| {
            rights.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" and ")
        };
        match lacking.is_empty() {
            true => Finding::good(subject, names(&held)),
            false => Finding::broken(subject, format!("{what} lack {}", names(&lacking)), self.remedy()),
        }
    }

    /// Who lacks rights may have a helper.
    fn helper(&self) -> Finding {
        const SUBJECT: &str = "helper";
        let needed = CapabilitySet::NET_RAW | CapabilitySet::NET_ADMIN;
        let client = HelperClient::new(DEFAULT_SOCKET);
        match client.probe() {
            Ok(()) => {
                Finding::good(SUBJECT, format!("one listens at {DEFAULT_SOCKET}, and takes this process"))
            }
            Err(_) if self.effective.contains(needed) => {
                Finding::good(SUBJECT, "none needed: this process has rights of its own")
            }
            Err(error) => Finding::improvable(
                SUBJECT,
                error.to_string(),
                format!(
                    "sudo wirepath helper --xdp IFACE --uid {}, and use it with --helper {DEFAULT_SOCKET}",
                    rustix::process::geteuid().as_raw()
                ),
            ),
        }
    }

    fn memlock(&self, need: u64) -> Finding {
        const SUBJECT: &str = "memlock";
        if self.effective.contains(CapabilitySet::IPC_LOCK) {
            return Finding::good(SUBJECT, "no limit: CAP_IPC_LOCK");
        }
        let need_kib = need.div_ceil(1024);
        match getrlimit(Resource::Memlock).current {
            None => Finding::good(SUBJECT, "no limit"),
            Some(limit) if limit >= need => {
                Finding::good(SUBJECT, format!("{} KiB; the UMEM takes {need_kib}", limit >> 10))
            }
            Some(limit) => Finding::broken(
                SUBJECT,
                format!("{} KiB, and the UMEM takes {need_kib}", limit >> 10),
                format!("ulimit -l {need_kib} (LimitMEMLOCK={need_kib}K in a unit), or smaller rings"),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    fn rights(effective: CapabilitySet) -> Rights {
        Rights { effective, program: "prog".into() }
    }

    #[test]
    fn lacking_rights_are_named_with_their_remedy() {
        let none = rights(CapabilitySet::NET_RAW);
        let finding = none.xsk();
        assert_eq!(
            (finding.verdict, finding.found.as_str()),
            (Verdict::Broken, "AF_XDP sockets lack CAP_NET_ADMIN")
        );
        assert_eq!(finding.remedy, "sudo setcap cap_net_raw,cap_net_admin,cap_bpf+ep prog");
        assert_eq!(none.program().found, "the XDP program lack CAP_BPF and CAP_NET_ADMIN");
        let all = rights(CapabilitySet::all());
        assert_eq!((all.xsk().verdict, all.program().verdict), (Verdict::Good, Verdict::Good));
        assert_eq!(all.memlock(u64::MAX).verdict, Verdict::Good);
    }

    #[test]
    fn meminfo_is_read() {
        let text = "MemTotal:  8 kB\nHugePages_Total:      12\nHugePages_Free:        7\n";
        assert_eq!(
            (meminfo(text, "HugePages_Total:"), meminfo(text, "HugePages_Free:")),
            (Some(12), Some(7))
        );
        assert_eq!(meminfo(text, "HugePages_Rsvd:"), None);
    }
}

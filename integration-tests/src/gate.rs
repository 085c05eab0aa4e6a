//! What a test needs of the machine, and how it says that it was skipped for want of it.

use std::{io::Write, path::PathBuf, sync::OnceLock};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::netns::Namespace;

/// What a test needs beyond an ordinary user's rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// To make network namespaces and links.
    Root,
    /// That, and AF_XDP sockets.
    Xdp,
    /// That, and a firewall on the way that tracks connections.
    Firewall,
    /// Wireshark's command line, by any user.
    Tshark,
    /// quiche's interop program, by any user.
    Quiche,
}

/// Where quiche's interop program is, if it has been built.
pub fn quiche() -> Option<PathBuf> {
    std::env::var_os("WIREPATH_QUICHE_INTEROP").map(PathBuf::from).filter(|path| path.is_file())
}

/// Returns from the calling test, saying so by name, if the machine lacks what it needs.
///
/// ```no_run
/// fn a_test() {
///     integration_tests::needs!(Xdp);
/// }
/// ```
#[macro_export]
macro_rules! needs {
    ($need:ident) => {{
        fn here() {}
        let test = std::any::type_name_of_val(&here).trim_end_matches("::here");
        if $crate::gate::skips(test, $crate::gate::Need::$need) {
            return;
        }
    }};
}

/// Whether `test` can't run here. Says so on standard output, past the capture of the test harness, so that
/// no test is skipped silently.
pub fn skips(test: &str, need: Need) -> bool {
    let Some(lack) = lack(need) else { return false };
    // The harness captures what `print!` writes, and shows it for failed tests only.
    let line = format!("SKIPPED {test}: needs {lack}\n");
    let _ = std::io::stdout().write_all(line.as_bytes());
    true
}

fn lack(need: Need) -> Option<&'static str> {
    static NAMESPACES: OnceLock<bool> = OnceLock::new();
    static XDP: OnceLock<bool> = OnceLock::new();
    if need == Need::Tshark {
        let answers = std::process::Command::new("tshark").arg("--version").output();
        return answers.is_err().then_some("tshark");
    }
    if need == Need::Quiche {
        return quiche().is_none().then_some("quiche's interop program, which `make test-quiche` builds");
    }
    if !rustix::process::geteuid().is_root() {
        return Some("root");
    }
    if !NAMESPACES.get_or_init(|| Namespace::new("probe").is_ok()) {
        return Some("the right to make network namespaces (CAP_SYS_ADMIN), and iproute2");
    }
    let xdp = || socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None).is_ok();
    static FIREWALL: OnceLock<bool> = OnceLock::new();
    if need != Need::Root && !XDP.get_or_init(xdp) {
        return Some("a kernel with AF_XDP (CONFIG_XDP_SOCKETS) and CAP_NET_RAW");
    }
    let firewall = || {
        const RULES: &str = "add table inet t; add chain inet t c { type filter hook forward priority 0; }; \
                             add rule inet t c ct state invalid counter drop";
        Namespace::new("probe").is_ok_and(|it| it.command("nft", &[RULES]).is_ok())
    };
    if need == Need::Firewall && !FIREWALL.get_or_init(firewall) {
        return Some("nftables, and a kernel that tracks connections (CONFIG_NF_CONNTRACK, CONFIG_NFT_CT)");
    }
    None
}

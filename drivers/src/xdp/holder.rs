//! Whose the XDP program on an interface is, as far as we may see it.

use std::{fs, path::Path};

/// The process that holds the XDP link of an interface, and its name; `None` if the program was attached without a
/// link, or its process is none of those we may look into. Reads all of `/proc/*/fdinfo`: for error messages.
pub(crate) fn holder_of(ifindex: u32) -> Option<String> {
    let own = std::process::id();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = ids.into_iter().find(|pid| holds(&Path::new("/proc").join(pid.to_string()), ifindex))?;
    if pid == own {
        return Some("this process".to_owned());
    }
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("process {pid} ({})", name.trim()))
}

fn holds(process: &Path, ifindex: u32) -> bool {
    // Gone since it was listed, or another user's.
    let Ok(files) = fs::read_dir(process.join("fdinfo")) else { return false };
    files.flatten().any(|file| fs::read_to_string(file.path()).is_ok_and(|told| is_link(&told, ifindex)))
}

/// Whether this `fdinfo` is one of an XDP link on the interface.
fn is_link(told: &str, ifindex: u32) -> bool {
    let field = |name: &str| told.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    field("link_type:") == Some("xdp") && field("ifindex:") == Some(ifindex.to_string().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_told_from_other_files() {
        let link = "pos:\t0\nflags:\t02000000\nlink_type:\txdp\nlink_id:\t7\nprog_id:\t9\nifindex:\t12\n";
        assert!(is_link(link, 12));
        assert!(!is_link(link, 1));
        assert!(!is_link("pos:\t0\nflags:\t02\n", 12));
    }
}

//! What the demo's processes tell the one that started them: lines of tab-separated words.

use std::fmt;

/// Which way the file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    There,
    Back,
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Report {
    /// The data path in use, and why not a better one.
    Path(String),
    /// The dashboard is here.
    Dashboard(String),
    /// The server listens here, with this certificate.
    Listening { address: String, certificate: String },
    /// Bytes so far, of all, and the time they took.
    Progress { direction: Direction, done: u64, total: u64, seconds: f64 },
    /// The file arrived whole: how long it took, and its SHA-256.
    Moved { direction: Direction, bytes: u64, seconds: f64, digest: String },
    /// The least and the smoothed round-trip time, in microseconds.
    RoundTrip { least: f64, smoothed: f64 },
    /// A counter, of drops or of losses.
    Counter { name: String, count: u64 },
    /// The file was moved; light traffic goes on.
    Lingers,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::There => "there",
            Self::Back => "back",
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "path\t{}", one_line(path)),
            Self::Dashboard(url) => write!(f, "dashboard\t{}", one_line(url)),
            Self::Listening { address, certificate } => {
                write!(f, "listening\t{address}\t{}", certificate.replace('\n', "|"))
            }
            Self::Progress { direction, done, total, seconds } => {
                write!(f, "progress\t{direction}\t{done}\t{total}\t{seconds}")
            }
            Self::Moved { direction, bytes, seconds, digest } => {
                write!(f, "moved\t{direction}\t{bytes}\t{seconds}\t{digest}")
            }
            Self::RoundTrip { least, smoothed } => write!(f, "round-trip\t{least}\t{smoothed}"),
            Self::Counter { name, count } => write!(f, "counter\t{}\t{count}", one_line(name)),
            Self::Lingers => f.write_str("lingers"),
        }
    }
}

fn one_line(text: &str) -> String {
    text.replace(['\t', '\n'], " ")
}

impl Report {
    /// The report a line is; `None` for anything else a process may print.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.trim_end_matches('\n').split('\t').collect();
        Some(match words[..] {
            ["path", path] => Self::Path(path.into()),
            ["dashboard", url] => Self::Dashboard(url.into()),
            ["listening", address, certificate] => {
                Self::Listening { address: address.into(), certificate: certificate.replace('|', "\n") }
            }
            ["progress", direction, done, total, seconds] => Self::Progress {
                direction: Direction::parse(direction)?,
                done: done.parse().ok()?,
                total: total.parse().ok()?,
                seconds: seconds.parse().ok()?,
            },
            ["moved", direction, bytes, seconds, digest] => Self::Moved {
                direction: Direction::parse(direction)?,
                bytes: bytes.parse().ok()?,
                seconds: seconds.parse().ok()?,
                digest: digest.into(),
            },
            ["round-trip", least, smoothed] => {
                Self::RoundTrip { least: least.parse().ok()?, smoothed: smoothed.parse().ok()? }
            }
            ["counter", name, count] => Self::Counter { name: name.into(), count: count.parse().ok()? },
            ["lingers"] => Self::Lingers,
            _ => return None,
        })
    }
}

impl Direction {
    fn parse(word: &str) -> Option<Self> {
        [Self::There, Self::Back].into_iter().find(|direction| direction.to_string() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_are_written() {
        for report in [
            Report::Path("AF_XDP (driver mode, copy) on eth0".into()),
            Report::Dashboard("http://127.0.0.1:9650/".into()),
            Report::Listening {
                address: "10.77.0.1:4433".into(),
                certificate: "-----\nMII=\n-----\n".into(),
            },
            Report::Progress { direction: Direction::There, done: 1, total: 2, seconds: 0.5 },
            Report::Moved { direction: Direction::Back, bytes: 3, seconds: 0.25, digest: "ab".into() },
            Report::RoundTrip { least: 41.5, smoothed: 900.0 },
            Report::Counter { name: "rx_dropped".into(), count: 7 },
            Report::Lingers,
        ] {
            assert_eq!(Report::parse(&format!("{report}\n")), Some(report));
        }
        assert_eq!(Report::parse("thread main panicked"), None);
        assert_eq!(Report::parse("progress\tsideways\t1\t2\t3"), None);
    }
}

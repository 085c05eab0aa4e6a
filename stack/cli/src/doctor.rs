//! `wirepath doctor`: what stands between this machine and AF_XDP, a line each, with what to type.

use std::fmt::Write as _;

use perf_protocol::{Json, Result};
use wirepath::doctor::{Finding, Verdict, examine};

/// What `wirepath doctor` takes.
#[derive(clap::Args)]
pub struct Options {
    /// Looks at this interface only; without it, at all that are Ethernet.
    #[arg(long, value_name = "NAME", alias = "interface")]
    iface: Option<String>,
    /// Prints an array of JSON objects, a line each.
    #[arg(long)]
    json: bool,
}

/// Looks, and prints what it found.
///
/// # Errors
/// There is no such interface, or AF_XDP can't work as things are.
pub async fn run(options: Options) -> Result<()> {
    let findings = examine(options.iface.as_deref()).await?;
    print!("{}", if options.json { json(&findings) } else { text(&findings) });
    match findings.iter().filter(|finding| finding.verdict == Verdict::Broken).count() {
        0 => Ok(()),
        count => Err(format!("{count} to put right before AF_XDP works").into()),
    }
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { interface, subject, verdict, found, remedy } in findings {
        let place = interface.as_deref().unwrap_or("machine");
        let word = match verdict {
            Verdict::Good => "OK",
            Verdict::Improvable => "better",
            Verdict::Broken => "BROKEN",
        };
        let _ = writeln!(text, "{word:<7} {place:<10} {subject:<15} {found}");
        if !remedy.is_empty() {
            let _ = writeln!(text, "{:<34} type: {remedy}", "");
        }
    }
    text
}

fn json(findings: &[Finding]) -> String {
    let objects = findings.iter().map(|finding| {
        let json = match &finding.interface {
            Some(interface) => Json::new().text("interface", interface),
            None => Json::new(),
        };
        let verdict = match finding.verdict {
            Verdict::Good => "ok",
            Verdict::Improvable => "improvable",
            Verdict::Broken => "broken",
        };
        let json =
            json.text("subject", finding.subject).text("verdict", verdict).text("found", &finding.found);
        match finding.remedy.as_str() {
            "" => json.to_string(),
            remedy => json.text("type", remedy).to_string(),
        }
    });
    format!("[\n{}\n]\n", objects.collect::<Vec<_>>().join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> [Finding; 2] {
        let good = Finding {
            interface: None,
            subject: "kernel",
            verdict: Verdict::Good,
            found: "fine".into(),
            remedy: String::new(),
        };
        let broken = Finding {
            interface: Some("eth0".into()),
            subject: "link",
            verdict: Verdict::Broken,
            found: "it is \"down\"".into(),
            remedy: "ip link set eth0 up".into(),
        };
        [good, broken]
    }

    #[test]
    fn a_remedy_has_a_line_of_its_own() {
        let text = text(&findings());
        let lines: Vec<_> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            ["OK machine kernel fine", "BROKEN eth0 link it is \"down\"", "type: ip link set eth0 up"]
        );
    }

    #[test]
    fn json_is_an_array_of_objects() {
        assert_eq!(
            json(&findings()),
            "[\n{\"subject\":\"kernel\",\"verdict\":\"ok\",\"found\":\"fine\"},\n{\"interface\":\"eth0\",\
             \"subject\":\"link\",\"verdict\":\"broken\",\"found\":\"it is \\\"down\\\"\",\
             \"type\":\"ip link set eth0 up\"}\n]\n"
        );
    }
}

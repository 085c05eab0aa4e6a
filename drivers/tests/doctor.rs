//! What the doctor tells of interfaces made to be wrong in one way each.

#[allow(dead_code)]
mod route_world;

use route_world::{A, in_world};
use wirepath_drivers::{Finding, Verdict, XdpModeWish, XdpProgram, examine};

async fn findings(interface: &str) -> Vec<Finding> {
    examine(Some(interface)).await.expect("it is there")
}

/// The finding about a subject, with its verdict checked.
#[track_caller]
fn about<'a>(findings: &'a [Finding], subject: &str, verdict: Verdict) -> &'a Finding {
    let found = findings.iter().find(|finding| finding.subject == subject);
    let found = found.unwrap_or_else(|| panic!("nothing about {subject}: {findings:?}"));
    assert_eq!(found.verdict, verdict, "{found:?}");
    found
}

#[test]
fn a_good_pair_is_told_to_be_so() {
    in_world("a_good_pair_is_told_to_be_so", async |_world, _side| {
        let findings = findings(A).await;
        for subject in ["kernel", "rights: sockets", "rights: program", "XDP program", "memlock"] {
            assert_eq!(about(&findings, subject, Verdict::Good).interface, None);
        }
        for subject in ["link", "driver", "MTU", "offloads", "other programs"] {
            assert_eq!(about(&findings, subject, Verdict::Good).interface.as_deref(), Some(A));
        }
        let elsewhere = about(&findings, "peer checksums", Verdict::Improvable);
        assert!(elsewhere.found.contains("another namespace"), "{elsewhere:?}");
        let all = examine(None).await.expect("all");
        assert!(
            all.iter().all(|finding| finding.interface.as_deref().is_none_or(|name| name == A)),
            "{all:?}"
        );
    });
}

#[test]
fn each_fault_has_its_remedy() {
    in_world("each_fault_has_its_remedy", async |world, _side| {
        world.a(
            "link add here numrxqueues 1 numtxqueues 1 type veth peer name there numrxqueues 2 numtxqueues 2",
        );
        let found = findings("here").await;
        assert_eq!(about(&found, "link", Verdict::Broken).remedy, "ip link set here up");
        let few = about(&found, "queues", Verdict::Broken);
        assert!(few.found.contains("2 TX of its peer there"), "{few:?}");
        assert_eq!(few.remedy, "ethtool -L there tx 1");
        assert!(
            about(&found, "peer checksums", Verdict::Improvable)
                .remedy
                .starts_with("ethtool -K there tx off")
        );
        world.a("link set here up");
        assert!(about(&findings("here").await, "link", Verdict::Broken).found.contains("other end"));
        world.a("link set there up");
        assert!(about(&findings("here").await, "link", Verdict::Broken).remedy.starts_with("ip addr add"));

        let program = XdpProgram::attach(A, XdpModeWish::default()).expect("attached");
        let told = findings(A).await;
        let other = about(&told, "other programs", Verdict::Broken);
        assert!(
            other.found.contains("driver mode") && other.remedy.starts_with("stop this process"),
            "{other:?}"
        );
        drop(program);
        about(&findings(A).await, "other programs", Verdict::Good);

        assert!(about(&findings("lo").await, "link", Verdict::Broken).found.contains("loopback"));
    });
}

#[test]
fn an_interface_that_is_not_there_is_an_error() {
    in_world("an_interface_that_is_not_there_is_an_error", async |_world, _side| {
        let error = examine(Some("nosuch0")).await.expect_err("not there");
        assert!(error.to_string().contains("nosuch0"), "{error}");
    });
}

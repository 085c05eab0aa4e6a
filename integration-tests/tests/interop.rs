//! Our stack against quinn, s2n-quic and itself, in both directions, over OS UDP and over AF_XDP: handshakes,
//! one byte, 64 KiB, and a hundred streams of mixed sizes, every byte checked.

use std::time::Duration;

use integration_tests::{
    case::{Case, Place, Stack},
    needs,
    work::Plan,
    world::{Family, Pair, World},
};

/// A world for the AF_XDP tests of one module, so that each has its own interfaces.
fn pair() -> Pair {
    World::pair(1500, 1).expect("a world")
}

/// 64 MiB each way take a few seconds; beside other tests on a small machine, many.
const DEADLINE: Duration = Duration::from_secs(120);

fn loopback(client: Stack, server: Stack, family: Family, plan: Plan) {
    Case::new(client, server, Place::Loopback(family), plan).within(DEADLINE).run();
}

fn across(client: Stack, server: Stack, family: Family, plan: Plan) {
    Case::new(client, server, Place::Across(&pair(), family), plan).within(DEADLINE).run();
}

/// The tests of one client against one server, over the data path that `$run` takes.
macro_rules! matrix {
    ($($name:ident: $client:ident to $server:ident, $run:ident $(, $need:ident)?;)+) => {
        $(mod $name {
            use super::*;

            fn run(family: Family, plan: Plan) {
                $run(Stack::$client, Stack::$server, family, plan);
            }

            #[test]
            fn handshakes() {
                $(needs!($need);)?
                run(Family::V4, Plan::handshake().on_connections(3));
                run(Family::V6, Plan::handshake());
            }

            #[test]
            fn one_byte() {
                $(needs!($need);)?
                run(Family::V4, Plan::bytes(1));
                run(Family::V6, Plan::bytes(1));
            }

            #[test]
            fn kib_64() {
                $(needs!($need);)?
                run(Family::V4, Plan::bytes(64 << 10));
                run(Family::V6, Plan::bytes(64 << 10));
            }

            #[test]
            fn hundred_mixed_streams() {
                $(needs!($need);)?
                run(Family::V6, Plan::mixed(100, 1 << 20));
            }

            #[test]
            fn broken_off_streams() {
                $(needs!($need);)?
                run(Family::V4, Plan::resets());
            }

            #[test]
            fn slow_64_mib() {
                $(needs!($need);)?
                run(Family::V4, Plan::bytes(64 << 20));
            }
        })+
    };
}

matrix! {
    ours_to_quinn_over_udp: OursUdp to Quinn, loopback;
    ours_to_s2n_over_udp: OursUdp to S2n, loopback;
    quinn_to_ours_over_udp: Quinn to OursUdp, loopback;
    s2n_to_ours_over_udp: S2n to OursUdp, loopback;
    ours_to_ours_over_udp: OursUdp to OursUdp, loopback;
    ours_to_quinn_over_xdp: OursXdp to Quinn, across, Xdp;
    ours_to_s2n_over_xdp: OursXdp to S2n, across, Xdp;
    quinn_to_ours_over_xdp: Quinn to OursXdp, across, Xdp;
    s2n_to_ours_over_xdp: S2n to OursXdp, across, Xdp;
    ours_to_ours_over_xdp: OursXdp to OursXdp, across, Xdp;
    ours_over_udp_to_ours_over_xdp: OursUdp to OursXdp, across, Xdp;
    ours_over_xdp_to_ours_over_udp: OursXdp to OursUdp, across, Xdp;
}

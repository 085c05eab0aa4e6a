//! Our stack against others and itself across wires that lose, double, reorder and damage packets, that are
//! slow and far, and with windows of a few packets. All of it over OS UDP and over AF_XDP, through a middlebox.

use std::time::Duration;

use integration_tests::{
    case::{Case, Outcome, Place, Stack},
    impair::{Direction, Impairment},
    needs,
    peers::Tuning,
    work::Plan,
    world::{Family, Link, World},
};

/// Two percent of packets are lost: CUBIC leaves few packets in flight, and a debug build is slow.
const DEADLINE: Duration = Duration::from_secs(90);

fn run(
    client: Stack,
    server: Stack,
    family: Family,
    rule: Impairment,
    plan: Plan,
    tuning: Tuning,
) -> Outcome {
    let world = World::impaired(Link::default(), rule).expect("a world");
    let case = Case::new(client, server, Place::Across(&world, family), plan);
    let outcome = case.tuned(tuning).within(DEADLINE).run();
    for direction in [Direction::ToServer, Direction::ToClient] {
        let counts = world.middlebox().counts(direction);
        assert_eq!(counts.overflowed, 0, "the middlebox was too slow: {counts:?}");
    }
    outcome
}

macro_rules! wires {
    ($($name:ident: $client:ident to $server:ident;)+) => {
        $(mod $name {
            use super::*;

            #[test]
            fn losing_two_percent() {
                needs!(Xdp);
                let wire = Impairment::losing(0.02, 21);
                run(Stack::$client, Stack::$server, Family::V4, wire, Plan::bytes(2 << 20), Tuning::default());
            }

            #[test]
            fn losing_two_percent_of_a_hundred_streams() {
                needs!(Xdp);
                let wire = Impairment::losing(0.02, 22);
                let plan = Plan::mixed(100, 100_000);
                run(Stack::$client, Stack::$server, Family::V6, wire, plan, Tuning::default());
            }

            #[test]
            fn losing_a_fifth_of_handshakes() {
                needs!(Xdp);
                let wire = Impairment::losing(0.2, 23);
                let plan = Plan::bytes(100).on_connections(5);
                run(Stack::$client, Stack::$server, Family::V4, wire, plan, Tuning::default());
            }

            #[test]
            fn doing_everything_wrong() {
                needs!(Xdp);
                let wire = Impairment::everything(0.01, 24);
                run(Stack::$client, Stack::$server, Family::V6, wire, Plan::mixed(16, 1 << 20), Tuning::default());
            }

            #[test]
            fn losing_two_percent_with_tight_windows() {
                needs!(Xdp);
                let wire = Impairment::losing(0.02, 25);
                run(Stack::$client, Stack::$server, Family::V4, wire, Plan::mixed(20, 50_000), Tuning::tight());
            }

            #[test]
            fn far_and_slow() {
                needs!(Xdp);
                // 20 Mbit/s, a round trip of 40 ms, and a queue of two thirds of what fits on the way.
                let wire = Impairment {
                    delay: Duration::from_millis(20),
                    rate: Some(2_500_000),
                    queue: 64 << 10,
                    ..Impairment::NONE
                };
                run(Stack::$client, Stack::$server, Family::V4, wire, Plan::bytes(2 << 20), Tuning::default());
            }

            #[test]
            fn breaking_streams_off() {
                needs!(Xdp);
                let wire = Impairment::everything(0.02, 26);
                run(Stack::$client, Stack::$server, Family::V4, wire, Plan::resets(), Tuning::default());
            }
        })+
    };
}

wires! {
    ours_to_quinn_over_udp: OursUdp to Quinn;
    s2n_to_ours_over_udp: S2n to OursUdp;
    ours_to_ours_over_udp: OursUdp to OursUdp;
    ours_to_quinn_over_xdp: OursXdp to Quinn;
    ours_to_s2n_over_xdp: OursXdp to S2n;
    quinn_to_ours_over_xdp: Quinn to OursXdp;
    s2n_to_ours_over_xdp: S2n to OursXdp;
    ours_to_ours_over_xdp: OursXdp to OursXdp;
}

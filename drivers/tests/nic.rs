//! Interfaces as they are: a veth pair made for the purpose.

#[allow(dead_code)]
mod route_world;

use route_world::{A, A_MAC, address, in_world};
use wirepath_drivers::{DriverError, Nic, ZeroCopy};

#[test]
fn an_interface_is_described() {
    in_world("an_interface_is_described", async |world, _side| {
        world.a(&format!("link set {A} mtu 1400"));
        let nic = Nic::by_name(A).expect("made for it");
        assert_eq!((nic.driver.as_deref(), nic.mtu, nic.mac), (Some("veth"), 1400, Some(A_MAC)));
        assert_eq!((nic.queues.rx, nic.queues.tx), (1, 1));
        assert!(nic.addresses.contains(&(address("10.77.0.1"), 24)), "{:?}", nic.addresses);
        assert!(nic.addresses.contains(&(address("fd77::1"), 64)), "{:?}", nic.addresses);
        assert_eq!(Nic::by_index(nic.index).expect("the same").name, A);
        let names: Vec<_> = Nic::all().expect("list").into_iter().map(|nic| nic.name).collect();
        assert!(names.contains(&A.to_owned()) && names.contains(&"lo".to_owned()), "{names:?}");
        assert!(!names.contains(&"eth0".to_owned()), "another namespace's");
    });
}

#[test]
fn queues_are_counted() {
    in_world("queues_are_counted", async |world, _side| {
        world.a("link add many numrxqueues 4 numtxqueues 3 type veth peer name ends");
        let queues = Nic::by_name("many").expect("made for it").queues;
        assert_eq!((queues.rx, queues.tx), (4, 3));
        assert!(queues.rx_max >= 4 && queues.tx_max >= 3, "{queues:?}");
    });
}

#[test]
fn the_state_of_a_link_is_seen() {
    in_world("the_state_of_a_link_is_seen", async |world, _side| {
        let state = || Nic::by_name(A).expect("there").link;
        assert!(state().is_up());
        world.b(&format!("link set {} down", route_world::B));
        assert!(state().admin_up && !state().carrier);
        world.a(&format!("link set {A} down"));
        assert!(!state().admin_up);
        world.a(&format!("link set {A} name renamed"));
        assert!(matches!(Nic::by_name(A), Err(DriverError::NoInterface { .. })));
        assert_eq!(Nic::by_name("renamed").expect("there").mac, Some(A_MAC));
    });
}

#[test]
fn xdp_support_is_told() {
    in_world("xdp_support_is_told", async |_world, _side| {
        let support = Nic::by_name(A).expect("made for it").xdp_support().expect("told");
        assert!(support.driver_mode && support.redirect, "{support:?}");
        assert_eq!(support.zero_copy, ZeroCopy::No, "veth copies");
        let loopback = Nic::by_name("lo").expect("there").xdp_support().expect("told");
        assert!(!loopback.driver_mode, "{loopback:?}");
    });
}

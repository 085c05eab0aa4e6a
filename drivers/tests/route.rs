//! Routes and neighbours on real interfaces.

mod route_world;

use route_world::{A, A_MAC, B, B_MAC, address, in_world, skipped, text};
use wirepath_drivers::{LinkEvent, NextHop, NextHops};

const NEW_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xc];

#[test]
fn a_cold_neighbour_is_solicited() {
    in_world("a_cold_neighbour_is_solicited", async |_world, mut side| {
        for (remote, source) in [("10.77.0.2", "10.77.0.1"), ("fd77::2", "fd77::1")] {
            assert_eq!(side.hops.lookup(address(remote)), NextHop::Pending);
            let hop = side.until_at(remote, B_MAC).await;
            let wanted =
                NextHop::Resolved { src_mac: A_MAC, dst_mac: B_MAC, src_ip: address(source), vlan: None };
            assert_eq!(hop, wanted);
        }
    });
}

#[test]
fn a_gateway_is_the_next_hop_of_what_lies_behind() {
    in_world("a_gateway_is_the_next_hop_of_what_lies_behind", async |world, mut side| {
        let link_local = "fe80::ff:fe00:b"; // from B's hardware address
        world.a("route add 198.51.100.0/24 via 10.77.0.2");
        world.a("route add 2001:db8:1::/48 via fd77::2");
        world.a(&format!("route add 2001:db8:2::/48 via {link_local} dev {A}"));
        world.a("route add 203.0.113.0/24 via inet6 fd77::2");
        for remote in ["198.51.100.9", "2001:db8:1::9", "2001:db8:2::9", "203.0.113.9", link_local] {
            side.until_at(remote, B_MAC).await;
        }
        let route = side.table.route(address("198.51.100.9")).await.expect("a route");
        assert_eq!((route.interface.as_str(), route.source), (A, address("10.77.0.1")));
        assert_eq!((route.gateway, route.local), (Some(address("10.77.0.2")), false));
    });
}

#[test]
fn a_new_hardware_address_is_noticed() {
    in_world("a_new_hardware_address_is_noticed", async |world, mut side| {
        for remote in ["10.77.0.2", "fd77::2"] {
            side.until_at(remote, B_MAC).await;
            world.a(&format!("neigh replace {remote} lladdr {} dev {A} nud reachable", text(NEW_MAC)));
            side.until_at(remote, NEW_MAC).await;
        }
    });
}

#[test]
fn a_suspected_neighbour_is_found_at_its_new_hardware_address() {
    in_world("a_suspected_neighbour_is_found_at_its_new_hardware_address", async |world, mut side| {
        for remote in ["10.77.0.2", "fd77::2"] {
            side.until_at(remote, B_MAC).await;
        }
        // Nobody tells: as when a standby gateway takes over the address.
        world.b(&format!("link set {B} address {}", text(NEW_MAC)));
        for remote in ["10.77.0.2", "fd77::2"] {
            let told = std::time::Instant::now();
            side.table.suspect(address(remote));
            let hop = side
                .until(remote, |hop| {
                    assert!(
                        matches!(hop, NextHop::Resolved { .. }),
                        "{hop:?}: the old way stays until there is a new"
                    );
                    matches!(hop, NextHop::Resolved { dst_mac: NEW_MAC, .. })
                })
                .await;
            println!("{remote}: {hop:?} after {:?}", told.elapsed());
        }
    });
}

#[test]
fn our_own_new_hardware_address_is_noticed() {
    in_world("our_own_new_hardware_address_is_noticed", async |world, mut side| {
        side.until_at("10.77.0.2", B_MAC).await;
        world.a(&format!("link set {A} address {}", text(NEW_MAC)));
        side.until("10.77.0.2", |hop| matches!(hop, NextHop::Resolved { src_mac: NEW_MAC, .. })).await;
    });
}

#[test]
fn a_route_change_is_noticed() {
    in_world("a_route_change_is_noticed", async |world, mut side| {
        world.a(&format!("neigh add 10.77.0.8 lladdr {} dev {A} nud permanent", text(NEW_MAC)));
        side.until_unreachable("198.51.100.9").await;
        world.a("route add default via 10.77.0.2");
        side.until_at("198.51.100.9", B_MAC).await;
        world.a("route add 198.51.100.0/25 via 10.77.0.8");
        side.until_at("198.51.100.9", NEW_MAC).await;
        world.a("route del 198.51.100.0/25");
        side.until_at("198.51.100.9", B_MAC).await;
        world.a("route add blackhole 198.51.100.9");
        side.until_unreachable("198.51.100.9").await;
        world.a("route del blackhole 198.51.100.9");
        side.until_at("198.51.100.9", B_MAC).await;
        world.a("rule add to 198.51.100.9 prohibit");
        side.until_unreachable("198.51.100.9").await;
        world.a("rule del to 198.51.100.9 prohibit");
        side.until_at("198.51.100.9", B_MAC).await;
        world.a("addr add 10.77.0.4/24 dev veth-a");
        world.a("route change default via 10.77.0.2 src 10.77.0.4");
        let from_new =
            |hop| matches!(hop, NextHop::Resolved { src_ip, .. } if src_ip == address("10.77.0.4"));
        side.until("198.51.100.9", from_new).await;
    });
}

#[test]
fn a_neighbour_that_does_not_answer_is_unreachable_until_it_does() {
    in_world("a_neighbour_that_does_not_answer_is_unreachable_until_it_does", async |world, mut side| {
        world.hasten();
        for (remote, len) in [("10.77.0.99", 24), ("fd77::99", 64)] {
            assert_eq!(side.hops.lookup(address(remote)), NextHop::Pending);
            side.until_unreachable(remote).await;
            world.b(&format!("addr add {remote}/{len} dev {B} {}", if len == 64 { "nodad" } else { "" }));
            side.until_at(remote, B_MAC).await;
        }
    });
}

#[test]
fn flushed_neighbours_stay_resolved_while_in_use() {
    in_world("flushed_neighbours_stay_resolved_while_in_use", async |world, mut side| {
        for remote in ["10.77.0.2", "fd77::2"] {
            side.until_at(remote, B_MAC).await;
            for _ in 0..20 {
                world.a(&format!("neigh flush dev {A}"));
                let told = side.hops.generation();
                let hop = side.hops.lookup(address(remote));
                assert!(matches!(hop, NextHop::Resolved { dst_mac: B_MAC, .. }), "{hop:?}");
                while side.hops.generation() == told {
                    tokio::task::yield_now().await;
                }
                let hop = side.hops.lookup(address(remote));
                assert!(matches!(hop, NextHop::Resolved { dst_mac: B_MAC, .. }), "{hop:?}");
            }
        }
    });
}

#[test]
fn a_stale_neighbour_in_use_is_confirmed() {
    in_world("a_stale_neighbour_in_use_is_confirmed", async |world, mut side| {
        for remote in ["10.77.0.2", "fd77::2"] {
            side.until_at(remote, B_MAC).await;
            world.a(&format!("neigh replace {remote} lladdr {} dev {A} nud stale", text(B_MAC)));
            let confirmed = || {
                let state = world.a(&format!("neigh show {remote} dev {A}"));
                ["DELAY", "PROBE", "REACHABLE"].iter().any(|better| state.contains(better))
            };
            // Use goes on.
            side.until(remote, |_| confirmed()).await;
        }
    });
}

#[test]
fn what_other_interfaces_reach_is_not_reached_by_this_one() {
    in_world("what_other_interfaces_reach_is_not_reached_by_this_one", async |world, mut side| {
        world.a("link add other type veth peer name beyond");
        world.a("addr add 10.99.0.1/24 dev other");
        world.a("link set other up");
        world.a("link set beyond up");
        for remote in ["10.99.0.2", "10.77.0.1", "127.0.0.1", "fd77::1", "224.0.0.1", "10.77.0.255"] {
            side.until_unreachable(remote).await;
        }
        assert_eq!(side.table.route(address("10.99.0.2")).await.expect("a route").interface, "other");
        assert!(side.table.route(address("10.77.0.1")).await.expect("a route").local);
        assert_eq!(side.table.route(address("192.0.2.1")).await, None);
        for (ip, local) in [
            ("127.0.0.9", true),
            ("::1", true),
            ("10.77.0.1", true),
            ("10.99.0.1", true),
            ("10.77.0.2", false),
        ] {
            assert_eq!(side.table.is_local(address(ip)), local, "{ip}");
        }
        world.a("addr del 10.99.0.1/24 dev other");
        let table = side.table.clone();
        side.until("10.77.0.2", |_| !table.is_local(address("10.99.0.1"))).await;
    });
}

#[test]
fn a_vlan_on_the_interface_is_tagged() {
    in_world("a_vlan_on_the_interface_is_tagged", async |world, mut side| {
        if !world.a_can("link add link veth-a name v5 type vlan id 5") {
            return skipped("a_vlan_on_the_interface_is_tagged", "this kernel has no VLAN devices");
        }
        world.a("addr add 10.78.0.1/24 dev v5");
        world.a("link set v5 up");
        world.b("link add link veth-b name v5 type vlan id 5");
        world.b("addr add 10.78.0.2/24 dev v5");
        world.b("link set v5 up");
        let hop = side.until_at("10.78.0.2", B_MAC).await;
        let wanted =
            NextHop::Resolved { src_mac: A_MAC, dst_mac: B_MAC, src_ip: address("10.78.0.1"), vlan: Some(5) };
        assert_eq!(hop, wanted);
    });
}

#[test]
fn the_life_of_links_is_told() {
    in_world("the_life_of_links_is_told", async |world, mut side| {
        let mut events = side.table.link_events();
        side.until_at("10.77.0.2", B_MAC).await;
        world.a(&format!("link set {A} down"));
        side.until_unreachable("10.77.0.2").await;
        world.a(&format!("link set {A} up"));
        side.until_at("10.77.0.2", B_MAC).await;
        let mut until = async |wanted: fn(&LinkEvent) -> bool| {
            while !wanted(&events.recv().await.expect("told")) {}
        };
        until(|event| matches!(event, LinkEvent::Changed(link) if link.name == A && !link.state.admin_up))
            .await;
        until(|event| matches!(event, LinkEvent::Changed(link) if link.name == A && link.state.is_up()))
            .await;
        world.b(&format!("link set {B} down"));
        until(|event| {
            matches!(event, LinkEvent::Changed(link)
                if link.name == A && link.state.admin_up && !link.state.carrier)
        })
        .await;
        world.b(&format!("link set {B} up"));
        until(|event| matches!(event, LinkEvent::Changed(link) if link.name == A && link.state.is_up()))
            .await;
        world.a(&format!("link set {A} mtu 1400"));
        until(|event| matches!(event, LinkEvent::Changed(link) if link.name == A && link.mtu == 1400)).await;
        world.a(&format!("link del {A}"));
        until(|event| matches!(event, LinkEvent::Removed(link) if link.name == A)).await;
        side.until_unreachable("10.77.0.2").await;
    });
}

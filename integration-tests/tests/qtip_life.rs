//! QTIP while AF_XDP is gone: no socket of the operating system speaks it, so connections wait, it is told, and they go
//! on where they were once the interface has AF_XDP again.

use std::{
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use integration_tests::{
    cert::Identity,
    fetch::{self, until},
    needs,
    ours::{DEADLINE, Server, client_config, connect, fetch, server_config, take_programs_off, xdp},
    world::{Family, Link, Pair, World},
};
use wirepath::{Connection, Stack, StackStatus};

/// One scene a process at a time: one of them takes all programs of the process off.
static ALONE: Mutex<()> = Mutex::new(());

fn says(status: &StackStatus, words: &str) -> bool {
    !status.is_xdp() && status.fallback.as_deref().is_some_and(|why| why.contains(words))
}

struct Scene {
    world: Pair,
    server: Server,
    at: SocketAddr,
    identity: Identity,
}

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scene {
    fn new() -> Self {
        let (world, identity) = (World::pair(1500, 1).unwrap(), Identity::new());
        let at = world.server.socket(Family::V4, 4433);
        let config = server_config(&identity).qtip(true);
        let server = Server::start(&world.server.namespace, xdp(), [(at, config)]);
        Self { world, server, at, identity }
    }

    /// Runs a client by QTIP, on two hosts; its connection serves to the end.
    fn run(self, between: impl AsyncFnOnce(&Stack, &Connection, &Self) + Send + 'static) {
        let namespace = self.world.client.namespace.clone();
        let client = namespace.runtime(async move || {
            let stack = xdp().build().await.unwrap();
            let connection = connect(&stack, self.at, self.config()).await.unwrap();
            fetch(&connection, 300_000).await;
            between(&stack, &connection, &self).await;
            let is_back = |status: &StackStatus| status.is_xdp() && status.fallback.is_none();
            until(&stack, is_back).await;
            until(&self.server.stack, is_back).await;
            fetch(&connection, 300_000).await;
            let second = connect(&stack, self.at, self.config()).await.unwrap();
            fetch(&second, 300_000).await;
            stack.close().await;
        });
        client.join(2 * DEADLINE);
    }

    fn config(&self) -> wirepath::ClientConfig {
        client_config(&self.identity).qtip(true)
    }
}

#[test]
fn an_interface_that_is_deleted_and_made_again() {
    needs!(Xdp);
    let _alone = alone();
    Scene::new().run(async |stack, _, scene| {
        scene.world.cut().unwrap();
        for stack in [stack, &scene.server.stack] {
            until(stack, |status| says(status, "wire0 was deleted")).await;
        }
        // Nobody can be reached by QTIP now, and is told why at once: there is no way, or no AF_XDP.
        let refused = connect(stack, scene.at, scene.config()).await.unwrap_err().to_string();
        assert!(refused.contains("unreachable") || refused.contains("was deleted"), "{refused}");
        scene.world.mend(Link::default()).unwrap();
    });
}

#[test]
fn an_interface_that_is_made_again_in_the_midst_of_a_transfer() {
    needs!(Xdp);
    let _alone = alone();
    Scene::new().run(async |_, connection, scene| {
        fetch::fetch(connection, 3_000_000, || {
            scene.world.cut().unwrap();
            scene.world.mend(Link::default()).unwrap();
        })
        .await;
    });
}

/// While another's program is on the interface, TCP segments reach the kernel, which knows no such connection.
#[test]
fn another_program_takes_the_place_for_a_while() {
    needs!(Xdp);
    if std::process::Command::new("bpftool").arg("version").output().is_err() {
        return println!("SKIPPED another_program_takes_the_place_for_a_while: needs bpftool");
    }
    let _alone = alone();
    Scene::new().run(async |stack, _, scene| {
        let other = loop {
            take_programs_off(&scene.world.client.namespace);
            if let Ok(other) = xdp().build().await {
                break other;
            }
        };
        until(stack, |status| says(status, "another XDP program")).await;
        let refused = connect(stack, scene.at, scene.config()).await.unwrap_err().to_string();
        assert!(refused.contains("QTIP") && refused.contains("another XDP program"), "{refused}");
        other.close().await;
    });
}

//! Sends an actor so many messages, one at a time, each answered before the next: `hop COUNT`. For
//! `make instructions`, which counts what a message takes, both ways.

use tokio::sync::mpsc;
use wirepath_actors::kit::{Actor, Context, Spawner, StopReason};

struct Echo(mpsc::UnboundedSender<u64>);

impl Actor for Echo {
    type Message = u64;
    const KIND: &'static str = "echo";
    const CREDIT: u32 = 64;

    async fn handle(&mut self, _cx: &Context<u64>, message: u64) -> Result<(), StopReason> {
        self.0.send(message).map_err(|_| StopReason::Done)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let count: u64 = std::env::args().nth(1).and_then(|count| count.parse().ok()).expect("usage: hop COUNT");
    let (answer, mut answers) = mpsc::unbounded_channel();
    let echo = Spawner::default().spawn("echo".into(), Echo(answer)).await.expect("the runtime is up");
    for message in 0..count {
        echo.send_data(message, 1).expect("an empty mailbox");
        assert_eq!(answers.recv().await, Some(message));
    }
}

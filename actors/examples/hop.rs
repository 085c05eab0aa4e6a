//! Sends an actor so many messages, one at a time, each answered before the next: `hop COUNT`, or `hop crew COUNT` with
//! the member of a crew. For `make instructions`, which counts what a message takes, both ways.

use tokio::sync::mpsc;
use wirepath_actors::kit::{Actor, Context, Crew, Mailbox, Member, Shift, Spawner, StopReason};

struct Echo(mpsc::UnboundedSender<u64>);

impl Actor for Echo {
    type Message = u64;
    const KIND: &'static str = "echo";
    const CREDIT: u32 = 64;

    async fn handle(&mut self, _cx: &Context<u64>, message: u64) -> Result<(), StopReason> {
        self.0.send(message).map_err(|_| StopReason::Done)
    }
}

struct MemberEcho(mpsc::UnboundedSender<u64>);

impl Member for MemberEcho {
    type Message = u64;
    const KIND: &'static str = "echo";
    const CREDIT: u32 = 64;
    const MESSAGES: &'static [&'static str] = &["number"];

    fn message_kind(_message: &u64) -> usize {
        0
    }

    fn handle(&mut self, _cx: &Shift<u64>, message: u64) -> Result<(), StopReason> {
        self.0.send(message).map_err(|_| StopReason::Done)
    }
}

async fn ask(echo: Mailbox<u64>, mut answers: mpsc::UnboundedReceiver<u64>, count: u64) {
    for message in 0..count {
        echo.send_data(message, 1).expect("an empty mailbox");
        assert_eq!(answers.recv().await, Some(message));
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments: Vec<_> = std::env::args().skip(1).collect();
    let count = arguments.pop().and_then(|count| count.parse().ok()).expect("usage: hop [crew] COUNT");
    let (answer, answers) = mpsc::unbounded_channel();
    if arguments.is_empty() {
        let echo = Spawner::default().spawn("echo".into(), Echo(answer)).await.expect("the runtime is up");
        return ask(echo, answers, count).await;
    }
    let crew = Crew::new(Spawner::default().registry().clone(), 0, |failure| panic!("{failure:?}"));
    let echo = crew.spawn("echo".into(), MemberEcho(answer)).expect("the crew runs");
    let running = tokio::spawn(crew.run());
    ask(echo, answers, count).await;
    running.abort();
}

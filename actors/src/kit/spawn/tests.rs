use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::kit::SendError;

/// A test actor that does as it is told.
struct Puppet {
    exits: mpsc::UnboundedSender<ExitCause>,
}

enum Order {
    Answer(oneshot::Sender<u64>),
    Fail,
    Panic,
    Finish,
    WaitFor(oneshot::Receiver<()>),
    Raise(oneshot::Sender<Mailbox<Order>>),
}

impl Actor for Puppet {
    type Message = Order;
    const KIND: &'static str = "puppet";
    const CREDIT: u32 = 8;

    async fn handle(&mut self, cx: &Context<Order>, order: Order) -> Result<(), StopReason> {
        match order {
            Order::Answer(reply) => drop(reply.send(cx.myself().id())),
            Order::Fail => return Err(StopReason::Failed("told to".into())),
            Order::Panic => panic!("told to"),
            Order::Finish => return Err(StopReason::Done),
            Order::WaitFor(go) => drop(go.await),
            Order::Raise(reply) => {
                let child = cx.spawn("child".into(), Puppet { exits: self.exits.clone() }).await;
                drop(reply.send(child.expect("the runtime is up")));
            }
        }
        Ok(())
    }

    async fn child_exited(&mut self, _cx: &Context<Order>, exit: ChildExit) -> Result<(), StopReason> {
        drop(self.exits.send(exit.cause));
        Ok(())
    }
}

async fn puppet(spawner: &Spawner) -> (Mailbox<Order>, mpsc::UnboundedReceiver<ExitCause>) {
    let (exits, seen) = mpsc::unbounded_channel();
    (spawner.spawn("top".into(), Puppet { exits }).await.expect("the runtime is up"), seen)
}

async fn answer(mailbox: &Mailbox<Order>) -> u64 {
    let (reply, answer) = oneshot::channel();
    mailbox.send(Order::Answer(reply)).expect("it lives");
    answer.await.expect("it answers")
}

async fn child(mailbox: &Mailbox<Order>) -> Mailbox<Order> {
    let (reply, child) = oneshot::channel();
    mailbox.send(Order::Raise(reply)).expect("it lives");
    child.await.expect("it answers")
}

#[tokio::test]
async fn an_actor_handles_its_mail_and_its_meter_balances() {
    let spawner = Spawner::default();
    let (mailbox, _) = puppet(&spawner).await;
    assert_eq!(answer(&mailbox).await, mailbox.id());
    answer(&mailbox).await;
    let figures = mailbox.meter().snapshot();
    assert_eq!(figures.message_sent, figures.message_handled + figures.depth);
    assert_eq!(spawner.registry().actors().len(), 1);
}

#[tokio::test]
async fn a_supervisor_outlives_a_child_that_fails_panics_is_killed_or_finishes() {
    let spawner = Spawner::default();
    let (top, mut exits) = puppet(&spawner).await;
    for order in [Order::Fail, Order::Panic] {
        child(&top).await.send(order).expect("it lives");
        assert!(matches!(exits.recv().await, Some(ExitCause::Failed(_))));
    }
    child(&top).await.send(Order::Finish).expect("it lives");
    assert!(matches!(exits.recv().await, Some(ExitCause::Stopped)));
    child(&top).await.kill();
    assert!(exits.recv().await.is_some());
    answer(&top).await;
    let kinds = spawner.registry().kinds();
    assert_eq!((kinds[0].actor_spawned, kinds[0].actor_stopped), (5, 4));
    assert!(kinds[0].actor_failed >= 2);
}

#[tokio::test]
async fn data_over_the_credit_is_refused_and_counted_and_control_mail_is_not() {
    let (mailbox, _) = puppet(&Spawner::default()).await;
    let (go, gate) = oneshot::channel();
    mailbox.send_data(Order::WaitFor(gate), 8).expect("within the credit");
    let (reply, _) = oneshot::channel();
    assert!(matches!(mailbox.send_data(Order::Answer(reply), 1), Err(SendError::Full(_))));
    assert_eq!(mailbox.meter().snapshot().item_dropped, 1);
    let (reply, answer) = oneshot::channel();
    mailbox.send(Order::Answer(reply)).expect("control mail is not limited");
    go.send(()).expect("it waits");
    answer.await.expect("it answers");
    let figures = mailbox.meter().snapshot();
    assert_eq!((figures.item_sent, figures.item_handled + figures.item_dropped), (9, 9));
}

#[tokio::test]
async fn a_message_that_gets_lost_is_missed() {
    let (mailbox, _) = puppet(&Spawner::default()).await;
    answer(&mailbox).await;
    mailbox.lose(3);
    let (reply, answer) = oneshot::channel();
    mailbox.send_data(Order::Answer(reply), 2).expect("it lives");
    answer.await.expect("it answers");
    while mailbox.meter().snapshot().message_handled < 2 {
        tokio::task::yield_now().await;
    }
    let figures = mailbox.meter().snapshot();
    assert_eq!((figures.message_missing, figures.item_missing, figures.depth), (1, 3, 0));
    assert_eq!(figures.message_sent, figures.message_handled + figures.message_dropped + 1);
}

#[tokio::test]
async fn mail_to_the_dead_comes_back_and_mail_left_behind_counts_as_dropped() {
    let (mailbox, _) = puppet(&Spawner::default()).await;
    let (_go, gate) = oneshot::channel();
    mailbox.send(Order::WaitFor(gate)).expect("it lives");
    let (left, lost) = oneshot::channel();
    mailbox.send(Order::Answer(left)).expect("it lives");
    mailbox.kill();
    lost.await.expect_err("never handled");
    let (reply, _) = oneshot::channel();
    while mailbox.actor().expect("of ractor's").get_status() != ractor::ActorStatus::Stopped {
        tokio::task::yield_now().await;
    }
    assert!(matches!(mailbox.send(Order::Answer(reply)), Err(SendError::Ended(Order::Answer(_)))));
    let figures = mailbox.meter().snapshot();
    assert_eq!((figures.depth, figures.message_sent), (0, figures.message_dropped + figures.message_handled));
}

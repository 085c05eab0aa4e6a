use std::sync::mpsc;

use wirepath_trace::Registry;

use super::*;
use crate::kit::SendError;

/// A test member that does as it is told.
struct Puppet {
    answers: mpsc::Sender<(u64, u32)>,
    panics_at_its_end: bool,
}

enum Order {
    Answer(u32),
    Fail,
    Panic,
    PanicAtItsEnd,
    Finish,
}

impl Member for Puppet {
    type Message = Order;
    const KIND: &'static str = "puppet";
    const CREDIT: u32 = 8;
    const MESSAGES: &'static [&'static str] = &["order"];

    fn message_kind(_order: &Order) -> usize {
        0
    }

    fn handle(&mut self, cx: &Shift<Order>, order: Order) -> Result<(), StopReason> {
        match order {
            Order::Answer(number) => drop(self.answers.send((cx.myself().id(), number))),
            Order::Fail => return Err(StopReason::Failed("told to".into())),
            Order::Panic => panic!("told to"),
            Order::PanicAtItsEnd => {
                self.panics_at_its_end = true;
                return Err(StopReason::Done);
            }
            Order::Finish => return Err(StopReason::Done),
        }
        Ok(())
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        assert!(!self.panics_at_its_end, "told to");
    }
}

/// A crew that runs when told.
struct World {
    registry: Arc<Registry>,
    crew: Crew<Puppet>,
    running: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
    answer: mpsc::Sender<(u64, u32)>,
    answers: mpsc::Receiver<(u64, u32)>,
    failures: mpsc::Receiver<MemberFailure>,
}

impl World {
    fn new() -> Self {
        let registry = Arc::new(Registry::default());
        let ((answer, answers), (failure, failures)) = (mpsc::channel(), mpsc::channel());
        let crew = Crew::new(registry.clone(), 7, move |it| failure.send(it).expect("the test listens"));
        let running = Box::pin(crew.run());
        Self { registry, crew, running, answer, answers, failures }
    }

    fn puppet(&self) -> Mailbox<Order> {
        let puppet = Puppet { answers: self.answer.clone(), panics_at_its_end: false };
        self.crew.spawn(String::new(), puppet).expect("the crew runs")
    }

    /// A turn. Whether there is more to do.
    fn turn(&mut self) -> bool {
        let woken = Arc::new(Woken::default());
        let waker = std::task::Waker::from(woken.clone());
        assert!(self.running.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        woken.0.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn answers(&self) -> Vec<(u64, u32)> {
        self.answers.try_iter().collect()
    }
}

#[derive(Default)]
struct Woken(std::sync::atomic::AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

fn order(to: &Mailbox<Order>, number: u32) {
    to.send(Order::Answer(number)).expect("it lives");
}

#[test]
fn members_handle_their_mail_in_order_and_their_meters_balance() {
    let mut world = World::new();
    let (one, two) = (world.puppet(), world.puppet());
    for number in 0..3 {
        order(&one, number);
        order(&two, number);
    }
    assert!(!world.turn());
    let expected: Vec<_> = (0..3).flat_map(|number| [(one.id(), number), (two.id(), number)]).collect();
    assert_eq!(world.answers(), expected);
    let figures = one.meter().snapshot();
    assert_eq!((figures.message_sent, figures.message_handled, figures.depth), (3, 3, 0));
    let records = world.registry.actors();
    assert_eq!(records.iter().map(|it| (it.kind(), it.parent)).collect::<Vec<_>>(), [("puppet", Some(7)); 2]);
}

#[test]
fn a_turn_has_an_end_and_mail_wakes_a_crew_that_sleeps() {
    let mut world = World::new();
    let puppet = world.puppet();
    (0..100).for_each(|number| order(&puppet, number));
    assert!(world.turn());
    assert_eq!(world.answers().len(), TURN_MESSAGES);
    assert!(!world.turn());
    assert_eq!(world.answers().len(), 100 - TURN_MESSAGES);
    let woken = Arc::new(Woken::default());
    let waker = std::task::Waker::from(woken.clone());
    assert!(world.running.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    order(&puppet, 0);
    assert!(woken.0.load(std::sync::atomic::Ordering::Relaxed));
}

#[test]
fn whoever_fails_panics_or_is_killed_ends_alone_and_the_supervisor_is_told() {
    let mut world = World::new();
    let stays = world.puppet();
    for (order, why) in [(Order::Fail, "told to"), (Order::Panic, "it panicked while it handled `order`")] {
        let goes = world.puppet();
        goes.send(order).unwrap_or_else(|_| panic!("it lives"));
        world.turn();
        let failure = world.failures.try_recv().expect("the supervisor is told");
        assert_eq!((failure.actor, &*failure.why), (goes.id(), why));
    }
    let goes = world.puppet();
    order(&goes, 1);
    goes.kill();
    world.turn();
    assert_eq!(world.failures.try_recv().expect("the supervisor is told").why, "it was killed");
    for last in [Order::Finish, Order::PanicAtItsEnd] {
        world.puppet().send(last).unwrap_or_else(|_| panic!("it lives"));
        world.turn();
        assert!(world.failures.try_recv().is_err(), "a plain end is no news");
    }
    assert_eq!(world.answers(), []);
    order(&stays, 5);
    world.turn();
    assert_eq!(world.answers(), [(stays.id(), 5)]);
    let kinds = world.registry.kinds();
    assert_eq!((kinds[0].actor_spawned, kinds[0].actor_stopped, kinds[0].actor_failed), (6, 5, 3));
    assert_eq!(world.registry.history().len(), 3);
}

#[test]
fn who_is_told_to_stop_handles_no_more_and_mail_to_the_dead_comes_back() {
    let mut world = World::new();
    let puppet = world.puppet();
    order(&puppet, 1);
    puppet.stop();
    world.turn();
    assert!(matches!(puppet.send(Order::Answer(2)), Err(SendError::Ended(Order::Answer(2)))));
    assert_eq!(world.answers(), []);
    let figures = puppet.meter().snapshot();
    assert_eq!((figures.message_sent, figures.message_dropped, figures.depth), (2, 2, 0));
    // Its place is another's now, and mail to it is not.
    let next = world.puppet();
    assert!(puppet.send(Order::Answer(3)).is_err());
    order(&next, 4);
    world.turn();
    assert_eq!(world.answers(), [(next.id(), 4)]);
}

#[test]
fn data_over_the_credit_is_refused_and_counted_and_control_mail_is_not() {
    let mut world = World::new();
    let puppet = world.puppet();
    puppet.send_data(Order::Answer(1), 8).expect("within the credit");
    assert!(matches!(puppet.send_data(Order::Answer(2), 1), Err(SendError::Full(_))));
    order(&puppet, 3);
    world.turn();
    assert_eq!(world.answers(), [(puppet.id(), 1), (puppet.id(), 3)]);
    puppet.send_data(Order::Answer(4), 8).expect("there is credit again");
    let figures = puppet.meter().snapshot();
    assert_eq!((figures.item_sent, figures.item_handled, figures.item_dropped), (17, 8, 1));
}

#[test]
fn with_its_task_a_crew_ends_and_mail_left_behind_counts_as_dropped() {
    let mut world = World::new();
    let (one, two) = (world.puppet(), world.puppet());
    (0..100).for_each(|number| order(&one, number));
    world.turn();
    order(&two, 1);
    world.running = Box::pin(std::future::pending());
    assert!(one.send(Order::Answer(0)).is_err() && two.send(Order::Answer(0)).is_err());
    for (mailbox, handled) in [(&one, TURN_MESSAGES as u64), (&two, 0)] {
        let figures = mailbox.meter().snapshot();
        assert_eq!((figures.message_handled, figures.depth), (handled, 0));
        assert_eq!(figures.message_sent, figures.message_handled + figures.message_dropped);
    }
    assert!(world.registry.actors().is_empty());
    let puppet = Puppet { answers: world.answer.clone(), panics_at_its_end: false };
    assert!(world.crew.spawn(String::new(), puppet).is_err());
}

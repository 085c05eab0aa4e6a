use super::*;

fn meter() -> Meter {
    Meter::new(Arc::new(KindMeter::new("test", &["one", "other"])))
}

/// Sends messages of so many items each.
fn send(meter: &Meter, items: &[u32]) -> Vec<Ticket> {
    items.iter().map(|items| meter.on_sent(*items, 7)).collect()
}

#[test]
fn sent_is_handled_plus_dropped_plus_queued() {
    let meter = meter();
    let tickets = send(&meter, &[1, 64, 3]);
    meter.on_handled(0, tickets[0], 1, 10, 20);
    meter.on_handled(0, tickets[1], 64, 10, 20);
    meter.on_refused(5);
    let figures = meter.snapshot();
    assert_eq!(figures.message_sent, figures.message_handled + figures.message_dropped + figures.depth);
    assert_eq!(figures.item_sent, figures.item_handled + figures.item_dropped + figures.item_depth);
    assert_eq!((figures.depth, figures.depth_peak, figures.item_depth), (1, 3, 3));
    assert_eq!((figures.message_missing, figures.item_missing), (0, 0));
    assert_eq!(meter.items_queued(), 3);
    assert_eq!((figures.wait_ns, figures.busy_ns), (20, 40));
}

#[test]
fn a_message_or_an_item_that_never_comes_is_missed() {
    let meter = meter();
    let tickets = send(&meter, &[8, 8, 8]);
    meter.on_handled(0, tickets[0], 8, 0, 0);
    // The second is gone, and one datagram out of the third.
    meter.on_handled(0, tickets[2], 7, 0, 0);
    let figures = meter.snapshot();
    assert_eq!((figures.message_missing, figures.item_missing), (1, 9));
    assert_eq!((figures.depth, figures.item_depth), (0, 0), "nothing waits");
    let accounted = figures.message_handled + figures.message_dropped + figures.depth;
    assert_eq!(figures.message_sent, accounted + 1);
}

#[test]
fn senders_that_overtake_each_other_settle() {
    let meter = meter();
    let tickets = send(&meter, &[2, 5]);
    meter.on_handled(0, tickets[1], 5, 0, 0);
    assert_eq!(meter.snapshot().message_missing, 1, "for the moment");
    meter.on_handled(0, tickets[0], 2, 0, 0);
    let figures = meter.snapshot();
    assert_eq!((figures.message_missing, figures.item_missing, figures.depth), (0, 0, 0));
}

#[test]
fn what_an_ended_actor_leaves_is_dropped_not_missing() {
    let meter = meter();
    let tickets = send(&meter, &[1, 2, 3]);
    meter.on_handled(0, tickets[0], 1, 0, 0);
    meter.on_dropped(2);
    meter.on_dropped(3);
    let figures = meter.snapshot();
    assert_eq!((figures.message_missing, figures.item_missing, figures.depth), (0, 0, 0));
    assert_eq!((figures.item_dropped, meter.depth(), meter.items_queued()), (5, 0, 0));
}

#[test]
fn histograms_are_the_kinds() {
    let kind = Arc::new(KindMeter::new("test", &["one", "other"]));
    for _ in 0..2 {
        let meter = Meter::new(kind.clone());
        let ticket = meter.on_sent(1, 0);
        meter.on_handled(1, ticket, 1, 5, 7);
    }
    let kind = kind.snapshot();
    assert_eq!((kind.wait.count(), kind.run.count()), (2, 2));
    assert_eq!((kind.messages[0].run.count(), kind.messages[1].run.count()), (0, 2));
}

#[test]
fn the_oldest_message_is_the_first_or_the_one_in_hand() {
    let meter = meter();
    let ticket = meter.on_sent(1, 100);
    meter.on_sent(1, 200);
    assert_eq!(meter.snapshot().oldest_at, 100);
    meter.on_taken(100);
    meter.on_handled(0, ticket, 1, 1, 1);
    meter.on_taken(200);
    assert_eq!((meter.snapshot().oldest_at, meter.snapshot().depth), (200, 1));
}

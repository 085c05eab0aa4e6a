use super::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];
const OURS: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// The machine, its clock, and one neighbour behind it.
struct Bench {
    neighbours: Neighbours,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self { neighbours: Neighbours::default(), now: Instant::now() }
    }

    fn need(&mut self) -> Arc<NeighbourCell> {
        self.neighbours.on_needed(key(), OURS, None, self.now)
    }

    fn see(&mut self, seen: Seen) {
        self.neighbours.on_seen(key(), seen, self.now);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.neighbours.on_timeout(self.now);
    }

    /// Goes to the next deadline.
    fn pass_to_due(&mut self) -> Duration {
        let due = self.neighbours.poll_timeout().expect("something is due");
        let wait = due.saturating_duration_since(self.now);
        self.pass(wait);
        wait
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.neighbours.poll_action()).collect()
    }
}

fn key() -> NeighbourKey {
    NeighbourKey { link: 3, ip: std::net::Ipv4Addr::new(10, 0, 0, 1).into() }
}

#[test]
fn an_unknown_neighbour_is_solicited_once_and_resolves() {
    let mut bench = Bench::new();
    let cell = bench.need();
    assert_eq!(cell.hop(), Hop::Pending);
    bench.need();
    assert_eq!(bench.actions(), [Action::Solicit(key())]);
    bench.neighbours.poll_changed();
    bench.see(Seen::Fresh(MAC));
    assert!(bench.neighbours.poll_changed());
    assert_eq!((cell.hop(), cell.source()), (Hop::At(MAC), OURS));
    assert_eq!(bench.neighbours.poll_timeout(), None);
}

#[test]
fn a_known_neighbour_is_used_at_once() {
    for (seen, actions) in [
        (Seen::Fresh(MAC), vec![]),
        (Seen::Fixed(MAC), vec![]),
        (Seen::Stale(MAC), vec![Action::Solicit(key())]),
    ] {
        let mut bench = Bench::new();
        bench.see(seen);
        assert_eq!(bench.need().hop(), Hop::At(MAC));
        assert_eq!(bench.actions(), actions, "{seen:?}");
    }
}

#[test]
fn one_that_does_not_answer_is_given_up_and_tried_again_while_wanted() {
    let mut bench = Bench::new();
    let cell = bench.need();
    bench.see(Seen::Failed);
    assert_eq!(cell.hop(), Hop::Pending, "one failed round is not enough");
    let _ = cell.use_hop();
    bench.see(Seen::Failed);
    assert_eq!(cell.hop(), Hop::Unreachable);
    assert_eq!(bench.actions().len(), 2);
    let mut waits = Vec::new();
    for _ in 0..8 {
        let _ = cell.use_hop();
        waits.push(bench.pass_to_due().as_secs());
        assert_eq!(bench.actions(), [Action::Solicit(key())]);
        assert_eq!(cell.hop(), Hop::Unreachable, "until it answers");
        bench.see(Seen::Failed);
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
    // Nobody wants it any more.
    bench.pass_to_due();
    assert_eq!(bench.actions(), []);
    assert_eq!((cell.hop(), bench.neighbours.poll_timeout()), (Hop::Cold, None));
    // Somebody does again.
    assert!(cell.warm());
    bench.need();
    assert_eq!(bench.actions(), [Action::Solicit(key())]);
    bench.see(Seen::Fresh(MAC));
    assert_eq!(cell.hop(), Hop::At(MAC));
}

#[test]
fn a_round_without_word_from_the_kernel_counts_as_failed() {
    let mut bench = Bench::new();
    let cell = bench.need();
    assert_eq!(bench.pass_to_due(), ROUND_PATIENCE);
    let _ = cell.use_hop();
    assert_eq!(bench.actions().len(), 2);
    assert_eq!(bench.pass_to_due(), ROUND_PATIENCE);
    assert_eq!(cell.hop(), Hop::Unreachable);
}

#[test]
fn a_stale_one_is_confirmed_when_used_and_not_before() {
    let mut bench = Bench::new();
    bench.see(Seen::Fresh(MAC));
    let cell = bench.need();
    assert!(cell.take_used());
    bench.pass(WANTED_FOR);
    bench.see(Seen::Stale(MAC));
    assert_eq!(bench.actions(), []);
    bench.pass_to_due();
    assert_eq!(bench.actions(), []);
    let _ = cell.use_hop();
    assert_eq!(bench.pass_to_due(), STALE_SWEEP);
    assert_eq!(bench.actions(), [Action::Solicit(key())]);
    assert!(bench.neighbours.poll_changed(), "so that devices show whether they still use it");
    bench.see(Seen::Fresh(OTHER));
    assert_eq!(cell.hop(), Hop::At(OTHER));
}

#[test]
fn a_flush_keeps_the_hardware_address_in_force() {
    let mut bench = Bench::new();
    bench.see(Seen::Fresh(MAC));
    let cell = bench.need();
    bench.see(Seen::Failed);
    bench.see(Seen::Gone);
    assert_eq!(cell.hop(), Hop::At(MAC));
    assert!(bench.actions().contains(&Action::Solicit(key())));
    bench.see(Seen::Fresh(OTHER));
    assert_eq!(cell.hop(), Hop::At(OTHER));
}

#[test]
fn one_gone_and_unused_is_cold() {
    let mut bench = Bench::new();
    bench.see(Seen::Fresh(MAC));
    let cell = bench.need();
    assert!(cell.take_used());
    bench.pass(WANTED_FOR);
    bench.see(Seen::Gone);
    assert_eq!((cell.hop(), bench.actions()), (Hop::Cold, vec![]));
}

#[test]
fn a_suspect_is_rediscovered_and_doubted_until_it_answers() {
    let mut bench = Bench::new();
    bench.see(Seen::Fresh(MAC));
    let cell = bench.need();
    let suspect = |bench: &mut Bench| {
        cell.set_doubted(true);
        bench.neighbours.on_suspect(&cell, bench.now);
        cell.is_doubted()
    };
    for round in 0..2 {
        assert!(suspect(&mut bench));
        assert!(suspect(&mut bench), "the doubts of two are one");
        assert_eq!(bench.actions(), [Action::Rediscover(key())], "round {round}");
        bench.see(Seen::Failed); // our own doing
        assert_eq!(cell.hop(), Hop::At(MAC));
        assert!(suspect(&mut bench), "not answered yet");
        bench.see(Seen::Fresh(MAC));
        assert!(!cell.is_doubted());
        assert!(!suspect(&mut bench), "answered a moment ago");
        assert_eq!(bench.actions(), []);
        bench.pass(Duration::from_millis(30));
    }
    // It asked us for our address before it answered: the kernel knows its own, unconfirmed.
    assert!(suspect(&mut bench));
    bench.see(Seen::Failed);
    bench.see(Seen::Stale(OTHER));
    assert_eq!((cell.hop(), cell.is_doubted()), (Hop::At(OTHER), false));
    bench.actions();
    bench.pass(Duration::from_millis(30));
    // What the administrator set is not ours to take away.
    bench.see(Seen::Fixed(MAC));
    assert!(!suspect(&mut bench));
    assert_eq!(bench.actions(), []);
}

#[test]
fn a_reading_of_the_whole_table_tells_what_is_gone() {
    let mut bench = Bench::new();
    bench.see(Seen::Fresh(MAC));
    let cell = bench.need();
    bench.neighbours.on_all_seen(vec![(key(), Seen::Fresh(OTHER))], bench.now);
    assert_eq!(cell.hop(), Hop::At(OTHER));
    bench.neighbours.on_all_seen(Vec::new(), bench.now);
    assert_eq!(bench.actions(), [Action::Solicit(key())]);
    assert_eq!(cell.hop(), Hop::At(OTHER));
}

#[test]
fn our_own_hardware_address_reaches_all_cells_of_the_link() {
    let mut bench = Bench::new();
    let cell = bench.need();
    bench.neighbours.poll_changed();
    bench.neighbours.on_source(key().link + 1, OTHER);
    assert!(!bench.neighbours.poll_changed());
    bench.neighbours.on_source(key().link, OTHER);
    assert!(bench.neighbours.poll_changed());
    assert_eq!(cell.source(), OTHER);
}

#[test]
fn neighbours_nobody_goes_through_are_forgotten() {
    let mut bench = Bench::new();
    let kept = bench.need();
    for n in 0..10_000u32 {
        let ip = std::net::Ipv4Addr::from_bits(0x0b00_0000 + n).into();
        drop(bench.neighbours.on_needed(NeighbourKey { link: 3, ip }, OURS, None, bench.now));
    }
    assert!(bench.neighbours.tracked.len() <= FEW + 1, "{}", bench.neighbours.tracked.len());
    assert!(Arc::ptr_eq(&kept, &bench.need()));
}

#[test]
fn a_link_that_is_up_again_is_asked_anew_at_once() {
    let mut bench = Bench::new();
    let cell = bench.need();
    bench.actions();
    // Down: nobody answers, and the kernel tells of no failure.
    bench.neighbours.on_link_up(key().link + 1, bench.now);
    assert_eq!(bench.actions(), [], "another link");
    bench.neighbours.on_link_up(key().link, bench.now);
    assert_eq!(bench.actions(), [Action::Solicit(key())]);
    bench.see(Seen::Fresh(MAC));
    bench.neighbours.on_link_up(key().link, bench.now);
    assert_eq!((bench.actions(), cell.hop()), (vec![], Hop::At(MAC)), "nothing waits for an answer");
}

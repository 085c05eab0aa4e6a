use std::{
    sync::{Weak, mpsc},
    thread,
};

use super::{super::FrameSize, *};

fn umem(frame_count: u32, rx_reserve: u32, tx_reserve: u32) -> Umem {
    UmemPool::new(UmemOptions {
        frame_size: FrameSize::TwoKib,
        frame_count,
        rx_reserve,
        tx_reserve,
        huge_pages: false,
    })
    .unwrap()
}

fn fill(pool: &UmemPool, wanted: usize) -> Vec<u64> {
    let mut addresses = [0; FILL_BATCH];
    let taken = pool.take_for_fill(wanted, &mut addresses);
    addresses[..taken].to_vec()
}

#[test]
fn a_frame_goes_round_and_every_place_is_in_the_audit() {
    let umem = umem(16, 4, 4);
    let pool = umem.pool();
    let addresses = fill(pool, 3);
    assert_eq!((pool.audit().fill, pool.audit().free), (3, 13));
    let (received, offset) = pool.received(addresses[0] + 256).unwrap();
    assert_eq!((received.capacity(), offset), (2048, 256));
    let mut leased = pool.lease().unwrap();
    leased.as_mut_slice().fill(7);
    assert_eq!((pool.audit().rx_app, pool.audit().tx_app), (1, 1));
    let sent = pool.submit(leased).unwrap();
    let sent_on = pool.submit(received).unwrap();
    assert_eq!(pool.audit().tx_ring, 2);
    assert_eq!(pool.complete(&[sent + 100, sent_on]), 0);
    pool.quarantine(pool.received(addresses[1]).unwrap().0);
    let audit = pool.audit();
    assert!(audit.is_sound());
    assert_eq!((audit.free, audit.fill, audit.quarantined, audit.rejected), (14, 1, 1, 0));
}

#[test]
fn neither_side_takes_what_is_reserved_for_the_other() {
    let umem = umem(20, 6, 5);
    let pool = umem.pool();
    assert_eq!(pool.leasable(), 14);
    let mut leased = Vec::new();
    assert_eq!(pool.lease_many(100, |frame| leased.push(frame)), 14);
    assert!(pool.lease().is_none());
    assert_eq!(pool.leasable(), 0);
    assert_eq!(fill(pool, 64).len(), 6);
    leased.truncate(2);
    assert_eq!(fill(pool, 64).len(), 9, "fifteen in all: what sending is promised stays");
    assert_eq!(pool.lease_many(100, |frame| leased.push(frame)), 3);
    assert!(pool.audit().is_sound());
}

#[test]
fn addresses_that_can_not_be_change_nothing_and_are_counted() {
    let umem = umem(8, 2, 2);
    let pool = umem.pool();
    let address = fill(pool, 1)[0];
    let leased = pool.lease().unwrap();
    let elsewhere = u64::from(leased.index()) << 11;
    let free = (0..8).map(|index| index << 11).find(|&other| other != address && other != elsewhere).unwrap();
    for wrong in [8 << 11, 1 << 40, u64::MAX] {
        assert_eq!(pool.received(wrong).unwrap_err(), Rejected::Address);
    }
    for wrong in [elsewhere, free] {
        assert_eq!(pool.received(wrong).unwrap_err(), Rejected::Place);
    }
    // Never sent: in the fill ring, leased, free, and out of range.
    assert_eq!(pool.complete(&[address, elsewhere, free, u64::MAX]), 4);
    let (received, _) = pool.received(address).unwrap();
    assert_eq!(pool.received(address).unwrap_err(), Rejected::Place, "twice");
    let sent = pool.submit(leased).unwrap();
    assert_eq!(pool.complete(&[sent, sent]), 1, "twice");
    drop(received);
    let audit = pool.audit();
    assert!(audit.is_sound());
    assert_eq!((audit.free, audit.rejected), (8, 11));
}

#[test]
fn a_handle_from_an_earlier_life_returns_nothing() {
    let umem = umem(4, 1, 1);
    let pool = umem.pool();
    let frame = pool.lease().unwrap();
    // SAFETY: a second handle is just what may not be; neither touches the bytes.
    let stale = unsafe { UmemFrame::new(pool.share(), frame.index, frame.state) };
    drop(frame);
    let again = pool.lease().unwrap();
    drop(stale);
    let audit = pool.audit();
    assert_eq!((audit.rejected, audit.tx_app, audit.free_list_wrong), (1, 1, 0));
    drop(again);
    assert_eq!(pool.audit().free, 4);
}

#[test]
fn frames_outlive_their_owner_and_the_last_one_home_frees_the_memory() {
    let umem = umem(8, 2, 2);
    let weak: Weak<UmemPool> = Arc::downgrade(umem.pool());
    let address = fill(umem.pool(), 2)[0];
    let (received, _) = umem.pool().received(address).unwrap();
    umem.pool().quarantine(umem.pool().received(fill(umem.pool(), 1)[0]).unwrap().0);
    let mut leased = umem.pool().lease().unwrap();
    drop(umem);
    let pool = weak.upgrade().unwrap();
    assert!(pool.lease().is_none());
    assert_eq!(pool.leasable(), 0);
    let audit = pool.audit();
    assert!(audit.is_sound(), "{audit:?}");
    assert_eq!((audit.free, audit.rx_app, audit.tx_app, audit.quarantined), (5, 1, 1, 1));
    drop(pool);
    leased.as_mut_slice().fill(1);
    thread::spawn(move || drop(received)).join().unwrap();
    assert!(leased.as_slice().iter().all(|&byte| byte == 1));
    assert!(weak.upgrade().is_some());
    drop(leased);
    assert!(weak.upgrade().is_none(), "nothing holds it any more");
    let unused = super::tests::umem(4, 1, 1);
    let weak = Arc::downgrade(unused.pool());
    drop(unused);
    assert!(weak.upgrade().is_none(), "with no frame out, at once");
}

#[test]
fn threads_that_lease_send_receive_and_drop_lose_no_frame() {
    let rounds = if cfg!(miri) { 50 } else { 50_000 };
    let umem = umem(256, 64, 64);
    let pool = Arc::clone(umem.pool());
    let weak = Arc::downgrade(&pool);
    let (to_app, app) = mpsc::sync_channel::<UmemFrame>(32);
    let (to_ring, ring) = mpsc::sync_channel::<UmemFrame>(32);
    thread::scope(|scope| {
        for seed in 0..2_u8 {
            let (pool, to_ring) = (&pool, to_ring.clone());
            scope.spawn(move || {
                for round in 0..rounds {
                    if let Some(mut frame) = pool.lease() {
                        frame.as_mut_slice()[..64].fill(seed);
                        assert!(frame.as_slice()[..64].iter().all(|&byte| byte == seed));
                        if round % 3 > 0 && to_ring.send(frame).is_err() {
                            break;
                        }
                    }
                }
            });
        }
        drop(to_ring);
        scope.spawn(move || app.into_iter().for_each(drop));
        // The one thread that runs the rings.
        let mut filled: std::collections::VecDeque<u64> = Default::default();
        for frame in ring {
            let address = pool.submit(frame).unwrap();
            if filled.len() < 64 {
                filled.extend(fill(&pool, 16));
            }
            if let Some(address) = filled.pop_front() {
                let _ = to_app.send(pool.received(address).unwrap().0);
            }
            assert_eq!(pool.complete(&[address]), 0);
        }
        drop(to_app);
    });
    let audit = pool.audit();
    assert!(audit.is_sound(), "{audit:?}");
    assert_eq!((audit.free + audit.fill, audit.rejected), (256, 0));
    drop((umem, pool));
    assert!(weak.upgrade().is_none());
}

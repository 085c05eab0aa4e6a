//! What streams cost.

use super::*;
use crate::stream::Stream;

#[test]
fn nothing_without_streams() {
    // All of an idle connection may take 8 KiB; its streams' part is this.
    assert!(size_of::<Streams>() <= 1024, "{}", size_of::<Streams>());
    assert!(size_of::<Stream>() <= 512, "{}", size_of::<Stream>());
}

#[test]
fn everything_returns_when_streams_end() {
    let (mut c, mut s) = pair(&small(), &small());
    for round in 0..100 {
        let id = c.open(BIDI).unwrap();
        c.write(id, content(id, 0, 5_000)).unwrap();
        c.finish(id).unwrap();
        exchange(&mut c, &mut s);
        drain(&mut s);
        read_all(&mut s, id).unwrap();
        s.release(id, 5_000);
        s.finish(id).unwrap();
        exchange(&mut c, &mut s);
        read_all(&mut c, id).unwrap();
        drain(&mut c);
        drain(&mut s);
        assert!(c.registry.is_empty() && s.registry.is_empty(), "round {round}");
    }
    exchange(&mut c, &mut s);
    drain(&mut c);
    drain(&mut s);
    assert!(c.is_idle() && s.is_idle());
}

//! The live stream: server-sent events, the latest reading always, however slow the viewer.
//!
//! The publisher replaces one value and never waits. A viewer's stream is asked for its next event only when the
//! last one has left; it then takes the value of the moment and tells the difference to what the viewer has.

use std::{convert::Infallible, sync::Arc};

use axum::{
    extract::State,
    http::StatusCode,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{Stream, stream};
use serde_json::{Map, Value};
use tokio::sync::watch;

use super::{Shared, guard::refuse};
use crate::api::{Envelope, LiveDelta, VERSION};

/// Viewers at once: each costs the dashboard's thread a comparison a reading.
const MAX_VIEWERS: usize = 16;

/// One reading as the live stream tells it.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    pub(crate) seq: u64,
    pub(crate) t_ns: u64,
    pub(crate) data: Value,
}

pub(super) async fn stream(State(shared): State<Arc<Shared>>) -> Response {
    if shared.frames.receiver_count() >= MAX_VIEWERS {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "there are too many viewers already");
    }
    let events = events(shared.frames.subscribe());
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}

/// A snapshot, then deltas.
fn events(frames: watch::Receiver<Arc<Frame>>) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold((frames, None::<Arc<Frame>>), |(mut frames, seen)| async move {
        let (event, frame) = next(&mut frames, seen.as_deref()).await?;
        Some((Ok(event), (frames, Some(frame))))
    })
}

/// The next event for a viewer that has `seen`; `None` when the dashboard ends.
async fn next(frames: &mut watch::Receiver<Arc<Frame>>, seen: Option<&Frame>) -> Option<(Event, Arc<Frame>)> {
    let Some(seen) = seen else {
        let frame = frames.borrow_and_update().clone();
        let envelope = Envelope { v: VERSION, t_ns: frame.t_ns, data: &frame.data };
        return Some((Event::default().event("snapshot").json_data(envelope).ok()?, frame));
    };
    frames.changed().await.ok()?;
    let frame = frames.borrow_and_update().clone();
    let delta = delta(seen, &frame);
    Some((Event::default().event("delta").json_data(delta).ok()?, frame))
}

/// What changed between two readings, those between them included.
fn delta(seen: &Frame, frame: &Frame) -> LiveDelta {
    LiveDelta {
        v: VERSION,
        t_ns: frame.t_ns,
        seq: frame.seq,
        lost: frame.seq.saturating_sub(seen.seq + 1),
        data: difference(&seen.data, &frame.data).unwrap_or_else(|| Value::Object(Map::new())),
    }
}

/// The merge patch (RFC 7386) from `old` to `new`; `None` if they are equal.
fn difference(old: &Value, new: &Value) -> Option<Value> {
    if old == new {
        return None;
    }
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return Some(new.clone()) };
    let mut patch = Map::new();
    for (name, value) in new {
        let change = match old.get(name) {
            Some(before) => difference(before, value),
            None => Some(value.clone()),
        };
        if let Some(change) = change {
            patch.insert(name.clone(), change);
        }
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    Some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};
    use serde_json::json;

    use super::*;

    fn frame(seq: u64, data: Value) -> Arc<Frame> {
        Arc::new(Frame { seq, t_ns: seq * 250_000_000, data })
    }

    #[test]
    fn a_patch_tells_what_changed_and_nothing_else() {
        let old = json!({ "a": 1, "b": { "c": 2, "d": [1, 2] }, "gone": true });
        let new = json!({ "a": 1, "b": { "c": 3, "d": [1, 2] }, "come": "here" });
        assert_eq!(difference(&old, &new), Some(json!({ "b": { "c": 3 }, "come": "here", "gone": null })));
        assert_eq!(difference(&old, &old), None);
    }

    #[test]
    fn a_frozen_viewer_holds_nobody_up_and_learns_how_much_it_missed() {
        let (publish, frames) = watch::channel(frame(1, json!({ "n": 0 })));
        let mut viewer = Box::pin(events(frames));
        assert!(viewer.next().now_or_never().flatten().is_some(), "the snapshot is there at once");
        // Nobody takes anything from the viewer's stream; publishing is a plain call that returns.
        for seq in 2..=101 {
            publish.send_replace(frame(seq, json!({ "n": seq })));
        }
        assert!(viewer.next().now_or_never().flatten().is_some(), "one event stands for all of them");
        assert!(viewer.next().now_or_never().is_none(), "and there is no backlog");
        let (first, last) = (frame(1, json!({ "n": 0 })), frame(101, json!({ "n": 101 })));
        let delta = delta(&first, &last);
        assert_eq!((delta.lost, delta.data), (99, json!({ "n": 101 })));
    }
}

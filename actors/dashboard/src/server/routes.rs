//! The requests there are.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Query as UrlQuery, State},
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};

use super::{Shared, guard, guard::refuse, stream};
use crate::{
    api::{Envelope, RecordingRequest, TraceFilter, VERSION},
    model::Model,
    pcapng::Capture,
    prometheus,
    view::{Query, View},
};

/// Bytes of a recording's file at most: it is as large as the recordings' memory, written out.
const MAX_FILE: usize = 256 << 20;

type App = State<Arc<Shared>>;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    let api = Router::new()
        .route(
            "/overview",
            get(|app: App, query: UrlQuery<Query>| answer(app, query, |view, _| found(view.overview()))),
        )
        .route(
            "/topology",
            get(|app: App, query: UrlQuery<Query>| answer(app, query, |view, _| found(view.topology()))),
        )
        .route(
            "/actors",
            get(|app: App, query: UrlQuery<Query>| {
                answer(app, query, |view, query| Some(view.actors(query)))
            }),
        )
        .route("/actors/{id}", get(actor))
        .route(
            "/tree",
            get(|app: App, query: UrlQuery<Query>| answer(app, query, |view, _| found(view.tree()))),
        )
        .route(
            "/queues",
            get(|app: App, query: UrlQuery<Query>| answer(app, query, |view, _| found(view.queues()))),
        )
        .route(
            "/frames",
            get(|app: App, query: UrlQuery<Query>| answer(app, query, |view, _| found(view.frames()))),
        )
        .route(
            "/traces",
            get(|app: App, query: UrlQuery<Query>| {
                answer(app, query, |view, query| found(view.traces(query)))
            })
            .post(arm)
            .delete(disarm),
        )
        .route("/traces/{id}", get(trace))
        .route(
            "/connections",
            get(|app: App, query: UrlQuery<Query>| {
                if !query.filter.is_empty() {
                    app.model.read().want_cids();
                }
                answer(app, query, |view, query| Some(view.connections(query)))
            }),
        )
        .route("/connections/{id}", get(connection))
        .route("/connections/{id}/qlog", get(qlog))
        .route(
            "/drops",
            get(|app: App, query: UrlQuery<Query>| answer(app, query, |view, _| found(view.drops()))),
        )
        .route("/recordings", get(recordings).post(record))
        .route("/recordings/open", post(open).layer(DefaultBodyLimit::max(MAX_FILE)))
        .route("/recordings/{id}/stop", post(stop))
        .route("/recordings/{id}/download", get(download))
        .route("/stream", get(stream::stream))
        .fallback(|| async {
            refuse(
                StatusCode::NOT_FOUND,
                "there is no such request; the API is documented in wirepath_dashboard::api",
            )
        });
    Router::new()
        .nest("/api/v1", api)
        .route("/metrics", get(metrics))
        .fallback(crate::page::serve)
        .layer(middleware::from_fn_with_state(shared.clone(), guard::check))
        .with_state(shared)
}

fn found<T>(data: T) -> Option<Result<T, String>> {
    Some(Ok(data))
}

fn envelope<T: Serialize>(t_ns: u64, data: T) -> Response {
    Json(Envelope { v: VERSION, t_ns, data }).into_response()
}

/// Answers from the live stack, or from the recording that `source` names. `None`: there is no such thing.
async fn answer<T: Serialize>(
    State(shared): App,
    UrlQuery(query): UrlQuery<Query>,
    of: impl FnOnce(&View<'_>, &Query) -> Option<Result<T, String>>,
) -> Response {
    let answer = match query.source.as_deref() {
        None | Some("live") => shared.model.read().live(|view| of(view, &query)),
        Some(id) => {
            let recording = shared.model.read().recordings.find(id).cloned();
            recording.and_then(|it| Model::recorded(&it, query.at, |view| of(view, &query)))
        }
    };
    match answer {
        Some((t_ns, Some(Ok(data)))) => envelope(t_ns, data),
        Some((_, Some(Err(mistake)))) => refuse(StatusCode::BAD_REQUEST, &mistake),
        Some((_, None)) => refuse(StatusCode::NOT_FOUND, "there is nothing of that id (any more)"),
        None => refuse(StatusCode::NOT_FOUND, "there is no such recording, or it has no reading yet"),
    }
}

async fn actor(app: App, Path(id): Path<String>, query: UrlQuery<Query>) -> Response {
    answer(app, query, |view, _| view.actor(id.parse().ok()?).map(Ok)).await
}

async fn connection(app: App, Path(id): Path<String>, query: UrlQuery<Query>) -> Response {
    let id = id.parse().ok();
    {
        let model = app.model.read();
        model.want_cids();
        id.into_iter().for_each(|id| model.want_streams(id));
    }
    answer(app, query, |view, _| view.connection(id?).map(Ok)).await
}

/// What a live connection logged of itself.
async fn qlog(State(shared): App, Path(id): Path<String>) -> Response {
    let source = shared.model.read().source().clone();
    match id.parse().ok().and_then(|id| source.qlog(id)) {
        Some(log) => file("application/qlog+json-seq", &format!("connection-{id}.sqlog"), log),
        None => refuse(
            StatusCode::NOT_FOUND,
            "this connection is gone, or logs nothing: that takes `dashboard_qlog` when the stack is built",
        ),
    }
}

/// A file to be kept.
fn file(kind: &str, name: &str, bytes: Vec<u8>) -> Response {
    let name = format!("attachment; filename=\"wirepath-{name}\"");
    ([(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_DISPOSITION, name)], bytes).into_response()
}

async fn trace(app: App, Path(id): Path<String>, query: UrlQuery<Query>) -> Response {
    answer(app, query, |view, _| view.trace(&id).map(Ok)).await
}

/// What a change came to.
fn changed<T: Serialize>(shared: &Shared, outcome: Result<T, String>) -> Response {
    let t_ns = shared.model.read().live(|view| view.now.t_ns).map_or(0, |(t_ns, _)| t_ns);
    match outcome {
        Ok(data) => envelope(t_ns, data),
        Err(mistake) => refuse(StatusCode::BAD_REQUEST, &mistake),
    }
}

async fn arm(State(shared): App, Json(filter): Json<TraceFilter>) -> Response {
    let outcome = shared.model.write().arm(Some(filter));
    changed(&shared, outcome)
}

async fn disarm(State(shared): App) -> Response {
    let outcome = shared.model.write().arm(None);
    changed(&shared, outcome)
}

async fn recordings(State(shared): App) -> Response {
    let answer = shared.model.read().recordings.answer();
    changed(&shared, Ok(answer))
}

async fn record(State(shared): App, Json(request): Json<RecordingRequest>) -> Response {
    let outcome = shared.model.write().record(request);
    changed(&shared, outcome)
}

/// A recording's file, to be looked at here.
async fn open(State(shared): App, file: Bytes) -> Response {
    let outcome = shared.model.write().recordings.open(&file);
    changed(&shared, outcome)
}

async fn stop(State(shared): App, Path(id): Path<String>) -> Response {
    let row = shared.model.write().recordings.stop(&id);
    match row {
        Some(row) => changed(&shared, Ok(row)),
        None => refuse(StatusCode::NOT_FOUND, "there is no such recording (any more)"),
    }
}

#[derive(Deserialize)]
struct Download {
    #[serde(default)]
    format: Option<String>,
}

async fn download(
    State(shared): App,
    Path(id): Path<String>,
    UrlQuery(Download { format }): UrlQuery<Download>,
) -> Response {
    let Some(recording) = shared.model.read().recordings.find(&id).cloned() else {
        return refuse(StatusCode::NOT_FOUND, "there is no such recording (any more)");
    };
    let format = format.as_deref().unwrap_or("trace");
    let (kind, bytes) = match format {
        "trace" => ("application/json", recording.to_file()),
        "pcapng" => {
            let secrets = shared.model.read().source().secrets();
            let capture = Capture {
                journeys: recording.journeys(),
                payloads: recording.payloads(),
                secrets: secrets.as_deref(),
                epoch_ns: epoch_ns(),
            };
            ("application/x-pcapng", capture.write())
        }
        "qlog" => ("application/qlog+json-seq", recording.to_qlog()),
        _ => return refuse(StatusCode::BAD_REQUEST, "a format is `trace`, `pcapng` or `qlog`"),
    };
    let extension = match format {
        "trace" => "json",
        "qlog" => "sqlog",
        other => other,
    };
    file(kind, &format!("{id}.{extension}"), bytes)
}

/// The Unix time, in nanoseconds, of time 0 of all journeys.
fn epoch_ns() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (now.as_nanos() as u64).saturating_sub(wirepath_trace::BatchClock::read())
}

async fn metrics(State(shared): App) -> Response {
    let text = shared.model.read().live(|view| prometheus::write(view.now)).map(|(_, text)| text);
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text.unwrap_or_default()).into_response()
}

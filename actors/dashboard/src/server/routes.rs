//! The requests there are.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, Query as UrlQuery, State},
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
    pcapng, prometheus,
    view::{Query, View},
};

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
                answer(app, query, |view, query| Some(view.connections(query)))
            }),
        )
        .route("/connections/{id}", get(connection))
        .route(
            "/drops",
            get(|app: App, query: UrlQuery<Query>| answer(app, query, |view, _| found(view.drops()))),
        )
        .route("/recordings", get(recordings).post(record))
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
    answer(app, query, |view, _| view.connection(id.parse().ok()?).map(Ok)).await
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
        "trace" => ("application/json", serde_json::to_vec(recording.journeys()).unwrap_or_default()),
        "pcapng" => ("application/x-pcapng", pcapng::write(recording.journeys())),
        "qlog" => return refuse(StatusCode::NOT_FOUND, "no qlog is written by this stack"),
        _ => return refuse(StatusCode::BAD_REQUEST, "a format is `trace` or `pcapng`"),
    };
    let extension = if format == "trace" { "json" } else { format };
    let name = format!("attachment; filename=\"wirepath-{id}.{extension}\"");
    ([(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_DISPOSITION, name)], bytes).into_response()
}

async fn metrics(State(shared): App) -> Response {
    let text = shared.model.read().live(|view| prometheus::write(view.now)).map(|(_, text)| text);
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text.unwrap_or_default()).into_response()
}

//! The page itself: the bundle under `web/dist`, in the program.

use axum::{
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
};

macro_rules! files {
    ($($name:literal $kind:literal,)*) => {
        &[$(($name, $kind, include_bytes!(concat!("../web/dist/", $name)))),*]
    };
}

/// Name, type, content.
const FILES: &[(&str, &str, &[u8])] = files! {
    "index.html" "text/html; charset=utf-8",
    "app.js" "text/javascript; charset=utf-8",
    "app.css" "text/css; charset=utf-8",
    "icon.svg" "image/svg+xml",
    "inter-latin-wght-normal.woff2" "font/woff2",
    "licenses.txt" "text/plain; charset=utf-8",
};

/// Answers what is not the API's: a file of the bundle, and `index.html` for the addresses of its pages.
pub(crate) async fn serve(uri: Uri) -> Response {
    let name = uri.path().trim_start_matches('/');
    let is_page = !name.contains('.');
    let wanted = if is_page { "index.html" } else { name };
    match FILES.iter().find(|(name, ..)| *name == wanted) {
        // To be asked for again when the program has changed: there is nothing to save on a loopback device.
        Some((_, kind, content)) => {
            ([(header::CONTENT_TYPE, *kind), (header::CACHE_CONTROL, "no-cache")], *content).into_response()
        }
        None => (StatusCode::NOT_FOUND, format!("there is no file {wanted} here\n")).into_response(),
    }
}

//! Who may ask: token, `Host`, `Origin`; and what browsers are told to keep to.

use std::{fmt, net::SocketAddr, str::FromStr, sync::Arc};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use rand::TryRngCore;
use subtle::ConstantTimeEq;

use super::{Options, Shared};
use crate::api::ErrorBody;

/// Where the token is kept by a browser that came with it in its first request.
const COOKIE: &str = "wirepath-token";

/// A secret of 256 bits, written in hex.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    /// A fresh one from the operating system's randomness.
    ///
    /// # Errors
    /// When that has none to give.
    pub fn random() -> std::io::Result<Self> {
        let mut bytes = [0; 32];
        rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(std::io::Error::other)?;
        Ok(Self(bytes))
    }

    /// The token in hex: whoever has it may look.
    pub fn reveal(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Compares in constant time.
    fn is(&self, text: &str) -> bool {
        text.parse::<Self>().is_ok_and(|other| self.0.ct_eq(&other.0).into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl FromStr for Token {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "a token is 64 hex digits";
        if text.len() != 64 || !text.is_ascii() {
            return Err(WRONG);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| WRONG)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| WRONG)?;
        }
        Ok(Self(bytes))
    }
}

/// The rules.
pub(super) struct Guard {
    token: Option<Token>,
    hosts: Vec<String>,
}

impl Guard {
    pub(super) fn new(addr: SocketAddr, options: Options) -> Self {
        let mut hosts = options.hosts;
        hosts.extend(["localhost".to_owned(), "127.0.0.1".to_owned(), "[::1]".to_owned()]);
        hosts.push(if addr.is_ipv6() { format!("[{}]", addr.ip()) } else { addr.ip().to_string() });
        Self { token: options.token, hosts }
    }

    /// A page of another name that leads here (DNS rebinding) is not answered.
    fn host_is_ours(&self, headers: &HeaderMap) -> bool {
        let Some(host) = text(headers, header::HOST) else { return false };
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        self.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(name))
    }

    /// What changes something must come from our own page, or from no page at all.
    fn origin_is_ours(headers: &HeaderMap) -> bool {
        let host = text(headers, header::HOST).unwrap_or_default();
        match text(headers, header::ORIGIN) {
            Some(origin) => origin.strip_prefix("http://").or(origin.strip_prefix("https://")) == Some(host),
            None => text(headers, HeaderName::from_static("sec-fetch-site"))
                .is_none_or(|site| site == "same-origin" || site == "none"),
        }
    }

    fn knows_token(&self, headers: &HeaderMap, query: Option<&str>) -> bool {
        let Some(token) = &self.token else { return true };
        let bearer = text(headers, header::AUTHORIZATION).and_then(|it| it.strip_prefix("Bearer "));
        let cookies = text(headers, header::COOKIE).unwrap_or_default();
        let cookie = cookies
            .split(';')
            .filter_map(|it| it.trim().split_once('='))
            .find_map(|(name, value)| (name == COOKIE).then_some(value));
        bearer.or(cookie).or(in_query(query)).is_some_and(|it| token.is(it))
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn in_query(query: Option<&str>) -> Option<&str> {
    query?.split('&').find_map(|it| it.strip_prefix("token="))
}

/// Whether an answer tells of the stack. The page by itself is the same for everybody: it asks for the token.
fn tells(path: &str) -> bool {
    path.starts_with("/api/") || path == "/metrics"
}

/// Stands before every route.
pub(super) async fn check(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let guard = &shared.guard;
    let headers = request.headers();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = if !guard.host_is_ours(headers) {
        refuse(StatusCode::FORBIDDEN, "the Host header names nobody here")
    } else if !reads && !Guard::origin_is_ours(headers) {
        refuse(StatusCode::FORBIDDEN, "the request comes from another site's page")
    } else if tells(request.uri().path()) && !guard.knows_token(headers, request.uri().query()) {
        refuse(
            StatusCode::UNAUTHORIZED,
            "a token is needed: open the address that was printed, or send it as a bearer token",
        )
    } else {
        let token = in_query(request.uri().query())
            .filter(|it| guard.token.as_ref().is_some_and(|token| token.is(it)))
            .map(str::to_owned);
        let mut response = next.run(request).await;
        if let Some(value) = token.and_then(|it| {
            HeaderValue::try_from(format!("{COOKIE}={it}; HttpOnly; SameSite=Strict; Path=/")).ok()
        }) {
            response.headers_mut().insert(header::SET_COOKIE, value);
        }
        response
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, "default-src 'self'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// An answer that is none.
pub(super) fn refuse(status: StatusCode, error: &str) -> Response<Body> {
    (status, axum::Json(ErrorBody { error: error.to_owned() })).into_response()
}

//! The HTTP API: SQL, status, an iteration now, health and metrics. Every error is `{"error":{"code","message","hint"}}`.
//!
//! No CORS header is ever sent, and whatever starts something must be `application/json`, which a foreign web page
//! cannot send. Running statements and iterations is not done here.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::stream;
use model::causes::Causes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use views::lambda::Lambda;

use crate::control::{BatchRequest, Check, Control, Failure, Health};
use crate::error::Error;
use crate::guard::Guard;
use crate::meter::Meter;
use crate::sql::Engine;
use crate::statement;

/// The largest body: a statement, in JSON's longest escapes.
const BODY_BYTES_MAX: usize = 6 * statement::BYTES_MAX + 1024;

/// What the handlers share.
pub(crate) struct Api {
    pub(crate) engine: Arc<Engine>,
    pub(crate) lambda: Arc<Lambda>,
    pub(crate) control: Arc<dyn Control>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) meter: Arc<Meter>,
}

/// All routes.
pub(crate) fn router(api: Arc<Api>) -> Router {
    let guard = Arc::clone(&api.guard);
    let routes = Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/api/v1/sql", post(sql))
        .route("/api/v1/status", get(status))
        .route("/api/v1/batch", post(batch))
        .route_layer(from_fn(check_media_type));
    let hints = ["the API begins with /api/v1/", "sql and batch take POST, all others GET"];
    guarded(routes, guard, hints).with_state(api)
}

/// Routes behind the guard, with what is answered where there is none: the hints are for an unknown address and for an
/// unknown method.
pub(crate) fn guarded<S: Clone + Send + Sync + 'static>(
    routes: Router<S>,
    guard: Arc<Guard>,
    [of_address, of_method]: [&'static str; 2],
) -> Router<S> {
    let nothing = "there is nothing at this address";
    let no_method = "this address does not take this method";
    routes
        .fallback(async move || refuse(StatusCode::NOT_FOUND, "not_found", nothing, of_address))
        .method_not_allowed_fallback(async move || {
            refuse(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", no_method, of_method)
        })
        .layer(from_fn_with_state(guard, check))
}

/// Before any handler: whom the request names, and who sends it.
async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    if !guard.host_is_ours(request.uri(), request.headers()) {
        let hint = "use an IP address or localhost, or add the name to `server.hosts`";
        return refuse(
            StatusCode::FORBIDDEN,
            "host_not_allowed",
            "the request's Host is not a name of this server",
            hint,
        );
    }
    if request.uri().path() != "/health" && !guard.is_let_in(request.headers()) {
        let hint = "send HTTP Basic with the user `snowmelt`, or the password as a bearer token";
        let mut response = refuse(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "the password is missing or wrong",
            hint,
        );
        let challenge = HeaderValue::from_static("Basic realm=\"snowmelt\", charset=\"UTF-8\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        return response;
    }
    next.run(request).await
}

/// Only at addresses that exist: elsewhere the answer is that there is nothing.
async fn check_media_type(request: Request, next: Next) -> Response {
    if request.method() == Method::POST && !is_json(request.headers()) {
        let message = "the body must be application/json";
        let hint = "send the header `Content-Type: application/json`";
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message, hint);
    }
    next.run(request).await
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type =
        headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/json")
}

async fn health(State(api): State<Arc<Api>>) -> Response {
    answer_health(&api.control.health())
}

/// 200, or 503 with what fails.
pub(crate) fn answer_health(health: &Health) -> Response {
    let check = |check: &Check| match &check.failure {
        None => json!({"name": check.name, "status": "ok"}),
        Some(Failure { message, hint }) => {
            json!({"name": check.name, "status": "failing", "message": message, "hint": hint})
        }
    };
    let checks: Vec<_> = health.checks.iter().map(check).collect();
    let texts =
        |part: fn(&Failure) -> &str| health.failures().map(part).collect::<Vec<_>>().join("; ");
    let message = texts(|failure| &failure.message);
    if message.is_empty() {
        let mut body = json!({"status": "ok", "checks": checks});
        if !health.warnings.is_empty() {
            let warning = |it: &Failure| json!({"message": it.message, "hint": it.hint});
            body["warnings"] = health.warnings.iter().map(warning).collect();
        }
        return answer(StatusCode::OK, &body);
    }
    let error =
        json!({"code": "unwell", "message": message, "hint": texts(|failure| &failure.hint)});
    let body = json!({"status": "failing", "error": error, "checks": checks});
    answer(StatusCode::SERVICE_UNAVAILABLE, &body)
}

async fn metrics(State(api): State<Arc<Api>>) -> Response {
    let ours = api.meter.print(
        api.engine.running(),
        api.lambda.served().iteration,
        api.engine.wide_counts(),
    );
    answer_metrics(ours + &api.control.metrics())
}

/// In Prometheus text form.
pub(crate) fn answer_metrics(text: String) -> Response {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"), (CACHE_CONTROL, "no-store")],
        text,
    )
        .into_response()
}

async fn status(State(api): State<Arc<Api>>) -> Response {
    let served = api.lambda.served();
    let frontier = served.cut.join(&api.lambda.realtime().frontier(&served.next_recipe));
    let mut status = json!({
        "iteration": served.iteration,
        "generation": served.generation,
        "committed_at": served.committed_at,
        "recipe": served.next_recipe,
        "cut": served.cut,
        "frontier": frontier,
    });
    if let (Some(status), serde_json::Value::Object(more)) =
        (status.as_object_mut(), api.control.status())
    {
        status.extend(more);
    }
    answer(StatusCode::OK, &status)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SqlRequest {
    sql: String,
    /// Without it, the generation that is served answers, with the real-time view.
    #[serde(default)]
    generation: Option<u64>,
}

async fn sql(State(api): State<Arc<Api>>, request: Request) -> Response {
    let SqlRequest { sql, generation } = match body(request).await {
        Ok(request) => request,
        Err(refusal) => return *refusal,
    };
    let started = Instant::now();
    match api.engine.run_on(sql, generation).await {
        Ok(answer) => {
            api.meter.ended("ok", answer.rows, started.elapsed());
            let segments = stream::iter(answer.into_segments().map(Ok::<_, Infallible>));
            json_response(StatusCode::OK, Body::from_stream(segments))
        }
        Err(error) => {
            api.meter.ended(error.code(), 0, started.elapsed());
            if error.status() == 500 {
                tracing::error!(code = error.code(), error = %Causes(&error), "a statement has no answer");
            }
            refuse_with(&error)
        }
    }
}

async fn batch(State(api): State<Arc<Api>>, request: Request) -> Response {
    let request: BatchRequest = match body(request).await {
        Ok(request) => request,
        Err(refusal) => return *refusal,
    };
    if request.heal {
        let message = "`heal` is not available in this version";
        let hint = "leave it out, or false; `rebuild` derives everything again";
        return refuse(StatusCode::BAD_REQUEST, "not_available", message, hint);
    }
    match api.control.batch(request).await {
        Ok(done) => answer(StatusCode::OK, &json!(done)),
        Err(error) => {
            refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.code, &error.message, &error.hint)
        }
    }
}

/// Reads the body as JSON, or says why not.
async fn body<T: DeserializeOwned>(request: Request) -> Result<T, Box<Response>> {
    let bytes = to_bytes(request.into_body(), BODY_BYTES_MAX).await.map_err(|_| {
        let message = format!("the body is incomplete or longer than {BODY_BYTES_MAX} bytes");
        Box::new(refuse(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", &message, ""))
    })?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let message = format!("the body is not the JSON that is expected here: {error}");
        Box::new(refuse(StatusCode::BAD_REQUEST, "invalid_json", &message, ""))
    })
}

fn refuse_with(error: &Error) -> Response {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = refuse(status, error.code(), &error.to_string(), error.hint());
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn refuse(status: StatusCode, code: &str, message: &str, hint: &str) -> Response {
    answer(status, &json!({"error": {"code": code, "message": message, "hint": hint}}))
}

fn answer(status: StatusCode, value: &serde_json::Value) -> Response {
    json_response(status, Body::from(format!("{value}\n")))
}

fn json_response(status: StatusCode, body: Body) -> Response {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    (status, headers, body).into_response()
}

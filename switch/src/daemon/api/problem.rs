//! A failed request as HTTP says it: a status and an [`ApiError`] of one line. Bodies and queries are read here, so that what is
//! wrong with them has that shape too.

use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::types::ApiError;
use crate::daemon::refusal::Refusal;

/// Longest request body, in bytes: the longest sensible one has some hundred.
const MAX_BODY: usize = 64 * 1024;
/// How long a client may take to send one.
const BODY_WITHIN: Duration = Duration::from_secs(5);

/// A request that failed.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    error: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Problem { status, error: error.into() }
    }

    /// How bad it is.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// One line.
    pub(crate) fn text(&self) -> String {
        // Parsers quote what they were given.
        self.error.replace(char::is_control, "?")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(ApiError { error: self.text() })).into_response()
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
            Refusal::Unknown(_) => StatusCode::NOT_FOUND,
            Refusal::Conflict(_) => StatusCode::CONFLICT,
            Refusal::Impossible(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Problem::new(status, refusal.to_string())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Problem::new(rejection.status(), rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Problem::new(rejection.status(), rejection.body_text())
    }
}

/// A JSON body, read within the limits of size and time.
#[derive(Debug)]
pub(super) struct Sent<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Sent<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let bytes = body(request).await?;
        let read = serde_json::from_slice(&bytes);
        read.map(Sent).map_err(|e| Problem::new(StatusCode::BAD_REQUEST, format!("read the request's JSON: {e}")))
    }
}

/// A request's body, read within the limits of size and time.
///
/// # Errors
/// It is longer, or does not arrive.
pub(crate) async fn body(request: Request) -> Result<Bytes, Problem> {
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > MAX_BODY as u64) {
        return Err(too_long());
    }
    let body = tokio::time::timeout(BODY_WITHIN, collect(request.into_body())).await;
    body.unwrap_or_else(|_| {
        let error = format!("the request's body did not arrive within {} s", BODY_WITHIN.as_secs());
        Err(Problem::new(StatusCode::REQUEST_TIMEOUT, error))
    })
}

async fn collect(body: Body) -> Result<Bytes, Problem> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_long()),
        Err(error) => Err(Problem::new(StatusCode::BAD_REQUEST, format!("read the request: {error}"))),
    }
}

fn too_long() -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the request's body is longer than {MAX_BODY} bytes"))
}

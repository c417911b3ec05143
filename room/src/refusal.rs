//! Why a request is not done: what happened, and what to do. Pages show it as a page, the API as JSON.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// What handlers give.
pub type Answer<T> = Result<T, Refusal>;

/// Why a request is not done.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The status of the answer.
    pub status: StatusCode,
    /// One line, lowercase: what, where, what to do.
    pub why: String,
}

/// A refusal of the API.
#[derive(Serialize, ToSchema)]
pub struct Problem {
    /// What happened, and what to do.
    error: String,
}

impl Refusal {
    /// What was asked for is not there: 404.
    pub fn missing(why: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, why: why.into() }
    }

    /// The request says something that cannot be: 400.
    pub fn bad(why: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, why: why.into() }
    }

    /// Whoever asks may not: 403.
    pub fn forbidden(why: impl Into<String>) -> Self {
        Self { status: StatusCode::FORBIDDEN, why: why.into() }
    }

    /// Nobody knows who asks: 401.
    pub fn stranger() -> Self {
        let why = "log in first, at /login, or send the header `Authorization: Bearer TOKEN`";
        Self { status: StatusCode::UNAUTHORIZED, why: why.into() }
    }

    /// It cannot be done as things are: 409.
    pub fn conflict(why: impl Into<String>) -> Self {
        Self { status: StatusCode::CONFLICT, why: why.into() }
    }

    /// Something else is out of order; the same request may be done later: 503.
    pub fn later(why: impl Into<String>) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, why: why.into() }
    }
}

impl From<registry::Error> for Refusal {
    fn from(error: registry::Error) -> Self {
        let why = error.to_string();
        if error.is_outage() {
            tracing::warn!("{why}");
            return Self::later(format!("the database does not answer: {why}"));
        }
        match error {
            registry::Error::NotFound { .. } => Self::missing(why),
            error if error.is_usage() => Self::bad(why),
            _ => Self::conflict(why),
        }
    }
}

impl IntoResponse for Refusal {
    /// As JSON; `http` makes a page of it where a page was asked for.
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(Problem { error: self.why.clone() })).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

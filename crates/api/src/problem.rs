//! Every failure of a request as problem details, and what it means to log one.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::{Fault, FaultClass};

use crate::wire::{PROBLEM_JSON, Problem};

/// The `Err` of every handler.
#[derive(Debug)]
pub(crate) struct Failure(pub Problem);

impl Failure {
    /// A fault whose status the place knows better than its class.
    pub fn with(status: StatusCode, fault: Fault) -> Self {
        Self(Problem::new(status.as_u16(), fault))
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self(fault.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self(problem) = self;
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // What a client did wrong is the client's to tell; what went wrong here is logged here, once.
        if status.is_server_error() {
            tracing::error!(status = problem.status, "{}", problem.detail);
        }
        // Texts and numbers always go into JSON.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        if problem.class == FaultClass::Transient {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

//! Refusals and failures as RFC 9457 problem details: the one table from errors to answers.
//!
//! Messages name what was refused and which limit it broke. Causes that concern the service
//! alone (databases, files, models) are logged once, here, and never sent.

use std::fmt;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::request_id;

mod table;

/// Media type of RFC 9457.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// A kind of problem: what its answer's `type`, `title` and `status` are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Stable kebab-case word; `type` is `urn:retrace:problem:` and this word.
    pub code: &'static str,
    /// The kind in a few words, the same for every occurrence.
    pub title: &'static str,
    /// HTTP status code.
    pub status: u16,
}

impl Kind {
    /// The word for a family of errors in OpenAI's interface.
    fn family(self) -> &'static str {
        match self.status {
            401 => "authentication_error",
            403 => "permission_error",
            status if status < 500 => "invalid_request_error",
            _ => "server_error",
        }
    }
}

const fn kind(status: u16, code: &'static str, title: &'static str) -> Kind {
    Kind {
        code,
        title,
        status,
    }
}

/// The table of kinds.
pub mod kinds {
    use super::{Kind, kind};

    /// A field or parameter of the request is missing, unknown or out of bounds.
    pub const INVALID_REQUEST: Kind = kind(400, "invalid-request", "The request is not valid");
    /// No key, or one that is not known.
    pub const UNAUTHORIZED: Kind = kind(401, "unauthorized", "A valid API key is needed");
    /// The key does not allow this.
    pub const MISSING_SCOPE: Kind = kind(403, "missing-scope", "The API key lacks a scope");
    /// A browser sent this from another site.
    pub const CROSS_SITE: Kind = kind(403, "cross-site", "Requests from other sites are refused");
    /// No such path or thing.
    pub const NOT_FOUND: Kind = kind(404, "not-found", "Not found");
    /// No such model.
    pub const UNKNOWN_MODEL: Kind = kind(404, "unknown-model", "The model is not known");
    /// The path knows other methods.
    pub const METHOD_NOT_ALLOWED: Kind =
        kind(405, "method-not-allowed", "The method is not allowed here");
    /// The body did not come in time.
    pub const TOO_SLOW: Kind = kind(408, "too-slow", "The request took too long to arrive");
    /// The same request came before and is not yet recorded to its end.
    pub const REQUEST_UNDER_WAY: Kind = kind(
        409,
        "request-under-way",
        "An earlier attempt at this request is under way",
    );
    /// The Idempotency-Key was used for another request.
    pub const IDEMPOTENCY_CONFLICT: Kind = kind(
        409,
        "idempotency-conflict",
        "The Idempotency-Key belongs to another request",
    );
    /// The client stopped its own request.
    /// Somebody decided before.
    pub const CASE_CLOSED: Kind = kind(409, "case-closed", "The case is closed");
    /// The body is over a limit.
    pub const TOO_LARGE: Kind = kind(413, "too-large", "The body is too large");
    /// The body or the file in it is of a kind that is not read.
    pub const UNSUPPORTED_MEDIA: Kind =
        kind(415, "unsupported-media", "The media type is not supported");
    /// The file is damaged, or breaks a cap.
    pub const UNREADABLE_FILE: Kind = kind(422, "unreadable-file", "The file cannot be read");
    /// This client has as much under way as it may.
    pub const TOO_MANY_REQUESTS: Kind = kind(
        429,
        "too-many-requests",
        "This client has too much under way",
    );
    /// The job was cancelled while its answer was waited for.
    pub const CANCELLED: Kind = kind(409, "cancelled", "The job was cancelled");
    /// Every worker that began the job was lost.
    pub const WORKER_LOST: Kind = kind(500, "worker-lost", "No worker finished the job");
    /// Something in the service failed.
    pub const INTERNAL: Kind = kind(500, "internal", "The service failed");
    /// The model gave no picture that may be signed.
    pub const GENERATION_FAILED: Kind =
        kind(500, "generation-failed", "The model gave no usable image");
    /// A part of the service is not installed.
    pub const NOT_INSTALLED: Kind = kind(
        503,
        "not-installed",
        "This part of the service is not installed",
    );
    /// The queue is full or the wait was too long.
    pub const OVERLOADED: Kind = kind(503, "overloaded", "The service is busy");
    /// Kept uploads take all the room that they may.
    pub const CASES_FULL: Kind = kind(507, "cases-full", "No further upload can be kept");
    /// The ledger does not answer.
    pub const LEDGER_UNAVAILABLE: Kind =
        kind(503, "ledger-unavailable", "The ledger is not available");
    /// Whoever holds the signing keys does not answer.
    pub const SIGNER_UNAVAILABLE: Kind =
        kind(503, "signer-unavailable", "The signer is not available");
    /// The disk of the image store is full.
    pub const STORAGE_FULL: Kind = kind(503, "storage-full", "The image store is full");

    /// No time stamp can be had, and no file is signed without one.
    pub const NO_TIME_STAMP: Kind = kind(
        503,
        "no-time-stamp",
        "The time-stamping authority gives no stamp",
    );

    /// The kind of the problem that a job ended with, by its code.
    #[must_use]
    pub fn of_job(code: &str) -> Kind {
        [
            INVALID_REQUEST,
            UNKNOWN_MODEL,
            GENERATION_FAILED,
            NOT_INSTALLED,
            OVERLOADED,
            LEDGER_UNAVAILABLE,
            SIGNER_UNAVAILABLE,
            STORAGE_FULL,
            NO_TIME_STAMP,
            WORKER_LOST,
        ]
        .into_iter()
        .find(|kind| kind.code == code)
        .unwrap_or(INTERNAL)
    }
}

/// One problem, ready to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind it is.
    pub kind: Kind,
    /// What happened this time, lower case, fit for the public.
    pub detail: String,
    /// Which field or parameter was refused, where one was.
    pub parameter: Option<&'static str>,
    /// After how many seconds a retry makes sense, where one does.
    pub retry_after_s: Option<u64>,
}

impl Problem {
    /// A problem of a kind.
    #[must_use]
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            parameter: None,
            retry_after_s: None,
        }
    }

    /// A refused field or parameter.
    #[must_use]
    pub fn invalid(parameter: &'static str, detail: impl Into<String>) -> Self {
        Self {
            parameter: Some(parameter),
            ..Self::new(kinds::INVALID_REQUEST, detail)
        }
    }

    /// A failure of the service: the cause is logged here, with the request's id, and not sent.
    #[must_use]
    pub fn internal(cause: &dyn std::error::Error) -> Self {
        Self::hidden(
            kinds::INTERNAL,
            "the failure has been logged under this request's id",
            cause,
        )
    }

    /// A failure whose cause is logged here and not sent.
    #[must_use]
    pub fn hidden(kind: Kind, detail: &str, cause: &dyn std::error::Error) -> Self {
        let request_id = request_id::current();
        let cause = with_sources(cause);
        tracing::error!(request_id, code = kind.code, cause, "request failed");
        Self::new(kind, detail)
    }

    /// The same problem with a time after which a retry makes sense.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The body of the answer.
    #[must_use]
    pub fn body(&self) -> ProblemBody {
        let request_id = request_id::current();
        let parameter = self.parameter.map(str::to_owned);
        ProblemBody {
            kind: format!("urn:retrace:problem:{}", self.kind.code),
            title: self.kind.title.to_owned(),
            status: self.kind.status,
            detail: self.detail.clone(),
            instance: (!request_id.is_empty()).then(|| format!("urn:retrace:request:{request_id}")),
            code: self.kind.code.to_owned(),
            parameter: parameter.clone(),
            error: ErrorBody {
                message: self.detail.clone(),
                kind: self.kind.family().to_owned(),
                param: parameter,
                code: self.kind.code.to_owned(),
            },
        }
    }
}

/// An error and its sources in one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = error.source();
    }
    line
}

/// RFC 9457 problem details.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// URN of the kind of problem.
    #[serde(rename = "type")]
    #[schema(example = "urn:retrace:problem:invalid-request")]
    pub kind: String,
    /// The kind in a few words.
    pub title: String,
    /// The HTTP status code.
    pub status: u16,
    /// What happened this time.
    pub detail: String,
    /// URN of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The last part of `type`.
    pub code: String,
    /// The refused field or parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// The same for clients of OpenAI's interface.
    pub error: ErrorBody,
}

/// An error in the shape that clients of OpenAI's interface read.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Error)]
pub struct ErrorBody {
    /// What happened this time.
    pub message: String,
    /// `invalid_request_error`, `authentication_error`, `permission_error` or `server_error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The refused field or parameter, or null.
    pub param: Option<String>,
    /// The stable word of the kind of problem.
    pub code: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.kind.status).expect("the table holds valid codes")
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let mut response = HttpResponse::build(self.status_code());
        response.insert_header((CONTENT_TYPE, MEDIA_TYPE));
        if self.kind == kinds::UNAUTHORIZED {
            response.insert_header((WWW_AUTHENTICATE, "Bearer realm=\"retrace\""));
        }
        if let Some(seconds) = self.retry_after_s {
            response.insert_header((RETRY_AFTER, seconds));
        }
        let body = serde_json::to_vec(&self.body()).expect("strings and numbers serialise");
        response.body(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_has_the_members_of_rfc_9457() {
        let problem = Problem::invalid("n", "n is 9, over the limit images_per_request_max of 8");
        let body = serde_json::to_value(problem.body()).unwrap();
        assert_eq!(body["type"], "urn:retrace:problem:invalid-request");
        assert_eq!(body["status"], 400);
        assert_eq!(body["parameter"], "n");
        assert_eq!(body["error"]["type"], "invalid_request_error");
        assert_eq!(body["error"]["message"], body["detail"]);
        assert_eq!(body["error"]["param"], "n");
        assert!(
            body["detail"]
                .as_str()
                .unwrap()
                .contains("images_per_request_max")
        );
        let response = problem.error_response();
        assert_eq!(response.headers().get(CONTENT_TYPE).unwrap(), MEDIA_TYPE);
    }

    #[test]
    fn causes_of_the_service_are_not_sent() {
        let cause = std::io::Error::other("password of the database is hunter2");
        let body = serde_json::to_string(&Problem::internal(&cause).body()).unwrap();
        assert!(!body.contains("hunter2"));
    }

    #[test]
    fn a_full_image_store_is_named_and_may_be_tried_again() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let problem = Problem::from(crate::work::WorkError::Images(full));
        assert_eq!(problem.kind, kinds::STORAGE_FULL);
        assert!(problem.retry_after_s.is_some());
        let other = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let problem = Problem::from(crate::work::WorkError::Images(other));
        assert_eq!(problem.kind.status, 500);
    }

    #[test]
    fn a_missing_key_asks_for_one_and_overload_says_when_to_come_back() {
        let response = Problem::new(kinds::UNAUTHORIZED, "no key").error_response();
        assert!(response.headers().contains_key(WWW_AUTHENTICATE));
        let response = Problem::new(kinds::OVERLOADED, "busy")
            .retry_after(5)
            .error_response();
        assert_eq!(response.headers().get(RETRY_AFTER).unwrap(), "5");
    }
}

//! What every request passes: an id, a line in the log, safe headers, and problem details in
//! place of bare errors.

use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError};

use crate::metrics;
use crate::problem::{Problem, kinds};
use crate::request_id;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Headers of every answer that does not set them itself.
const HEADERS: [(&str, &str); 5] = [
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    (
        "content-security-policy",
        "default-src 'none'; frame-ancestors 'none'; sandbox",
    ),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-store"),
];

/// The interface's own page of documentation loads its scripts from here and sets styles inline.
const DOCS_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; \
                           img-src 'self' data:; frame-ancestors 'none'";

/// The outermost layer.
pub(super) async fn edge(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let id = request_id::draw();
    let started = Instant::now();
    let response = request_id::scope(id.clone(), async {
        next.call(request)
            .await
            .map(|response| with_problem(response.map_into_boxed_body()))
    });
    let mut response = response.await?;
    let is_docs = response.request().path().starts_with("/docs");
    add_headers(response.headers_mut(), &id, is_docs);
    log(&response, &id, started);
    Ok(response)
}

/// Errors of the framework (no such path, no such method, a body that broke off) become problems.
fn with_problem(response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    let status = response.status();
    let bare = match response.headers().get(CONTENT_TYPE) {
        None => true,
        Some(media_type) => media_type.as_bytes().starts_with(b"text/plain"),
    };
    if !bare || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let problem = match status {
        StatusCode::NOT_FOUND => Problem::new(kinds::NOT_FOUND, "there is nothing at this path"),
        StatusCode::METHOD_NOT_ALLOWED => Problem::new(
            kinds::METHOD_NOT_ALLOWED,
            "the path does not know this method",
        ),
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(kinds::TOO_LARGE, "the body is too large"),
        status if status.is_client_error() => {
            Problem::new(kinds::INVALID_REQUEST, "the request could not be read")
        }
        _ => Problem::new(
            kinds::INTERNAL,
            "the failure has been logged under this request's id",
        ),
    };
    response.into_response(problem.error_response())
}

fn add_headers(headers: &mut HeaderMap, id: &str, is_docs: bool) {
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
    if is_docs {
        let name = HeaderName::from_static("content-security-policy");
        headers.insert(name, HeaderValue::from_static(DOCS_POLICY));
    }
    for (name, value) in HEADERS {
        let name = HeaderName::from_static(name);
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

/// One line per request: the pattern of its path and no query, so that nothing private is logged.
fn log(response: &ServiceResponse<BoxBody>, id: &str, started: Instant) {
    let request = response.request();
    let path = request
        .match_pattern()
        .unwrap_or_else(|| "no such path".to_owned());
    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (method, status) = (request.method().as_str(), response.status().as_u16());
    metrics::observe_request(method, &path, status, started.elapsed());
    tracing::info!(request_id = id, method, path, status, ms, "answered");
}

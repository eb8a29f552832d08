//! What every page is wrapped in: forms of other sites are refused, browsers are told to load
//! nothing from elsewhere.

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use actix_web::middleware::Next;

use super::respond;

/// Inline pictures are those this service drew itself: thumbnails of uploads, strips.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; img-src 'self' data:; object-src 'none'; \
base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

const HEADERS: [(&str, &str); 5] = [
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cache-control", "no-store"),
];

/// Refuses a form that another site sent, and adds the headers.
pub(super) async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<EitherBody<impl MessageBody>>, actix_web::Error> {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = if safe || is_same_origin(request.headers()) {
        next.call(request).await?.map_into_left_body()
    } else {
        let refusal = respond::cross_site();
        request.into_response(refusal).map_into_right_body()
    };
    add_headers(response.headers_mut());
    Ok(response)
}

/// Tells the browser what a page of this service may do.
pub(super) fn add_headers(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        let name = HeaderName::from_static(name);
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

/// Whether the browser says that the form is one of ours: by `Sec-Fetch-Site`, which scripts cannot
/// set, or, for browsers without it, by an `Origin` that names the asked host. Programs send neither
/// header; nothing adds a cookie to their requests behind their back.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text(&HeaderName::from_static("sec-fetch-site")) {
        return site == "same-origin";
    }
    let Some(origin) = text(&ORIGIN) else {
        return true;
    };
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    match (authority, text(&HOST)) {
        (Some(authority), Some(host)) => authority.eq_ignore_ascii_case(host),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_str(value).unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn a_form_of_our_own_page_passes() {
        assert!(is_same_origin(&headers(&[(
            "sec-fetch-site",
            "same-origin"
        )])));
        let origin = [
            ("origin", "http://127.0.0.1:8080"),
            ("host", "127.0.0.1:8080"),
        ];
        assert!(is_same_origin(&headers(&origin)));
    }

    #[test]
    fn a_form_of_another_site_is_refused() {
        for site in ["cross-site", "same-site", "none", ""] {
            let pairs = [
                ("sec-fetch-site", site),
                ("origin", "http://127.0.0.1:8080"),
                ("host", "127.0.0.1:8080"),
            ];
            assert!(!is_same_origin(&headers(&pairs)), "{site:?}");
        }
        for origin in [
            "http://evil.example",
            "null",
            "http://127.0.0.1:8081",
            "127.0.0.1:8080",
        ] {
            let pairs = [("origin", origin), ("host", "127.0.0.1:8080")];
            assert!(!is_same_origin(&headers(&pairs)), "{origin:?}");
        }
    }

    #[test]
    fn a_program_that_names_no_origin_passes() {
        assert!(is_same_origin(&headers(&[("host", "127.0.0.1:8080")])));
    }
}

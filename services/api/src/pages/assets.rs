//! The style sheet, the script and the drawings, built into the binary.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use actix_web::{HttpRequest, HttpResponse, web};
use provenance::Digest;

/// A built-in file: name below `/assets/`, media type, bytes.
type Asset = (&'static str, &'static str, &'static [u8]);

const ASSETS: [Asset; 4] = [
    (
        "retrace.css",
        "text/css; charset=utf-8",
        include_bytes!("../../assets/retrace.css"),
    ),
    (
        "retrace.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../../assets/retrace.js"),
    ),
    (
        "mark.svg",
        "image/svg+xml",
        include_bytes!("../../assets/mark.svg"),
    ),
    (
        "process.svg",
        "image/svg+xml",
        include_bytes!("../../assets/process.svg"),
    ),
];

/// `GET /assets/{name}`
pub(super) async fn get(request: HttpRequest, name: web::Path<String>) -> HttpResponse {
    let Some((_, media_type, bytes)) = ASSETS.iter().find(|asset| asset.0 == name.as_str()) else {
        return HttpResponse::NotFound().finish();
    };
    let tag = format!("\"{}\"", Digest::of(bytes));
    let known = request
        .headers()
        .get(IF_NONE_MATCH)
        .is_some_and(|value| value == tag.as_str());
    let mut response = if known {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    // `no-cache` lets a browser keep the file but asks each time whether it is still the same, so
    // that a new version of the service never meets an old style sheet.
    response
        .insert_header((ETAG, tag))
        .insert_header((CACHE_CONTROL, "no-cache"));
    if known {
        return response.finish();
    }
    response
        .insert_header((CONTENT_TYPE, *media_type))
        .body(*bytes)
}

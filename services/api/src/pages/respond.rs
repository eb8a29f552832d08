//! Rendered pages as answers.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::ContentType;
use askama::Template;

use super::view::{Frame, Place, Problem, ProblemPage};

/// Renders a page.
pub(super) fn page(status: StatusCode, page: &impl Template) -> HttpResponse {
    match page.render() {
        Ok(html) => HttpResponse::build(status)
            .content_type(ContentType::html())
            .body(html),
        Err(error) => {
            tracing::error!(%error, "a page was not rendered");
            HttpResponse::InternalServerError().finish()
        }
    }
}

/// A page that holds nothing but a refusal.
pub(super) fn problem(status: StatusCode, frame: Frame, title: &str, detail: &str) -> HttpResponse {
    let problem = Problem {
        title: title.to_owned(),
        detail: detail.to_owned(),
    };
    page(
        status,
        &ProblemPage {
            frame,
            status: status.as_u16(),
            problem,
        },
    )
}

/// The answer to a form that another site sent.
pub(super) fn cross_site() -> HttpResponse {
    let frame = Frame {
        title: "Refused".to_owned(),
        place: Place::Elsewhere,
        client: None,
        keys_exist: false,
    };
    let detail =
        "The form was not sent from a page of this service. Open the page here and send it again.";
    problem(
        StatusCode::FORBIDDEN,
        frame,
        "This form came from another site",
        detail,
    )
}

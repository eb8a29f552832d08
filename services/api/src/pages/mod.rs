//! The pages: rendered on the server, usable without scripts.
//!
//! A page calls the same journeys as the HTTP interface and says the same things in words. Handlers
//! translate domain values into the structures of [`view`]; templates lay these out.

mod assets;
mod case;
mod case_view;
mod cases;
mod curve;
mod entry;
mod findings;
mod guard;
mod home;
mod ledger;
mod pictures;
mod present;
mod present_score;
mod respond;
mod review;
mod search;
mod session;
mod sign_in;
mod strips;
mod studio;
mod view;
mod visitor;

use actix_web::error::{QueryPayloadError, UrlencodedError};
use actix_web::http::header::ACCEPT;
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{Error, FromRequest, Handler, HttpRequest, HttpResponse, Resource, Responder};
use actix_web::{ResponseError, Route};

use crate::problem::{Problem, kinds};
use visitor::PageError;

/// Registers every page and the files they load. It comes last: what no other path takes is
/// answered here.
pub fn configure(config: &mut ServiceConfig) {
    config
        .service(page("/", home::show, None))
        .service(page(
            "/studio",
            studio::show,
            Some(web::post().to(studio::make)),
        ))
        .service(page(
            "/review",
            review::show,
            Some(web::post().to(review::examine)),
        ))
        .service(page("/cases", cases::show, None))
        .service(page("/cases/{id}", case::show, None))
        .service(form("/cases/{id}/notes", web::post().to(case::add_note)))
        .service(form("/cases/{id}/close", web::post().to(case::close)))
        .service(form("/cases/{id}/erase", web::post().to(case::erase)))
        .service(page("/ledger", ledger::show, None))
        .service(page("/ledger/export", ledger::export, None))
        .service(page("/ledger/{index}", entry::show, None))
        .service(page(
            "/sign-in",
            sign_in::show,
            Some(web::post().to(sign_in::enter)),
        ))
        .service(form("/sign-out", web::post().to(sign_in::leave)))
        .service(
            web::resource("/assets/{name}")
                .route(web::get().to(assets::get))
                .route(web::head().to(assets::get)),
        )
        .default_service(web::to(nothing_here));
}

/// A page with its form, if it has one.
fn page<H, Args>(
    path: &str,
    show: H,
    form: Option<Route>,
) -> Resource<
    impl actix_web::dev::ServiceFactory<
        actix_web::dev::ServiceRequest,
        Config = (),
        Response = actix_web::dev::ServiceResponse<impl actix_web::body::MessageBody>,
        Error = Error,
        InitError = (),
    >,
>
where
    H: Handler<Args> + Copy,
    Args: FromRequest + 'static,
    H::Output: Responder + 'static,
{
    let page = web::resource(path)
        .app_data(web::QueryConfig::default().error_handler(query_error))
        .app_data(web::FormConfig::default().error_handler(form_error))
        .route(web::get().to(show))
        .route(web::head().to(show));
    match form {
        Some(form) => page.route(form),
        None => page,
    }
    .wrap(from_fn(guard::guard))
}

/// A form that has no page of its own.
fn form(
    path: &str,
    form: Route,
) -> Resource<
    impl actix_web::dev::ServiceFactory<
        actix_web::dev::ServiceRequest,
        Config = (),
        Response = actix_web::dev::ServiceResponse<impl actix_web::body::MessageBody>,
        Error = Error,
        InitError = (),
    >,
> {
    web::resource(path)
        .app_data(web::FormConfig::default().error_handler(form_error))
        .route(form)
        .wrap(from_fn(guard::guard))
}

fn query_error(error: QueryPayloadError, _: &HttpRequest) -> Error {
    let detail = match &error {
        QueryPayloadError::Deserialize(cause) => cause.to_string(),
        _ => "the address cannot be read".to_owned(),
    };
    PageError::outside(Problem::new(kinds::INVALID_REQUEST, detail)).into()
}

fn form_error(error: UrlencodedError, _: &HttpRequest) -> Error {
    let problem = match error {
        UrlencodedError::Overflow { limit, .. } => {
            let detail = format!("the form is over the limit of {limit} bytes");
            Problem::new(kinds::TOO_LARGE, detail)
        }
        _ => Problem::new(kinds::INVALID_REQUEST, "the form cannot be read"),
    };
    PageError::outside(problem).into()
}

/// No such path: in words for a browser, as problem details for a program.
async fn nothing_here(request: HttpRequest) -> HttpResponse {
    let accept = request
        .headers()
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    let wants_page = accept.is_some_and(|accept| accept.contains("text/html"));
    let problem = Problem::new(kinds::NOT_FOUND, "there is nothing at this path");
    if !wants_page || request.path().starts_with("/v1/") {
        return problem.error_response();
    }
    let mut response = PageError::outside(problem).error_response();
    guard::add_headers(response.headers_mut());
    response
}

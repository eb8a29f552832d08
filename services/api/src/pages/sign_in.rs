//! `/sign-in` and `/sign-out`

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{LOCATION, SET_COOKIE};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;

use super::view::{Frame, Place, Problem, SignInPage};
use super::visitor::shown_error;
use super::{respond, session};
use crate::state::AppState;

/// Where to go afterwards.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Next {
    next: String,
}

/// The form's fields.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
pub(super) struct Fields {
    key: String,
    next: String,
}

/// The form.
pub(super) async fn show(next: web::Query<Next>) -> HttpResponse {
    respond::page(StatusCode::OK, &form(&next.next, None))
}

/// Checks the key and stores it in the browser.
pub(super) async fn enter(
    request: HttpRequest,
    state: web::Data<AppState>,
    fields: web::Form<Fields>,
) -> HttpResponse {
    let state: Arc<AppState> = state.into_inner();
    let key = fields.key.trim().to_owned();
    let (ledger, asked) = (state.ledger.clone(), key.clone());
    let client = match state
        .run(async move { Ok(ledger.authenticate(&asked).await?) })
        .await
    {
        Ok(client) => client,
        Err(error) => {
            let (status, problem) = shown_error(error);
            return respond::page(status, &form(&fields.next, Some(problem)));
        }
    };
    let https = request.connection_info().scheme() == "https";
    match client.and_then(|_| session::store(&key, https)) {
        Some(cookie) => HttpResponse::SeeOther()
            .insert_header((SET_COOKIE, cookie))
            .insert_header((LOCATION, session::destination(&fields.next)))
            .finish(),
        None => {
            let problem = Problem {
                title: "This key is not known".to_owned(),
                detail: "It was mistyped, or it was revoked.".to_owned(),
            };
            respond::page(StatusCode::UNAUTHORIZED, &form(&fields.next, Some(problem)))
        }
    }
}

/// Forgets the key.
pub(super) async fn leave() -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((SET_COOKIE, session::forget()))
        .insert_header((LOCATION, "/sign-in"))
        .finish()
}

fn form(next: &str, problem: Option<Problem>) -> SignInPage {
    let frame = Frame {
        title: "Sign in".to_owned(),
        place: Place::Elsewhere,
        client: None,
        keys_exist: false,
    };
    SignInPage {
        frame,
        next: session::destination(next).to_owned(),
        problem,
    }
}

//! Who looks at a page, and what a page answers instead of itself.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use ::ledger::Scope;
use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use actix_web::{FromRequest, HttpRequest, HttpResponse, ResponseError, web};

use super::present_score::sentence;
use super::respond;
use super::view::{self, Frame, Place};
use crate::access::{self, Caller};
use crate::problem::{Problem, kinds};
use crate::state::AppState;
use crate::work::WorkError;

/// A known caller with a browser.
pub(super) struct Visitor {
    pub(super) state: Arc<AppState>,
    pub(super) caller: Caller,
}

impl Visitor {
    /// What surrounds a page for this visitor.
    pub(super) fn frame(&self, title: impl Into<String>, place: Place) -> Frame {
        let keys_exist = self.caller.keys_exist;
        let client = keys_exist.then(|| self.caller.client.clone());
        Frame {
            title: title.into(),
            place,
            client,
            keys_exist,
        }
    }

    /// Refuses a visitor whose key lacks this scope.
    pub(super) fn require(&self, scope: Scope) -> Result<(), PageError> {
        self.caller
            .require(scope)
            .map_err(|problem| self.refuse(problem))
    }

    /// A refusal as a page of its own.
    pub(super) fn refuse(&self, problem: impl Into<Problem>) -> PageError {
        PageError::Problem {
            problem: problem.into(),
            frame: Box::new(self.frame("Refused", Place::Elsewhere)),
        }
    }
}

impl FromRequest for Visitor {
    type Error = PageError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, PageError>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let state = request.app_data::<web::Data<AppState>>().cloned();
        let request = request.clone();
        Box::pin(async move {
            let state = state.expect("start-up registers the state with every worker");
            let state = state.into_inner();
            match access::identify(&state, &request).await {
                Ok(caller) => Ok(Self { state, caller }),
                Err(problem) if problem.kind == kinds::UNAUTHORIZED => {
                    Err(unknown(&state, &request, problem).await)
                }
                Err(problem) => Err(PageError::outside(problem)),
            }
        })
    }
}

/// Without a valid key: the sign-in page, if there is any key that one could have.
async fn unknown(state: &Arc<AppState>, request: &HttpRequest, problem: Problem) -> PageError {
    let ledger = state.ledger.clone();
    let keys_exist = state
        .run(async move { Ok(ledger.has_clients().await?) })
        .await;
    match keys_exist {
        Ok(true) => {
            let next = request
                .uri()
                .path_and_query()
                .map_or("/", |path| path.as_str());
            PageError::SignIn {
                next: next.to_owned(),
            }
        }
        _ => PageError::outside(problem),
    }
}

/// What a page answers instead of itself.
#[derive(Debug)]
pub(super) enum PageError {
    /// A refusal or a failure.
    Problem { problem: Problem, frame: Box<Frame> },
    /// The visitor has to sign in first.
    SignIn { next: String },
}

impl PageError {
    /// A refusal of somebody unknown.
    pub(super) fn outside(problem: Problem) -> Self {
        let frame = Frame {
            title: "Refused".to_owned(),
            place: Place::Elsewhere,
            client: None,
            keys_exist: false,
        };
        Self::Problem {
            problem,
            frame: Box::new(frame),
        }
    }
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Problem { problem, .. } => problem.fmt(f),
            Self::SignIn { .. } => f.write_str("sign in first"),
        }
    }
}

impl ResponseError for PageError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Problem { problem, .. } => problem.status_code(),
            Self::SignIn { .. } => StatusCode::SEE_OTHER,
        }
    }

    fn error_response(&self) -> HttpResponse {
        match self {
            Self::Problem { problem, frame } => {
                let shown = shown(problem);
                let frame = frame.as_ref().clone();
                respond::problem(problem.status_code(), frame, &shown.title, &shown.detail)
            }
            Self::SignIn { next } => {
                let query = [("next", next.as_str())];
                let query = serde_urlencoded::to_string(query).unwrap_or_default();
                HttpResponse::SeeOther()
                    .insert_header((LOCATION, format!("/sign-in?{query}")))
                    .finish()
            }
        }
    }
}

/// A problem in the words of a page.
pub(super) fn shown(problem: &Problem) -> view::Problem {
    view::Problem {
        title: problem.kind.title.to_owned(),
        detail: sentence(&problem.detail),
    }
}

/// A failed journey in the words of a page, with the status of the answer.
pub(super) fn shown_error(error: WorkError) -> (StatusCode, view::Problem) {
    let problem = Problem::from(error);
    (problem.status_code(), shown(&problem))
}

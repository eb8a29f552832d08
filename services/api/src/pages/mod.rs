//! The pages: rendered on the server, usable without scripts.
//!
//! A page calls the same journeys as the HTTP interface and says the same things in words. Handlers
//! translate domain values into the structures of [`view`]; templates lay these out.

mod assets;
mod entry;
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
mod studio;
mod view;
mod visitor;

use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};

/// Registers every page and the files they load.
pub fn configure(config: &mut ServiceConfig) {
    let page = |path: &str| web::resource(path).wrap(from_fn(guard::guard));
    config
        .service(page("/").route(web::get().to(home::show)))
        .service(
            page("/studio")
                .route(web::get().to(studio::show))
                .route(web::post().to(studio::make)),
        )
        .service(
            page("/review")
                .route(web::get().to(review::show))
                .route(web::post().to(review::examine)),
        )
        .service(page("/ledger").route(web::get().to(ledger::show)))
        .service(page("/ledger/{index}").route(web::get().to(entry::show)))
        .service(
            page("/sign-in")
                .route(web::get().to(sign_in::show))
                .route(web::post().to(sign_in::enter)),
        )
        .service(page("/sign-out").route(web::post().to(sign_in::leave)))
        .route("/assets/{name}", web::get().to(assets::get));
}

//! `/openapi.json` and its page, `/docs`.

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, web};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_swagger_ui::SwaggerUi;

use super::{
    cases, checkpoint, edits, entries, export, generations, health, jobs, metrics, models, scores,
    sdapi, soft_binding, tiles, time_stamps, variations,
};

/// The interface's own description.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Retrace",
        description = "Generates images that are signed into a tamper-evident ledger, scores \
                       uploads by the trace of their inversion, and lets auditors check the record. \
                       Errors are RFC 9457 problem details.",
    ),
    paths(
        generations::create,
        edits::create,
        variations::create,
        models::list,
        models::get,
        sdapi::txt2img,
        sdapi::img2img,
        sdapi::progress,
        sdapi::interrupt,
        sdapi::named_schedulers,
        sdapi::schedulers,
        sdapi::sd_models,
        sdapi::options,
        sdapi::set_options,
        sdapi::png_info,
        jobs::list,
        jobs::get,
        jobs::cancel,
        jobs::events,
        scores::create,
        cases::open,
        cases::list,
        cases::get,
        cases::image,
        cases::upload,
        cases::add_note,
        cases::close,
        cases::erase,
        entries::list,
        entries::get,
        export::export,
        entries::proof,
        entries::bundle,
        entries::image,
        soft_binding::supported_algorithms,
        soft_binding::by_binding,
        soft_binding::by_posted_binding,
        soft_binding::by_content,
        soft_binding::manifest,
        soft_binding::receipts,
        checkpoint::latest,
        checkpoint::consistency,
        checkpoint::public_key,
        time_stamps::list,
        time_stamps::checkpoint,
        time_stamps::reply,
        tiles::hashes,
        tiles::entries,
        health::healthz,
        health::readyz,
        metrics::metrics,
    ),
    tags(
        (name = "images", description = "Generate and sign"),
        (name = "a1111", description = "Generate and sign, in the shape of A1111's interface"),
        (name = "jobs", description = "Follow and cancel asynchronous work"),
        (name = "scores", description = "Score uploads"),
        (name = "cases", description = "Keep, read and decide what was scored"),
        (name = "audit", description = "Read and check the record"),
        (name = "soft bindings", description = "Find entries by fingerprint, in the shape of C2PA's \
                                               Soft Binding Resolution API"),
        (name = "operations", description = "How the service is"),
    ),
    modifiers(&KeyScheme),
)]
struct Interface;

/// API keys as bearer tokens.
struct KeyScheme;

impl Modify for KeyScheme {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "An API key of `retrace key client`. While no key exists, callers on the \
                 service's own machine need none.",
            ))
            .build();
        let components = openapi.components.get_or_insert_with(Default::default);
        components.add_security_scheme("key", SecurityScheme::Http(bearer));
        let basic = HttpBuilder::new()
            .scheme(HttpAuthScheme::Basic)
            .description(Some("The same key as password, with any user name."))
            .build();
        components.add_security_scheme("password", SecurityScheme::Http(basic));
    }
}

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config
        .route("/docs", web::get().to(to_docs))
        .service(SwaggerUi::new("/docs/{_:.*}").url("/openapi.json", Interface::openapi()));
}

async fn to_docs() -> HttpResponse {
    HttpResponse::PermanentRedirect()
        .insert_header((LOCATION, "/docs/"))
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_names_every_path_and_the_scope_it_needs() {
        let json = serde_json::to_value(Interface::openapi()).unwrap();
        let paths = json["paths"].as_object().unwrap();
        for path in [
            "/v1/images/generations",
            "/v1/images/edits",
            "/v1/images/variations",
            "/v1/models/{id}",
            "/sdapi/v1/txt2img",
            "/sdapi/v1/png-info",
            "/v1/scores",
            "/v1/entries/{index}/bundle",
            "/checkpoint",
        ] {
            assert!(paths.contains_key(path), "{path}");
        }
        let scopes = &json["paths"]["/v1/scores"]["post"]["security"][0]["key"];
        assert_eq!(scopes[0], "score");
        assert_eq!(
            json["components"]["securitySchemes"]["key"]["scheme"],
            "bearer"
        );
    }
}

//! `POST /sdapi/v1/png-info`

use actix_web::{HttpResponse, web};
use media::{MetadataItem, Place};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::img2img::picture;
use crate::access::Caller;
use crate::problem::{Problem, ProblemBody};
use crate::state::AppState;
use crate::work::{self, infotext};

/// A picture.
#[derive(Debug, Deserialize, ToSchema)]
pub(in crate::routes) struct PngInfoRequest {
    /// The file in base64.
    image: String,
}

/// What a file says about how it was made. Its words are those of whoever wrote it, and prove nothing.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::routes) struct PngInfoBody {
    /// Prompt and settings as one text; empty when the file has none.
    info: String,
    /// The texts of the file, by their names.
    #[schema(value_type = Object)]
    items: Map<String, Value>,
    /// Prompt and settings one by one.
    #[schema(value_type = Object)]
    parameters: Map<String, Value>,
}

impl PngInfoBody {
    fn new(metadata: &[MetadataItem]) -> Self {
        let info = infotext_of(metadata).unwrap_or_default().to_owned();
        let mut items = Map::new();
        for item in metadata {
            if let Place::PngText(name) | Place::Exif(name) = &item.place {
                items.insert(name.clone(), item.value.clone().into());
            }
        }
        let mut parameters = Map::new();
        if !info.is_empty() {
            let parsed = infotext::parse(&info);
            parameters.insert("Prompt".to_owned(), parsed.prompt.into());
            parameters.insert("Negative prompt".to_owned(), parsed.negative_prompt.into());
            for (name, value) in parsed.settings {
                // A1111 tells the sides of a size one by one.
                if let Some((width, height)) = value.split_once('x').filter(|_| name == "Size") {
                    parameters.insert("Size-1".to_owned(), width.into());
                    parameters.insert("Size-2".to_owned(), height.into());
                } else {
                    parameters.insert(name, value.into());
                }
            }
        }
        Self {
            info,
            items,
            parameters,
        }
    }
}

/// Prompt and settings as one text, where a file has them.
pub(super) fn infotext_of(metadata: &[MetadataItem]) -> Option<&str> {
    let item = metadata.iter().find(|item| is_parameters(&item.place))?;
    Some(&item.value)
}

fn is_parameters(place: &Place) -> bool {
    match place {
        Place::PngText(keyword) => keyword == "parameters",
        Place::Exif(tag) => tag == "UserComment",
        _ => false,
    }
}

/// Read prompt and settings from a file. It is parsed in a confined process and not kept.
#[utoipa::path(
    post,
    path = "/sdapi/v1/png-info",
    tag = "a1111",
    request_body = PngInfoRequest,
    responses(
        (status = 200, body = PngInfoBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["generate"]), ("password" = ["generate"]))
)]
pub(in crate::routes) async fn png_info(
    state: web::Data<AppState>,
    caller: Caller,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    caller.require(ledger::Scope::Generate)?;
    let request: PngInfoRequest = super::read_json(&state, payload, 1).await?;
    let metadata = work::read_metadata(&state, picture("image", &request.image)?).await?;
    Ok(HttpResponse::Ok().json(PngInfoBody::new(&metadata)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_of_a_file_are_told_whole_and_one_by_one() {
        let text = "a red heart\nSteps: 4, Sampler: Euler a, Size: 64x48";
        let png = media::encode_png(1, 1, &[0; 3], &[("parameters", text)]).unwrap();
        let decoded = media::decode(&png, &media::Limits::default()).unwrap();
        let body = PngInfoBody::new(&decoded.metadata);
        assert_eq!(body.info, text);
        assert_eq!(body.items["parameters"], text);
        assert_eq!(body.parameters["Prompt"], "a red heart");
        assert_eq!(body.parameters["Size-2"], "48");
        assert!(PngInfoBody::new(&[]).info.is_empty());
    }
}

//! `POST /sdapi/v1/img2img`

use actix_web::{HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::infos::{ImagesBody, Wish};
use super::txt2img::{TextToImageRequest, carry_out};
use crate::access::Caller;
use crate::problem::{Problem, ProblemBody};
use crate::state::AppState;
use crate::work::{self, GenerateOrder, MaskReading, SourceFile};

/// Pictures that one request can carry: the initial image and the mask.
const PICTURES: u64 = 2;
/// Strength of a request that names none, as in A1111.
const DENOISING_STRENGTH: f32 = 0.75;

/// A request in the shape of A1111's interface: all values of `txt2img` besides.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub(in crate::routes) struct ImageToImageRequest {
    /// One picture, in base64.
    init_images: Vec<String>,
    /// A picture of the same size, in base64: white is painted anew.
    mask: Option<String>,
    /// 0: the picture is resized to width and height.
    resize_mode: u32,
    /// Softness of the mask's edge; without meaning here.
    mask_blur: Option<f32>,
    /// What is under the mask at the start: 1, the picture itself.
    inpainting_fill: Option<u32>,
    /// Whether only the part around the mask is worked on; not done here.
    inpaint_full_res: Option<Value>,
    /// Pixels around that part; without meaning here.
    inpaint_full_res_padding: Option<u32>,
    /// Whether black is painted anew in place of white.
    inpainting_mask_invert: Option<Value>,
    /// Factor on the noise; 1.
    initial_noise_multiplier: Option<f32>,
    /// Without meaning here: no model is guided by the picture.
    image_cfg_scale: Option<f32>,
    /// Whether `parameters` of the answer carry the pictures; they never do.
    include_init_images: bool,
    /// All values of `txt2img`.
    #[serde(flatten)]
    #[schema(inline)]
    values: TextToImageRequest,
}

impl ImageToImageRequest {
    /// Refuses what is not done, and notes what is done in another way.
    fn check(&self) -> Result<Vec<String>, Problem> {
        if self.resize_mode != 0 {
            let detail = "resize_mode must be 0: the picture is resized to width and height";
            return Err(Problem::invalid("resize_mode", detail));
        }
        if self
            .initial_noise_multiplier
            .is_some_and(|factor| factor != 1.0)
        {
            let detail = "initial_noise_multiplier must be 1";
            return Err(Problem::invalid("initial_noise_multiplier", detail));
        }
        let mut warnings = Vec::new();
        if self.mask.is_some() {
            if self.mask_blur.is_some_and(|blur| blur != 0.0) {
                warnings.push("mask_blur has no effect: the mask's edge is sharp".to_owned());
            }
            if self.inpainting_fill.unwrap_or(0) != 1 {
                let text = "inpainting_fill has no effect: what is painted over starts from itself";
                warnings.push(text.to_owned());
            }
            if self.inpaint_full_res.as_ref().is_some_and(is_true) {
                let text = "inpaint_full_res has no effect: the whole picture is worked on";
                warnings.push(text.to_owned());
            }
        }
        Ok(warnings)
    }

    /// The parameters as the answer repeats them.
    fn parameters(&mut self) -> Result<Value, Problem> {
        self.init_images.clear();
        self.mask = None;
        serde_json::to_value(&*self).map_err(|error| Problem::internal(&error))
    }
}

/// Clients send truth values as numbers too.
fn is_true(value: &Value) -> bool {
    value
        .as_bool()
        .unwrap_or(value.as_f64().is_some_and(|number| number != 0.0))
}

/// A picture in base64, with or without the head of a data URL.
pub(super) fn picture(parameter: &'static str, text: &str) -> Result<SourceFile, Problem> {
    let base64 = match text.split_once(',') {
        Some((head, rest)) if head.starts_with("data:") => rest,
        _ => text,
    };
    let bytes = STANDARD
        .decode(base64.trim())
        .map_err(|error| Problem::invalid(parameter, error.to_string()))?;
    Ok(SourceFile {
        bytes,
        file_name: None,
        media_type: None,
    })
}

/// Paint a picture anew as A1111's interface does; sign and record the result.
#[utoipa::path(
    post,
    path = "/sdapi/v1/img2img",
    tag = "a1111",
    request_body = ImageToImageRequest,
    responses(
        (status = 200, body = ImagesBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", body = ProblemBody, content_type = "application/problem+json")
    ),
    security(("key" = ["generate"]), ("password" = ["generate"]))
)]
pub(in crate::routes) async fn img2img(
    state: web::Data<AppState>,
    caller: Caller,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    caller.require(ledger::Scope::Generate)?;
    let mut request: ImageToImageRequest = super::read_json(&state, payload, PICTURES).await?;
    let warnings = request.check()?;
    let wish = request.values.wish(&state)?;
    let [init_image] = request.init_images.as_slice() else {
        let detail = format!(
            "init_images has {} pictures, it must be 1",
            request.init_images.len()
        );
        return Err(Problem::invalid("init_images", detail));
    };
    let init_image = work::open_picture(&state, picture("init_images", init_image)?).await?;
    let mut mask = None;
    if let Some(text) = &request.mask {
        let file = picture("mask", text)?;
        let mut read = work::open_mask(&state, file, MaskReading::Brightness).await?;
        if request.inpainting_mask_invert.as_ref().is_some_and(is_true) {
            read.luma.iter_mut().for_each(|value| *value = 255 - *value);
        }
        mask = Some(read);
    }
    let strength = request
        .values
        .denoising_strength
        .unwrap_or(DENOISING_STRENGTH);
    let wish = Wish {
        order: GenerateOrder {
            init_image: Some(init_image),
            mask,
            strength: Some(strength),
            ..wish.order
        },
        warnings,
        ..wish
    };
    let send_images = request.values.send_images.unwrap_or(true);
    let parameters = request.parameters()?;
    carry_out(&state, &caller, wish, (parameters, send_images)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_come_as_base64_with_or_without_a_data_url() {
        for text in ["AAEC", "data:image/png;base64,AAEC"] {
            assert_eq!(picture("image", text).unwrap().bytes, [0, 1, 2]);
        }
        assert_eq!(picture("image", "A*").unwrap_err().parameter, Some("image"));
    }

    #[test]
    fn what_is_done_in_another_way_is_said_and_what_is_not_done_is_refused() {
        let request = |json: &str| -> ImageToImageRequest { serde_json::from_str(json).unwrap() };
        let usual = r#"{"mask":"AA==","mask_blur":4,"inpainting_fill":0,"inpaint_full_res":true,
                        "initial_noise_multiplier":1,"resize_mode":0,"prompt":"a"}"#;
        assert_eq!(request(usual).check().unwrap().len(), 3);
        let exact = r#"{"mask":"AA==","mask_blur":0,"inpainting_fill":1,"inpaint_full_res":0}"#;
        assert!(request(exact).check().unwrap().is_empty());
        let refused = request(r#"{"resize_mode":1}"#).check().unwrap_err();
        assert_eq!(refused.parameter, Some("resize_mode"));
    }
}

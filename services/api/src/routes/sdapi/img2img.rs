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
use crate::work::{self, GenerateOrder, MaskPainting, MaskReading, MaskedContent, SourceFile};

/// Pictures that one request can carry: the initial image and the mask.
const PICTURES: u64 = 2;
/// Strength of a request that names none, as in A1111.
const DENOISING_STRENGTH: f32 = 0.75;
/// Softness of the mask of a request that names none, as in A1111.
const MASK_BLUR: f32 = 4.0;

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
    /// Softness of the mask's edge, the deviation of a Gaussian in pixels, up to 64; 4 when left out.
    mask_blur: Option<f32>,
    /// What is under the mask at the start: 0 the colours round it, 1 the picture itself, 2 noise, 3 nothing, both as
    /// latents; 0 when left out. Of no effect at a strength of 1, which starts from noise alone.
    inpainting_fill: Option<u32>,
    /// Whether the part around the mask alone is worked on, at width and height, and put back into the picture, whose
    /// size stays; true when left out.
    inpaint_full_res: Option<Value>,
    /// Pixels around that part; 0 when left out.
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
    /// Refuses what is not done.
    fn check(&self) -> Result<(), Problem> {
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
        Ok(())
    }

    /// How the masked part is painted, if there is a mask; what is left out is as in A1111.
    fn painting(&self) -> Result<Option<MaskPainting>, Problem> {
        if self.mask.is_none() {
            return Ok(None);
        }
        let number = self.inpainting_fill.unwrap_or(0);
        let content = MaskedContent::ALL.get(number as usize).ok_or_else(|| {
            let detail = format!(
                "inpainting_fill is {number}, it must be 0 (fill), 1 (original), 2 (latent noise) or \
                 3 (latent nothing)"
            );
            Problem::invalid("inpainting_fill", detail)
        })?;
        let part_alone = self.inpaint_full_res.as_ref().is_none_or(is_true);
        Ok(Some(MaskPainting {
            blur: self.mask_blur.unwrap_or(MASK_BLUR),
            content: *content,
            padding: part_alone.then(|| self.inpaint_full_res_padding.unwrap_or(0)),
        }))
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
    request.check()?;
    let painting = request.painting()?;
    let wish = request.values.wish(&state).await?;
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
            painting,
            strength: Some(strength),
            ..wish.order
        },
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
    fn a_mask_is_painted_as_a1111_paints_it_and_what_is_not_done_is_refused() {
        let request = |json: &str| -> ImageToImageRequest { serde_json::from_str(json).unwrap() };
        let usual = r#"{"mask":"AA==","initial_noise_multiplier":1,"resize_mode":0,"prompt":"a"}"#;
        assert!(request(usual).check().is_ok());
        let usual = request(usual).painting().unwrap().unwrap();
        assert_eq!(
            (usual.blur, usual.content, usual.padding),
            (4.0, MaskedContent::Fill, Some(0))
        );
        let whole = r#"{"mask":"AA==","mask_blur":0,"inpainting_fill":3,"inpaint_full_res":0}"#;
        let whole = request(whole).painting().unwrap().unwrap();
        assert_eq!(
            (whole.content, whole.padding),
            (MaskedContent::LatentNothing, None)
        );
        assert_eq!(request(r#"{"mask_blur":4}"#).painting().unwrap(), None);
        let unknown = request(r#"{"mask":"AA==","inpainting_fill":4}"#);
        let refused = unknown.painting().unwrap_err();
        assert_eq!(refused.parameter, Some("inpainting_fill"));
        let refused = request(r#"{"resize_mode":1}"#).check().unwrap_err();
        assert_eq!(refused.parameter, Some("resize_mode"));
    }
}

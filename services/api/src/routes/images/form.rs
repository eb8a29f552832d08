//! Reading a form with pictures and settings, within its limits.

use actix_multipart::{Field, Multipart};
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, web};
use futures_util::StreamExt;
use utoipa::ToSchema;

use super::request::ImageRequest;
use crate::problem::{Problem, kinds};
use crate::routes::uploads::in_time;
use crate::state::AppState;
use crate::work::SourceFile;

/// Most fields of one form; the interface has about thirty.
const FIELDS_MAX: usize = 64;

/// What a form held.
pub(in crate::routes) struct Form {
    /// The settings.
    pub(in crate::routes) request: ImageRequest,
    /// The picture to start from.
    pub(in crate::routes) image: SourceFile,
    /// Where it is painted over.
    pub(in crate::routes) mask: Option<SourceFile>,
}

/// An edit as a form: all values of a generation besides.
#[derive(ToSchema)]
#[allow(
    dead_code,
    reason = "it describes the form; the form is read as a stream"
)]
pub(in crate::routes) struct EditForm {
    /// The picture to start from: PNG, JPEG or WebP. Transparency lies on white.
    #[schema(value_type = String, format = Binary, content_media_type = "application/octet-stream")]
    image: Vec<u8>,
    /// A picture of the same size with transparency: where it is fully transparent, the picture is
    /// painted anew. Without a mask the whole picture is.
    #[schema(value_type = Option<String>, format = Binary, content_media_type = "application/octet-stream")]
    mask: Option<Vec<u8>>,
    /// All values of a generation.
    #[schema(inline)]
    #[serde(flatten)]
    request: ImageRequest,
}

/// A variation as a form: all values of a generation besides, but no prompt.
#[derive(ToSchema)]
#[allow(
    dead_code,
    reason = "it describes the form; the form is read as a stream"
)]
pub(in crate::routes) struct VariationForm {
    /// The picture to start from: PNG, JPEG or WebP. Transparency lies on white.
    #[schema(value_type = String, format = Binary, content_media_type = "application/octet-stream")]
    image: Vec<u8>,
    /// All values of a generation.
    #[schema(inline)]
    #[serde(flatten)]
    request: ImageRequest,
}

/// Reads a form in its turn and its time.
///
/// # Errors
/// What is missing, unknown, twice there or over its limit.
pub(in crate::routes) async fn read(
    state: &AppState,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<Form, Problem> {
    let media_type = request.headers().get(CONTENT_TYPE);
    let media_type = media_type.and_then(|value| value.to_str().ok());
    let is_form = |text: &str| text.to_ascii_lowercase().starts_with("multipart/form-data");
    if !media_type.is_some_and(is_form) {
        let detail = "send the pictures as multipart/form-data";
        return Err(Problem::new(kinds::UNSUPPORTED_MEDIA, detail));
    }
    let form = Multipart::new(request.headers(), payload);
    in_time(state, gather(state, form)).await
}

async fn gather(state: &AppState, mut form: Multipart) -> Result<Form, Problem> {
    let limits = &state.config.limits;
    let (mut image, mut mask) = (None, None);
    let mut settings: Vec<(String, String)> = Vec::new();
    let mut fields = 0_usize;
    let mut texts_bytes = 0_usize;
    while let Some(field) = form.next().await {
        let field = field.map_err(broken)?;
        fields += 1;
        if fields > FIELDS_MAX {
            let detail = format!("the form has more than {FIELDS_MAX} fields");
            return Err(Problem::new(kinds::INVALID_REQUEST, detail));
        }
        match field.name().unwrap_or_default() {
            "image" | "image[]" => {
                let place = ("image", limits.upload_bytes_max);
                once(&mut image, place, field).await?;
            }
            "mask" => once(&mut mask, ("mask", limits.upload_bytes_max), field).await?,
            name => {
                let name = name.to_owned();
                let text = read_text(field, limits.json_bytes_max - texts_bytes).await?;
                texts_bytes += text.len();
                settings.push((name, text));
            }
        }
    }
    let image = image.ok_or_else(|| Problem::invalid("image", "the form has no field image"))?;
    Ok(Form {
        request: parse_settings(&settings)?,
        image,
        mask,
    })
}

/// Reads a picture that may be there once.
async fn once(
    place: &mut Option<SourceFile>,
    (name, bytes_max): (&'static str, u64),
    field: Field,
) -> Result<(), Problem> {
    if place.is_some() {
        let detail = format!("only one {name} is taken");
        return Err(Problem::invalid(name, detail));
    }
    *place = Some(read_picture(field, bytes_max).await?);
    Ok(())
}

async fn read_picture(field: Field, bytes_max: u64) -> Result<SourceFile, Problem> {
    let disposition = field.content_disposition();
    let file_name = disposition.and_then(|disposition| disposition.get_filename());
    let file_name = file_name.map(str::to_owned);
    let media_type = field
        .content_type()
        .map(|found| found.essence_str().to_owned());
    let too_large = || format!("the file is over the limit upload_bytes_max of {bytes_max}");
    let bytes = read_bytes(field, bytes_max, too_large).await?;
    Ok(SourceFile {
        bytes,
        file_name,
        media_type,
    })
}

async fn read_text(field: Field, bytes_max: usize) -> Result<String, Problem> {
    let too_large = || "the texts of the form are over the limit json_bytes_max".to_owned();
    let bytes = read_bytes(field, bytes_max as u64, too_large).await?;
    String::from_utf8(bytes)
        .map_err(|_| Problem::new(kinds::INVALID_REQUEST, "a text of the form is not utf-8"))
}

/// Reads a field of at most `most` bytes, so that nothing larger is ever held.
async fn read_bytes(
    mut field: Field,
    most: u64,
    too_large: impl Fn() -> String,
) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.next().await {
        let chunk = chunk.map_err(broken)?;
        if (bytes.len() + chunk.len()) as u64 > most {
            return Err(Problem::new(kinds::TOO_LARGE, too_large()));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Reads the texts as the values they stand for.
fn parse_settings(settings: &[(String, String)]) -> Result<ImageRequest, Problem> {
    let refused = |cause: String| Problem::new(kinds::INVALID_REQUEST, cause);
    let text = serde_urlencoded::to_string(settings).map_err(|error| refused(error.to_string()))?;
    serde_urlencoded::from_str(&text).map_err(|error| refused(error.to_string()))
}

fn broken(error: actix_multipart::MultipartError) -> Problem {
    let detail = format!("the form cannot be read: {error}");
    Problem::new(kinds::INVALID_REQUEST, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_with_an_unknown_name_or_a_wrong_kind_of_value_are_refused() {
        let parse = |pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            parse_settings(&pairs).map(drop)
        };
        assert!(parse(&[("prompt", "a & b = c"), ("n", "2")]).is_ok());
        assert!(
            parse(&[("style", "vivid")])
                .unwrap_err()
                .detail
                .contains("style")
        );
        assert!(parse(&[("n", "two")]).is_err());
        assert!(parse(&[("n", "1"), ("n", "2")]).is_err());
    }
}

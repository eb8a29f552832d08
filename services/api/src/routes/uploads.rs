//! Reading uploads, from forms and from JSON, within their limits.

use std::future::Future;
use std::time::Duration;

use actix_multipart::{Field, Multipart};
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{Bytes, BytesMut};
use actix_web::{HttpRequest, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::problem::{Problem, kinds};
use crate::state::AppState;
use crate::work::Upload;

/// Room for the JSON around an upload in base64.
const AROUND_UPLOAD_BYTES: u64 = 4 << 10;

/// An upload as JSON.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScoreRequest {
    /// The file in base64.
    image_base64: String,
    /// Its name, if it has one.
    file_name: Option<String>,
    /// Its media type, if it is known.
    media_type: Option<String>,
}

/// An upload as a form.
#[derive(ToSchema)]
#[allow(
    dead_code,
    reason = "it describes the form; the form is read as a stream"
)]
pub(super) struct ScoreForm {
    /// A PNG, JPEG or WebP picture.
    #[schema(value_type = String, format = Binary, content_media_type = "application/octet-stream")]
    file: Vec<u8>,
}

/// Reads an upload in either form.
pub(super) async fn read_upload(
    state: &AppState,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<Upload, Problem> {
    let bytes_max = state.config.limits.upload_bytes_max;
    let media_type = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let media_type = media_type.unwrap_or_default().to_ascii_lowercase();
    if media_type.starts_with("multipart/form-data") {
        read_form(state, Multipart::new(request.headers(), payload)).await
    } else if media_type.starts_with("application/json") {
        // Four characters of base64 for three bytes.
        let most = bytes_max
            .div_ceil(3)
            .saturating_mul(4)
            .saturating_add(AROUND_UPLOAD_BYTES);
        let body = in_time(state, read_limited(payload, most, bytes_max)).await?;
        web::block(move || parse_json(&body))
            .await
            .map_err(|error| Problem::internal(&error))?
    } else {
        let detail = "send the picture as multipart/form-data (field file) or as application/json";
        Err(Problem::new(kinds::UNSUPPORTED_MEDIA, detail))
    }
}

fn parse_json(body: &[u8]) -> Result<Upload, Problem> {
    let request: ScoreRequest = serde_json::from_slice(body)
        .map_err(|error| Problem::new(kinds::INVALID_REQUEST, error.to_string()))?;
    let bytes = STANDARD
        .decode(request.image_base64)
        .map_err(|error| Problem::invalid("image_base64", error.to_string()))?;
    let (file_name, media_type) = (request.file_name, request.media_type);
    Ok(Upload {
        bytes,
        file_name,
        media_type,
        strip_pictures: 0,
    })
}

/// Reads the one field `file` of a form; other fields are refused.
pub(crate) async fn read_form(state: &AppState, form: Multipart) -> Result<Upload, Problem> {
    in_time(state, read_file(form, state.config.limits.upload_bytes_max)).await
}

/// Lets few uploads be read at once, each within a time: what is held in memory is bounded, and a
/// sender who trickles bytes does not keep others out for ever.
async fn in_time<T>(
    state: &AppState,
    reading: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    let _turn = state.uploads.take().await?;
    let read_ms_max = state.config.limits.upload_read_ms_max;
    let read = tokio::time::timeout(Duration::from_millis(read_ms_max), reading).await;
    read.unwrap_or_else(|_| {
        let detail = format!("the upload took longer than upload_read_ms_max ({read_ms_max})");
        Err(Problem::new(kinds::TOO_SLOW, detail))
    })
}

async fn read_file(mut form: Multipart, bytes_max: u64) -> Result<Upload, Problem> {
    let mut upload = None;
    while let Some(field) = form.next().await {
        let field = field.map_err(broken_form)?;
        let name = field.name().unwrap_or_default();
        if name != "file" || upload.is_some() {
            let detail = "the form must have the one field file";
            return Err(Problem::invalid("file", detail));
        }
        upload = Some(read_field(field, bytes_max).await?);
    }
    upload.ok_or_else(|| Problem::invalid("file", "the form has no field file"))
}

async fn read_field(field: Field, bytes_max: u64) -> Result<Upload, Problem> {
    let disposition = field.content_disposition();
    let file_name = disposition.and_then(|disposition| disposition.get_filename());
    let file_name = file_name.map(str::to_owned);
    let media_type = field
        .content_type()
        .map(|media_type| media_type.essence_str().to_owned());
    let chunks = field.map(|chunk| chunk.map_err(broken_form));
    let bytes = gather(chunks, bytes_max, bytes_max).await?.to_vec();
    Ok(Upload {
        bytes,
        file_name,
        media_type,
        strip_pictures: 0,
    })
}

fn broken_form(error: actix_multipart::MultipartError) -> Problem {
    Problem::new(
        kinds::INVALID_REQUEST,
        format!("the form cannot be read: {error}"),
    )
}

async fn read_limited(
    payload: web::Payload,
    most: u64,
    upload_bytes_max: u64,
) -> Result<BytesMut, Problem> {
    let broken = |_| Problem::new(kinds::INVALID_REQUEST, "the body broke off");
    gather(
        payload.map(|chunk| chunk.map_err(broken)),
        most,
        upload_bytes_max,
    )
    .await
}

/// Gathers a body of at most `most` bytes, so that nothing larger is ever held.
async fn gather(
    chunks: impl futures_util::Stream<Item = Result<Bytes, Problem>>,
    most: u64,
    upload_bytes_max: u64,
) -> Result<BytesMut, Problem> {
    let mut chunks = std::pin::pin!(chunks);
    let mut body = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        if (body.len() + chunk.len()) as u64 > most {
            let detail =
                format!("the file is over the limit upload_bytes_max of {upload_bytes_max}");
            return Err(Problem::new(kinds::TOO_LARGE, detail));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn a_body_is_refused_as_soon_as_it_is_over_its_limit() {
        let endless = futures_util::stream::repeat_with(|| Ok(Bytes::from_static(&[0; 100])));
        let problem = gather(endless, 1_000, 1_000).await.unwrap_err();
        assert_eq!(problem.kind.status, 413);
        assert!(problem.detail.contains("upload_bytes_max"), "{problem}");
    }

    #[test]
    fn a_json_upload_with_bad_base64_or_unknown_members_is_refused() {
        assert_eq!(
            parse_json(br#"{"image_base64":"AAEC"}"#).unwrap().bytes,
            [0, 1, 2]
        );
        let problem = parse_json(br#"{"image_base64":"A*"}"#).unwrap_err();
        assert_eq!(problem.parameter, Some("image_base64"));
        assert!(parse_json(br#"{"image_base64":"","url":"http://x"}"#).is_err());
    }
}

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

/// Room for the JSON around an upload in base64, a note included.
const AROUND_UPLOAD_BYTES: u64 = NOTE_BYTES_MAX + (4 << 10);
/// Most bytes of a note: a character has at most four.
const NOTE_BYTES_MAX: u64 = 4 * ledger::NOTE_CHARS_MAX as u64;

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

/// An upload to keep, as JSON.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CaseRequest {
    /// The file in base64.
    image_base64: String,
    /// Its name, if it has one.
    file_name: Option<String>,
    /// Its media type, if it is known.
    media_type: Option<String>,
    /// The case's first note.
    note: Option<String>,
}

/// An upload to keep, as a form.
#[derive(ToSchema)]
#[allow(
    dead_code,
    reason = "it describes the form; the form is read as a stream"
)]
pub(super) struct CaseForm {
    /// A PNG, JPEG or WebP picture.
    #[schema(value_type = String, format = Binary, content_media_type = "application/octet-stream")]
    file: Vec<u8>,
    /// The case's first note.
    note: Option<String>,
}

/// Which fields a form may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FormFields {
    /// The file alone.
    File,
    /// The file, and a note for its case.
    Case,
    /// Those of the page: the file, whether to open a case, and a note for it.
    Page,
}

impl FormFields {
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::File => &["file"],
            Self::Case => &["file", "note"],
            Self::Page => &["file", "open_case", "note"],
        }
    }
}

/// What a form said.
#[derive(Debug)]
pub(crate) struct UploadForm {
    /// The file.
    pub(crate) upload: Upload,
    /// Whether the box was ticked that opens a case.
    pub(crate) open_case: bool,
    /// The note, where one was written.
    pub(crate) note: Option<String>,
}

/// Reads an upload in either form.
pub(super) async fn read_upload(
    state: &AppState,
    request: &HttpRequest,
    (payload, fields): (web::Payload, FormFields),
) -> Result<UploadForm, Problem> {
    let bytes_max = state.config.limits.upload_bytes_max;
    let media_type = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let media_type = media_type.unwrap_or_default().to_ascii_lowercase();
    if media_type.starts_with("multipart/form-data") {
        let form = Multipart::new(request.headers(), payload);
        read_form(state, form, fields).await
    } else if media_type.starts_with("application/json") {
        // Four characters of base64 for three bytes.
        let most = bytes_max
            .div_ceil(3)
            .saturating_mul(4)
            .saturating_add(AROUND_UPLOAD_BYTES);
        let body = in_time(state, read_limited(payload, most, bytes_max)).await?;
        web::block(move || parse_json(&body, fields))
            .await
            .map_err(|error| Problem::internal(&error))?
    } else {
        let detail = "send the picture as multipart/form-data (field file) or as application/json";
        Err(Problem::new(kinds::UNSUPPORTED_MEDIA, detail))
    }
}

fn parse_json(body: &[u8], fields: FormFields) -> Result<UploadForm, Problem> {
    let unreadable =
        |error: serde_json::Error| Problem::new(kinds::INVALID_REQUEST, error.to_string());
    let request = match fields {
        FormFields::File => {
            let request: ScoreRequest = serde_json::from_slice(body).map_err(unreadable)?;
            CaseRequest {
                image_base64: request.image_base64,
                file_name: request.file_name,
                media_type: request.media_type,
                note: None,
            }
        }
        FormFields::Case | FormFields::Page => serde_json::from_slice(body).map_err(unreadable)?,
    };
    let bytes = STANDARD
        .decode(request.image_base64)
        .map_err(|error| Problem::invalid("image_base64", error.to_string()))?;
    let upload = Upload {
        bytes,
        file_name: request.file_name,
        media_type: request.media_type,
        strip_pictures: 0,
    };
    Ok(UploadForm {
        upload,
        open_case: fields == FormFields::Case,
        note: request.note,
    })
}

/// Reads a form with a field `file`; fields that are not among the expected ones are refused.
pub(crate) async fn read_form(
    state: &AppState,
    form: Multipart,
    fields: FormFields,
) -> Result<UploadForm, Problem> {
    let bytes_max = state.config.limits.upload_bytes_max;
    in_time(state, read_fields(form, fields, bytes_max)).await
}

/// Lets few uploads be read at once, each within a time: what is held in memory is bounded, and a
/// sender who trickles bytes does not keep others out for ever.
pub(super) async fn in_time<T>(
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

async fn read_fields(
    mut form: Multipart,
    fields: FormFields,
    bytes_max: u64,
) -> Result<UploadForm, Problem> {
    let (mut upload, mut open_case, mut note) = (None, false, None);
    while let Some(field) = form.next().await {
        let field = field.map_err(broken_form)?;
        let name = field.name().unwrap_or_default();
        match fields.names().iter().find(|known| **known == name) {
            Some(&"file") if upload.is_none() => {
                upload = Some(read_file(field, bytes_max).await?);
            }
            // A box that is not ticked is not sent.
            Some(&"open_case") => open_case = !read_text(field).await?.is_empty(),
            Some(&"note") if note.is_none() => note = Some(read_text(field).await?),
            _ => {
                let known = fields.names().join(", ");
                let detail = format!("the form may have each of these fields once: {known}");
                return Err(Problem::invalid("file", detail));
            }
        }
    }
    let upload = upload.ok_or_else(|| Problem::invalid("file", "the form has no field file"))?;
    Ok(UploadForm {
        upload,
        open_case,
        note: note.filter(|note| !note.trim().is_empty()),
    })
}

/// A field of text, at most as long as a note.
async fn read_text(field: Field) -> Result<String, Problem> {
    let chunks = field.map(|chunk| chunk.map_err(broken_form));
    let limit = Limit {
        name: "the length of a note in bytes",
        value: NOTE_BYTES_MAX,
    };
    let bytes = gather(chunks, NOTE_BYTES_MAX, limit).await?;
    String::from_utf8(bytes.to_vec())
        .map_err(|_| Problem::invalid("note", "the note is not UTF-8 text"))
}

async fn read_file(field: Field, bytes_max: u64) -> Result<Upload, Problem> {
    let disposition = field.content_disposition();
    let file_name = disposition.and_then(|disposition| disposition.get_filename());
    let file_name = file_name.map(str::to_owned);
    let media_type = field
        .content_type()
        .map(|media_type| media_type.essence_str().to_owned());
    let chunks = field.map(|chunk| chunk.map_err(broken_form));
    let bytes = gather(chunks, bytes_max, Limit::of_uploads(bytes_max))
        .await?
        .to_vec();
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

pub(super) async fn read_limited(
    payload: web::Payload,
    most: u64,
    upload_bytes_max: u64,
) -> Result<BytesMut, Problem> {
    let broken = |_| Problem::new(kinds::INVALID_REQUEST, "the body broke off");
    gather(
        payload.map(|chunk| chunk.map_err(broken)),
        most,
        Limit::of_uploads(upload_bytes_max),
    )
    .await
}

/// A limit as a refusal names it.
#[derive(Debug, Clone, Copy)]
struct Limit {
    name: &'static str,
    value: u64,
}

impl Limit {
    fn of_uploads(upload_bytes_max: u64) -> Self {
        Self {
            name: "upload_bytes_max",
            value: upload_bytes_max,
        }
    }
}

/// Gathers a body of at most `most` bytes, so that nothing larger is ever held.
async fn gather(
    chunks: impl futures_util::Stream<Item = Result<Bytes, Problem>>,
    most: u64,
    limit: Limit,
) -> Result<BytesMut, Problem> {
    let mut chunks = std::pin::pin!(chunks);
    let mut body = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        if (body.len() + chunk.len()) as u64 > most {
            let Limit { name, value } = limit;
            let detail = format!("the file or field is over the limit {name} of {value}");
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
        let problem = gather(endless, 1_000, Limit::of_uploads(1_000))
            .await
            .unwrap_err();
        assert_eq!(problem.kind.status, 413);
        assert!(problem.detail.contains("upload_bytes_max"), "{problem}");
    }

    #[test]
    fn a_json_upload_with_bad_base64_or_unknown_members_is_refused() {
        let parse = |body: &[u8]| parse_json(body, FormFields::File);
        let form = parse(br#"{"image_base64":"AAEC"}"#).unwrap();
        assert_eq!(form.upload.bytes, [0, 1, 2]);
        let problem = parse(br#"{"image_base64":"A*"}"#).unwrap_err();
        assert_eq!(problem.parameter, Some("image_base64"));
        assert!(parse(br#"{"image_base64":"","url":"http://x"}"#).is_err());
    }

    #[test]
    fn a_note_belongs_to_a_case_and_to_nothing_else() {
        let body = br#"{"image_base64":"AAEC","note":"seen"}"#;
        let form = parse_json(body, FormFields::Case).unwrap();
        assert_eq!((form.note.as_deref(), form.open_case), (Some("seen"), true));
        assert!(parse_json(body, FormFields::File).is_err());
    }
}

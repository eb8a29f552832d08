//! Files inside a page: pictures that this service draws itself, and downloads.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use media::MediaError;

/// A picture as the source of an image element.
pub(super) fn inline(picture: &media::Picture) -> Result<String, MediaError> {
    Ok(inline_png(&picture.to_png()?))
}

/// A PNG file as the source of an image element.
pub(super) fn inline_png(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", STANDARD.encode(png))
}

/// A model's picture as the source of an image element.
pub(super) fn inline_output(picture: &onnx::Picture) -> Result<String, MediaError> {
    let picture = media::Picture::new(picture.width, picture.height, picture.rgb.clone())?;
    inline(&picture)
}

/// A bundle as the target of a download link.
pub(super) fn inline_bundle(bundle: &provenance::Bundle) -> String {
    format!(
        "data:application/json;base64,{}",
        STANDARD.encode(bundle.to_bytes())
    )
}

//! Pictures that explain a score.

use detector::Heatmap;
use media::{HeatSquare, MediaError, Picture};

/// A picture of the media crate from a decoded upload or a model's output.
///
/// # Errors
/// When the buffer does not fit the size.
pub fn to_picture(width: u32, height: u32, rgb: &[u8]) -> Result<Picture, MediaError> {
    Picture::new(width, height, rgb.to_vec())
}

/// The heatmap drawn over the picture, reduced to `side_max`. Raw scores are log-odds; the
/// logistic curve spreads them over the colours.
///
/// # Errors
/// When the picture's buffer does not fit its size.
pub fn heatmap_picture(picture: &Picture, heatmap: &Heatmap, side_max: u32) -> Picture {
    let small = picture.fit(side_max);
    let scale = f64::from(small.width()) / f64::from(picture.width());
    let place = |at: u32| (f64::from(at) * scale).round() as u32;
    let squares: Vec<HeatSquare> = heatmap
        .cells
        .iter()
        .map(|cell| HeatSquare {
            x: place(cell.x),
            y: place(cell.y),
            side: place(heatmap.side).max(1),
            value: 1.0 / (1.0 + (-cell.raw_score).exp()),
        })
        .collect();
    media::overlay_heatmap(&small, &squares)
}

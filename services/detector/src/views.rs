//! What the semantic expert looks at: small square views of a picture at the encoder's one size.

use media::{MediaError, resample};
use ndarray::Array4;
use serde::{Deserialize, Serialize};

use crate::picture::PictureView;

/// How an image encoder wants its pixels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewConfig {
    /// Side of a view in pixels.
    pub side: u32,
    /// Mean of red, green and blue in [0, 1] that is taken off.
    pub mean: [f32; 3],
    /// Deviation of red, green and blue in [0, 1] that is divided by.
    pub deviation: [f32; 3],
    /// Of pictures whose shorter side has fewer pixels nothing is said.
    pub shorter_side_min: u32,
}

/// What a view shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ViewKind {
    /// The middle square of the whole picture, reduced (or enlarged) to the view's side.
    Whole,
    /// A square of the picture's own pixels.
    Native,
}

/// One view and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// What it shows.
    pub kind: ViewKind,
    /// Left column in the picture, in pixels.
    pub x: u32,
    /// Top row in the picture, in pixels.
    pub y: u32,
    /// Side in the picture, in pixels.
    pub side: u32,
}

/// All views of a picture and their pixels.
#[derive(Clone, Debug)]
pub struct Views {
    /// Where they lie, in the order of `pixels`: the whole picture, then the native squares.
    pub views: Vec<View>,
    /// Shape (views, 3, side, side), normalised as the encoder wants.
    pub pixels: Array4<f32>,
}

/// Cuts the views of a picture: the whole one, and two squares of native pixels on the falling
/// diagonal. They lie in opposite corners of a picture that is hardly larger than a view, and a
/// quarter of the free room away from them in a larger one, whose corners are often empty. Of a
/// picture smaller than a view, the squares are cut from its enlargement.
///
/// # Errors
/// [`MediaError`] for a picture without pixels.
pub fn views(picture: &PictureView<'_>, config: &ViewConfig) -> Result<Views, MediaError> {
    let side = config.side;
    let (width, height) = (picture.width(), picture.height());
    let shorter = width.min(height);
    // 1. The whole: the shorter side becomes the view's, the middle of the longer one is kept.
    let scaled = |length: u32| {
        let product = u64::from(length) * u64::from(side);
        let rounded = (product + u64::from(shorter) / 2) / u64::from(shorter.max(1));
        u32::try_from(rounded).unwrap_or(u32::MAX).max(side)
    };
    let size = (scaled(width), scaled(height));
    let whole = resample((width, height), picture.rgb(), size)?;
    let whole_view = PictureView::new(whole.width(), whole.height(), whole.rgb())
        .expect("a picture's buffer fits its size");
    let middle = ((size.0 - side) / 2, (size.1 - side) / 2);
    let mut cuts = vec![(whole_view, middle)];
    let mut views = vec![View {
        kind: ViewKind::Whole,
        x: (width - shorter) / 2,
        y: (height - shorter) / 2,
        side: shorter,
    }];
    // 2. Native squares.
    let enlarged = shorter < side;
    let native = if enlarged { whole_view } else { *picture };
    let place = |length: u32, far: bool| {
        let free = length - side;
        let edge = if free < side { 0 } else { free / 4 };
        if far { free - edge } else { edge }
    };
    for far in [false, true] {
        let (x, y) = (place(native.width(), far), place(native.height(), far));
        cuts.push((native, (x, y)));
        let back = |at: u32| {
            if enlarged { at * shorter / side } else { at }
        };
        views.push(View {
            kind: ViewKind::Native,
            x: back(x),
            y: back(y),
            side: side.min(shorter),
        });
    }
    let shape = (cuts.len(), 3, side as usize, side as usize);
    let pixels = Array4::from_shape_fn(shape, |(view, channel, row, column)| {
        let (source, (x, y)) = &cuts[view];
        let value = source.pixel(*x as usize + column, *y as usize + row)[channel];
        (f32::from(value) / 255.0 - config.mean[channel]) / config.deviation[channel]
    });
    Ok(Views { views, pixels })
}

//! The semantic expert's views against Pillow's pixels.

use detector::PictureView;
use detector::views::{ViewConfig, ViewKind, views};
use serde::Deserialize;

#[path = "../../../tests/golden/detector/picture.rs"]
mod picture;

#[derive(Deserialize)]
struct Vectors {
    step: usize,
    pictures: Vec<Vec<Vec<u8>>>,
}

/// Pixels as they are, in [0, 255].
const CONFIG: ViewConfig = ViewConfig {
    side: 224,
    mean: [0.0; 3],
    deviation: [1.0 / 255.0; 3],
    shorter_side_min: 160,
};

#[test]
fn pixels_of_reduced_enlarged_and_native_views_are_those_of_the_reference() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/golden/detector/views.json"
    );
    let text = std::fs::read_to_string(path).expect("the fixture is sound");
    let vectors: Vectors = serde_json::from_str(&text).expect("the fixture is sound");
    for (times, expected) in [1, 8].into_iter().zip(&vectors.pictures) {
        let (width, height, rgb) = picture::repeated(times);
        let view = PictureView::new(width, height, &rgb).unwrap();
        let found = views(&view, &CONFIG).unwrap();
        assert_eq!(found.views.len(), expected.len());
        for (index, expected) in expected.iter().enumerate() {
            let mut worst = 0.0_f32;
            let mut wanted = expected.iter();
            for row in (0..224).step_by(vectors.step) {
                for column in (0..224).step_by(vectors.step) {
                    for channel in 0..3 {
                        let value = found.pixels[[index, channel, row, column]];
                        let wanted = f32::from(*wanted.next().expect("one value for each pixel"));
                        worst = worst.max((value - wanted).abs());
                    }
                }
            }
            // The reference rounds after each of its two passes, this crate once.
            let resampled = times == 1 || found.views[index].kind == ViewKind::Whole;
            let tolerance = if resampled { 1.5 } else { 0.01 };
            assert!(
                worst < tolerance,
                "{times} times, view {index}: {worst} grey levels"
            );
        }
    }
}

#[test]
fn native_squares_lie_in_corners_of_small_pictures_and_away_from_them_in_large_ones() {
    let places = |width: u32, height: u32| {
        let rgb = vec![90; width as usize * height as usize * 3];
        let view = PictureView::new(width, height, &rgb).unwrap();
        let found = views(&view, &CONFIG).unwrap().views;
        found.iter().map(|v| (v.x, v.y, v.side)).collect::<Vec<_>>()
    };
    assert_eq!(places(300, 260), [(20, 0, 260), (0, 0, 224), (76, 36, 224)]);
    assert_eq!(
        places(1224, 824),
        [(200, 0, 824), (250, 150, 224), (750, 450, 224)]
    );
    assert_eq!(places(200, 250), [(0, 25, 200), (0, 0, 200), (0, 50, 200)]);
}

//! From traces and raw scores to verdicts.

use detector::calibration::{QualityModel, Stratum, StratumThresholds};
use detector::features::{FeatureSchema, names};
use detector::patches::Obstacle;
use detector::{
    Assessment, Calibration, DetectorError, DetectorProfile, Evidence, ImageTrace, PictureView,
    Reason, Scores, SemanticAnswer, Thresholds, TraceConfig, TraceLine, Verdict, assess, extract,
    features,
};
use diffusion::NoisePredictor;
use ndarray::{Array4, ArrayView4};

/// Predicts the sample itself.
struct Echo;

impl NoisePredictor for Echo {
    type Error = std::convert::Infallible;

    fn predict(
        &mut self,
        sample: ArrayView4<'_, f32>,
        _noise_level: f64,
    ) -> Result<Array4<f32>, Self::Error> {
        Ok(sample.to_owned())
    }
}

/// Predicts nothing that can be used.
struct NotFinite;

impl NoisePredictor for NotFinite {
    type Error = std::convert::Infallible;

    fn predict(
        &mut self,
        sample: ArrayView4<'_, f32>,
        _noise_level: f64,
    ) -> Result<Array4<f32>, Self::Error> {
        Ok(sample.mapv(|_| f32::NAN))
    }
}

fn checkered(width: u32, height: u32) -> Vec<u8> {
    (0..width * height)
        .flat_map(|i| [(i * 37 % 200) as u8, (i * 11 % 90) as u8, 120])
        .collect()
}

fn trace_of(width: u32, height: u32, rgb: &[u8]) -> ImageTrace {
    let picture = PictureView::new(width, height, rgb).expect("the fixture is sound");
    extract(&picture, &TraceConfig::default(), &mut Echo).expect("the fixture is sound")
}

fn profile(generated_min: Option<f64>, not_generated_max: Option<f64>) -> DetectorProfile {
    let columns = names(&TraceConfig::default()).len();
    let stratum = Stratum {
        name: "any".to_owned(),
        quality_min: 0.0,
        slope: 1.0,
        intercept: 0.0,
    };
    let calibration = Calibration {
        version: "c".to_owned(),
        quality: QualityModel {
            weights: vec![0.0; columns],
            intercept: 80.0,
        },
        strata: vec![stratum],
    };
    let strata = vec![StratumThresholds {
        name: "any".to_owned(),
        generated_min,
        not_generated_max,
    }];
    let thresholds = Thresholds {
        version: "t".to_owned(),
        strata,
    };
    let schema = FeatureSchema::of(&TraceConfig::default());
    DetectorProfile::new("test 0".to_owned(), schema, calibration, thresholds)
        .expect("the fixture is sound")
}

fn assessment_of_score(score: f32, profile: &DetectorProfile) -> Assessment {
    let trace = trace_of(256, 256, &checkered(256, 256));
    let scores = vec![score; trace.patches.len()];
    assess(&trace, &features(&trace), &alone(&scores), profile).expect("the fixture is sound")
}

/// The trace's scores without a semantic expert.
fn alone(patches: &[f32]) -> Scores<'_> {
    Scores {
        patches,
        semantic: SemanticAnswer::NoExpert,
    }
}

#[test]
fn a_picture_smaller_than_a_patch_is_inconclusive_because_it_is_too_small() {
    let trace = trace_of(127, 400, &checkered(127, 400));
    assert_eq!(trace.obstacle, Some(Obstacle::TooSmall));
    let answer = assess(
        &trace,
        &features(&trace),
        &alone(&[]),
        &profile(Some(0.9), Some(0.1)),
    )
    .unwrap();
    assert_eq!(
        (answer.verdict, answer.reason),
        (Verdict::Inconclusive, Reason::TooSmall)
    );
    assert_eq!(answer.probability, None);
    assert!(answer.reason.sentence().starts_with("too small"));
}

#[test]
fn a_picture_of_one_colour_is_inconclusive_for_lack_of_texture() {
    let rgb = vec![90; 300 * 300 * 3];
    let trace = trace_of(300, 300, &rgb);
    assert_eq!(trace.obstacle, Some(Obstacle::NoTexture));
    let answer = assess(
        &trace,
        &features(&trace),
        &alone(&[]),
        &profile(Some(0.9), Some(0.1)),
    )
    .unwrap();
    assert_eq!(
        (answer.verdict, answer.reason),
        (Verdict::Inconclusive, Reason::NoTexture)
    );
}

#[test]
fn the_verdict_follows_the_two_thresholds() {
    let profile = profile(Some(0.9), Some(0.1));
    let high = assessment_of_score(4.0, &profile);
    assert_eq!(
        (high.verdict, high.reason),
        (Verdict::LikelyGenerated, Reason::AboveThreshold)
    );
    let low = assessment_of_score(-4.0, &profile);
    assert_eq!(
        (low.verdict, low.reason),
        (Verdict::LikelyNotGenerated, Reason::BelowThreshold)
    );
    let middle = assessment_of_score(0.3, &profile);
    assert_eq!(
        (middle.verdict, middle.reason),
        (Verdict::Inconclusive, Reason::BetweenThresholds)
    );
    assert!((middle.probability.unwrap() - 0.574_442_5).abs() < 1e-6);
}

#[test]
fn a_stratum_without_a_threshold_never_gives_that_verdict() {
    let profile = profile(None, Some(0.1));
    let high = assessment_of_score(9.0, &profile);
    assert_eq!(
        (high.verdict, high.reason),
        (Verdict::Inconclusive, Reason::QualityTooLow)
    );
    assert_eq!(
        assessment_of_score(-4.0, &profile).verdict,
        Verdict::LikelyNotGenerated
    );
}

#[test]
fn evidence_beside_the_trace_never_changes_the_probability() {
    let mut answer = assessment_of_score(1.0, &profile(Some(0.9), Some(0.1)));
    let before = (answer.probability, answer.verdict);
    let mark = Evidence::GeneratorMark {
        place: "PNG tEXt".to_owned(),
        claim: "x".to_owned(),
    };
    answer.evidence.push(mark);
    assert_eq!((answer.probability, answer.verdict), before);
    assert!(matches!(answer.evidence[0], Evidence::PriorTrace { .. }));
    let json = serde_json::to_value(&answer).unwrap();
    assert_eq!(json["evidence"][1]["kind"], "generator_mark");
    assert_eq!(json["verdict"], "Inconclusive");
    assert!(
        json["scope"]
            .as_str()
            .unwrap()
            .contains("face swaps, local edits, video")
    );
}

#[test]
fn scores_that_do_not_fit_the_patches_are_refused() {
    let trace = trace_of(256, 256, &checkered(256, 256));
    let profile = profile(Some(0.9), Some(0.1));
    let short = assess(&trace, &features(&trace), &alone(&[0.1]), &profile);
    assert!(matches!(short, Err(DetectorError::RawScores { .. })));
    let nan = vec![f32::NAN; trace.patches.len()];
    assert!(assess(&trace, &features(&trace), &alone(&nan), &profile).is_err());
}

#[test]
fn a_prediction_that_is_not_finite_is_refused() {
    let rgb = checkered(128, 128);
    let picture = PictureView::new(128, 128, &rgb).unwrap();
    let refused = extract(&picture, &TraceConfig::default(), &mut NotFinite);
    assert!(matches!(refused, Err(DetectorError::BadPrediction { .. })));
}

#[test]
fn pixels_of_another_length_are_refused() {
    let refused = PictureView::new(10, 10, &[0; 299]);
    assert!(matches!(
        refused,
        Err(DetectorError::PixelBytes {
            expected: 300,
            found: 299,
            ..
        })
    ));
}

#[test]
fn patches_are_few_inside_the_picture_and_on_the_grid_of_eight() {
    let trace = trace_of(1001, 703, &checkered(1001, 703));
    let config = TraceConfig::default();
    assert_eq!(trace.patches.len(), config.patches_max());
    for patch in &trace.patches {
        assert!(patch.place.x + config.patch_side <= 1001);
        assert!(patch.place.y + config.patch_side <= 703);
        assert_eq!((patch.place.x % 8, patch.place.y % 8), (0, 0));
    }
}

#[test]
fn a_trace_line_reads_back_with_the_same_rows() {
    let trace = trace_of(256, 256, &checkered(256, 256));
    let line = TraceLine::new("a picture.png", &trace, true);
    let back = TraceLine::parse(&line.to_json().unwrap()).unwrap();
    assert_eq!(back.features, line.features);
    assert_eq!(back.features.patches.len(), trace.patches.len());
    assert_eq!(back.trace.unwrap().patches.len(), trace.patches.len());
}

#[test]
fn a_schema_of_other_columns_is_refused() {
    let mut schema = FeatureSchema::of(&TraceConfig::default());
    schema.names.swap(0, 1);
    let text = serde_json::to_string(&schema).unwrap();
    assert!(matches!(
        FeatureSchema::parse(&text),
        Err(DetectorError::Profile { .. })
    ));
}

#[test]
fn crossed_thresholds_and_strata_out_of_order_are_refused() {
    let crossed =
        r#"{"version":"t","strata":[{"name":"a","generated_min":0.4,"not_generated_max":0.5}]}"#;
    assert!(matches!(
        Thresholds::parse(crossed),
        Err(DetectorError::Profile { .. })
    ));
    let rising = r#"{"version":"c","quality":{"weights":[],"intercept":0.0},"strata":[
        {"name":"a","quality_min":0.0,"slope":1.0,"intercept":0.0},
        {"name":"b","quality_min":50.0,"slope":1.0,"intercept":0.0}]}"#;
    assert!(matches!(
        Calibration::parse(rising),
        Err(DetectorError::Profile { .. })
    ));
}

//! Two experts, one verdict: fusion, silence, disagreement and conflicts with other findings.

use detector::calibration::{QualityModel, Stratum, StratumThresholds};
use detector::features::{FeatureSchema, names};
use detector::views::{View, ViewKind};
use detector::{
    Assessment, Calibration, DetectorError, DetectorProfile, Evidence, Fusion, ImageTrace,
    PictureView, Reason, Scores, SemanticAnswer, SemanticScores, Silence, Thresholds, TraceConfig,
    Verdict, assess, extract, features,
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

const FUSION: &str = r#"{
    "version": "f",
    "strata": [{"name": "any", "trace_weight": 0.5, "semantic_weight": 1.0, "intercept": 0.0}],
    "thresholds": {
        "version": "g",
        "strata": [{"name": "any", "generated_min": 0.9, "not_generated_max": 0.1}]
    }
}"#;

fn profile() -> DetectorProfile {
    let calibration = Calibration {
        version: "c".to_owned(),
        quality: QualityModel {
            weights: vec![0.0; names(&TraceConfig::default()).len()],
            intercept: 80.0,
        },
        strata: vec![Stratum {
            name: "any".to_owned(),
            quality_min: 0.0,
            slope: 1.0,
            intercept: 0.0,
        }],
    };
    let thresholds = Thresholds {
        version: "t".to_owned(),
        strata: vec![StratumThresholds {
            name: "any".to_owned(),
            generated_min: Some(0.8),
            not_generated_max: Some(0.2),
        }],
    };
    let schema = FeatureSchema::of(&TraceConfig::default());
    DetectorProfile::new("test 0".to_owned(), schema, calibration, thresholds)
        .and_then(|profile| profile.with_fusion(Fusion::parse(FUSION)?))
        .expect("the fixture is sound")
}

fn trace() -> ImageTrace {
    let rgb: Vec<u8> = (0..256_u32 * 256)
        .flat_map(|i| [(i * 37 % 200) as u8, (i * 11 % 90) as u8, 120])
        .collect();
    let picture = PictureView::new(256, 256, &rgb).expect("the fixture is sound");
    extract(&picture, &TraceConfig::default(), &mut Echo).expect("the fixture is sound")
}

fn scores(raw_scores: &[f32]) -> SemanticAnswer {
    let view = View {
        kind: ViewKind::Native,
        x: 0,
        y: 0,
        side: 224,
    };
    SemanticAnswer::Scores(SemanticScores {
        views: vec![view; raw_scores.len()],
        raw_scores: raw_scores.to_vec(),
    })
}

fn answer(trace_score: f32, semantic: SemanticAnswer) -> Result<Assessment, DetectorError> {
    let trace = trace();
    let patches = vec![trace_score; trace.patches.len()];
    let scores = Scores {
        patches: &patches,
        semantic,
    };
    assess(&trace, &features(&trace), &scores, &profile())
}

#[test]
fn both_raw_scores_enter_the_probability_with_their_weights() {
    let found = answer(1.0, scores(&[2.0, 3.0, 4.0])).unwrap();
    let expected = 1.0 / (1.0 + (-(0.5 * 1.0 + 3.0_f64)).exp());
    assert!((f64::from(found.probability.unwrap()) - expected).abs() < 1e-6);
    assert_eq!(found.verdict, Verdict::LikelyGenerated);
    assert_eq!(found.thresholds.unwrap().generated_min, Some(0.9));
    assert_eq!(
        (
            found.calibration_version.as_str(),
            found.thresholds_version.as_str()
        ),
        ("fusion f", "fusion g")
    );
    let expert = &found.evidence[1];
    assert!(matches!(
        expert,
        Evidence::SemanticViews {
            views: 3,
            raw_score_range: [2.0, 4.0],
            ..
        }
    ));
}

#[test]
fn a_silent_expert_leaves_the_decision_to_the_trace_and_is_named() {
    let found = answer(2.0, SemanticAnswer::Silent(Silence::NotInstalled)).unwrap();
    assert_eq!(found.verdict, Verdict::LikelyGenerated);
    assert_eq!(found.calibration_version, "c");
    assert_eq!(found.thresholds.unwrap().generated_min, Some(0.8));
    let silent = found
        .evidence
        .iter()
        .find(|e| matches!(e, Evidence::SemanticSilent { .. }));
    assert!(silent.unwrap().sentence().contains("not installed"));
}

#[test]
fn experts_that_would_decide_against_each_other_give_no_verdict() {
    let found = answer(-2.0, scores(&[9.0])).unwrap();
    assert_eq!(
        (found.verdict, found.reason),
        (Verdict::Inconclusive, Reason::ExpertsDisagree)
    );
    assert!(
        found.probability.unwrap() > 0.9,
        "the probability is told all the same"
    );
}

#[test]
fn views_without_scores_and_scores_that_are_not_finite_are_refused() {
    assert!(matches!(
        answer(0.0, scores(&[])),
        Err(DetectorError::RawScores { .. })
    ));
    assert!(answer(0.0, scores(&[1.0, f32::NAN])).is_err());
}

#[test]
fn a_mark_of_a_generator_keeps_a_picture_from_being_called_not_generated() {
    let mut found = answer(-3.0, scores(&[-5.0])).unwrap();
    found.heed_conflicts();
    assert_eq!(found.verdict, Verdict::LikelyNotGenerated);
    found.evidence.push(Evidence::GeneratorMark {
        place: "PNG text \"parameters\"".to_owned(),
        claim: "a model".to_owned(),
    });
    found.heed_conflicts();
    assert_eq!(
        (found.verdict, found.reason),
        (Verdict::Inconclusive, Reason::EvidenceConflicts)
    );
}

#[test]
fn only_trusted_credentials_can_speak_against_likely_generated() {
    let credentials = |trusted| Evidence::ContentCredentials {
        valid: true,
        trusted,
        signer: None,
        says_generated: Some(false),
        generator: None,
        codes: Vec::new(),
        refused: false,
    };
    for (trusted, verdict) in [
        (false, Verdict::LikelyGenerated),
        (true, Verdict::Inconclusive),
    ] {
        let mut found = answer(3.0, scores(&[5.0])).unwrap();
        found.evidence.push(credentials(trusted));
        found.heed_conflicts();
        assert_eq!(found.verdict, verdict, "trusted: {trusted}");
    }
}

#[test]
fn a_fusion_with_a_negative_weight_or_without_thresholds_is_refused() {
    for (from, to) in [
        ("\"trace_weight\": 0.5", "\"trace_weight\": -0.5"),
        (
            "\"strata\": [{\"name\": \"any\", \"gen",
            "\"strata\": [{\"name\": \"other\", \"gen",
        ),
        ("\"not_generated_max\": 0.1", "\"not_generated_max\": 0.95"),
    ] {
        assert!(FUSION.contains(from));
        assert!(Fusion::parse(&FUSION.replace(from, to)).is_err(), "{to}");
    }
}

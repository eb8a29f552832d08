//! Score an upload.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use credentials::{Reading, State};
use detector::{Assessment, Evidence, PatchPath, PictureView, Verdict};
use media::{
    Decoded, Format, InvisibleWatermark, MATCH_DISTANCE_MAX, MATCH_QUALITY_MIN, Mark,
    PerceptualHash,
};
use onnx::{InvertRequest, Picture};
use provenance::{
    Bundle, Decimal, Digest, Entry, Envelope, LeafIndex, RecordedDetector, RecordedVerdict,
    ScoreEntry, commit,
};

use super::report::{TraceCurve, stratum};
use super::{WorkError, draw_salt, now_ms};
use crate::access::Caller;
use crate::engine::{DetectorSlot, Engine, GeneratorSlot};
use crate::request_id;
use crate::sandbox::Sandbox;
use crate::state::AppState;

/// An uploaded file with what was said about it.
#[derive(Clone)]
pub struct Upload {
    /// The file.
    pub bytes: Vec<u8>,
    /// Its name, where one came with it.
    pub file_name: Option<String>,
    /// Its media type, where one came with it.
    pub media_type: Option<String>,
    /// Pictures of each way of the process, at most, for people to look at; 0 for none.
    pub strip_pictures: usize,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Upload of {} bytes", self.bytes.len())
    }
}

/// The forward and the reverse process of the generator on an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InversionStrip {
    /// Name of the generator.
    pub model: String,
    /// The picture after encoding and decoding alone.
    pub autoencoded: Picture,
    /// Samples on the way to noise, evenly spread, ending with the noise.
    pub to_noise: Vec<Picture>,
    /// Samples on the way back, evenly spread, ending with the picture that came back.
    pub way_back: Vec<Picture>,
    /// Whether the upload had to be resized to the generator's own size.
    pub resized: bool,
}

/// What was found about an upload, before anything is recorded.
#[derive(Debug, Clone)]
pub struct Examination {
    /// SHA-256 of the file.
    pub sha256: Digest,
    /// Digest of the decoded pixels.
    pub pixel_sha256: Digest,
    /// The decoded picture.
    pub decoded: Decoded,
    /// What the file's Content Credentials say; none where it has none.
    pub credentials: Option<Reading>,
    /// Marks of generators in the file.
    pub marks: Vec<Mark>,
    /// Perceptual hashes of the picture and of its turns and mirrors, with their quality.
    pub perceptual: ([PerceptualHash; 8], u8),
    /// The open watermark of a generator in the pixels.
    pub watermark: Option<InvisibleWatermark>,
    /// Verdict, probability, evidence and heatmap.
    pub assessment: Assessment,
    /// The trace as a curve; none where no patch was looked at.
    pub curve: Option<TraceCurve>,
    /// The patch with the highest raw score under the photo prior, where pictures were asked for.
    pub patch_path: Option<PatchPath>,
    /// The process strip, where it was asked for and the generator can invert.
    pub strip: Option<InversionStrip>,
    /// Milliseconds spent on parsing, on the detector and on the generator's inversion.
    pub timings_ms: ScoreTimings,
}

/// Where the time of a score went, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, utoipa::ToSchema)]
pub struct ScoreTimings {
    /// Parsing in the child process.
    pub parse_ms: f64,
    /// Trace, features and head.
    pub detector_ms: f64,
    /// Inversion with the generator, where it ran.
    pub inversion_ms: f64,
}

/// The signed statement about a score.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedScore {
    /// What the ledger says.
    pub entry: ScoreEntry,
    /// Its place in the log.
    pub leaf_index: LeafIndex,
    /// The hash of its leaf.
    pub leaf_hash: Digest,
    /// Entry, inclusion proof and checkpoint, for checking offline.
    pub bundle: Bundle,
    /// The salt that opens the upload commitment. Told to the caller and kept nowhere.
    pub upload_salt: [u8; 32],
}

/// The answer to an upload.
#[derive(Debug, Clone)]
pub struct ScoreAnswer {
    /// The request's id, as the entry states it.
    pub request_id: String,
    /// What was found.
    pub examination: Examination,
    /// What was recorded.
    pub recorded: RecordedScore,
}

/// Scores an upload, signs and records the score. The upload itself is not kept.
///
/// # Errors
/// See [`WorkError`]; after an error nothing about this upload is answered.
pub async fn score(
    state: &Arc<AppState>,
    caller: &Caller,
    upload: Upload,
) -> Result<ScoreAnswer, WorkError> {
    let request_id = request_id::current_or_new();
    let (state, client) = (Arc::clone(state), caller.client.clone());
    let shared = Arc::clone(&state);
    shared
        .run(async move {
            let turn = state.scores.take().await?;
            let engine = Arc::clone(&state.engine);
            let mut examination = examine_in_turn(engine, &state.sandbox, upload, turn).await?;
            let own = own_entries(&state, &examination).await?;
            let evidence = &mut examination.assessment.evidence;
            // Behind the experts, before what the file says about itself.
            let experts = evidence.iter().take_while(|finding| finding.is_expert());
            let place = experts.count();
            evidence.splice(place..place, own);
            examination.assessment.heed_conflicts();
            let recorded = record(
                &state,
                &examination,
                Stamp {
                    request_id: &request_id,
                    client,
                },
            );
            let recorded = recorded.await?;
            Ok(ScoreAnswer {
                request_id,
                examination,
                recorded,
            })
        })
        .await
}

/// Examines an upload without a ledger: nothing is looked up, signed or recorded.
///
/// # Errors
/// See [`WorkError`].
pub async fn examine(
    engine: Arc<Engine>,
    sandbox: &Sandbox,
    upload: Upload,
) -> Result<Examination, WorkError> {
    examine_in_turn(engine, sandbox, upload, ()).await
}

/// Examines an upload and holds the turn until the work is really over: a client that leaves ends
/// the wait for the blocking thread, not the thread.
pub(super) async fn examine_in_turn(
    engine: Arc<Engine>,
    sandbox: &Sandbox,
    upload: Upload,
    turn: impl Send + 'static,
) -> Result<Examination, WorkError> {
    // Asked first: without a detector there is no need to read anything.
    engine.detector()?;
    let started = std::time::Instant::now();
    let format = media::sniff(&upload.bytes)?;
    let (name, media_type) = (upload.file_name.as_deref(), upload.media_type.as_deref());
    media::check_label(name, media_type, format)?;
    let decoded = sandbox.parse(&upload.bytes).await?.decoded;
    let credentials = match decoded.has_content_credentials {
        true => sandbox.read_credentials(&upload.bytes, format).await?,
        false => None,
    };
    let parse_ms = milliseconds(started);
    let strip_pictures = upload.strip_pictures;
    let work = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let sha256 = Digest::of(&upload.bytes);
        drop(upload);
        let desk = Desk {
            engine: &engine,
            decoded: &decoded,
            strip_pictures,
        };
        let Seen {
            assessment,
            curve,
            patch_path,
            strip,
            timings_ms,
        } = desk.assess()?;
        let timings_ms = ScoreTimings {
            parse_ms,
            ..timings_ms
        };
        let (width, height) = (decoded.width, decoded.height);
        let pixel_sha256 = Digest::of(&media::pixel_preimage(width, height, &decoded.rgb));
        let perceptual = media::dihedral_hashes(width, height, &decoded.rgb);
        let marks = media::generator_marks(&decoded);
        let watermark = media::invisible_watermark(width, height, &decoded.rgb);
        Ok(Examination {
            sha256,
            pixel_sha256,
            decoded,
            credentials,
            marks,
            perceptual,
            watermark,
            assessment,
            curve,
            patch_path,
            strip,
            timings_ms,
        })
    });
    let mut examination = work.await.unwrap_or(Err(WorkError::Interrupted))?;
    let credentials = examination.credentials.iter().map(credentials_evidence);
    let marks = examination.marks.iter().map(mark_evidence);
    let watermark = examination.watermark.iter().map(watermark_evidence);
    let said: Vec<Evidence> = credentials.chain(marks).chain(watermark).collect();
    examination.assessment.evidence.extend(said);
    examination.assessment.heed_conflicts();
    Ok(examination)
}

/// One decoded upload and the models that look at it.
struct Desk<'a> {
    engine: &'a Engine,
    decoded: &'a Decoded,
    strip_pictures: usize,
}

/// What the models saw.
struct Seen {
    assessment: Assessment,
    curve: Option<TraceCurve>,
    patch_path: Option<PatchPath>,
    strip: Option<InversionStrip>,
    timings_ms: ScoreTimings,
}

impl Desk<'_> {
    fn assess(&self) -> Result<Seen, WorkError> {
        let started = std::time::Instant::now();
        let (mut assessment, curve, patch_path) = self.detect()?;
        let detector_ms = milliseconds(started);
        if let (Format::Jpeg, Some(quality)) =
            (self.decoded.format, self.decoded.quality.jpeg_quality)
        {
            assessment.evidence.push(Evidence::JpegQuality {
                luminance_quality: quality,
            });
        }
        let started = std::time::Instant::now();
        let (evidence, strip) = self.invert()?;
        assessment.evidence.extend(evidence);
        let inversion_ms = milliseconds(started);
        Ok(Seen {
            assessment,
            curve,
            patch_path,
            strip,
            timings_ms: ScoreTimings {
                parse_ms: 0.0,
                detector_ms,
                inversion_ms,
            },
        })
    }

    /// Trace, assessment, and the way of the patch that the head finds most like diffusion output.
    fn detect(&self) -> Result<(Assessment, Option<TraceCurve>, Option<PatchPath>), WorkError> {
        let Decoded {
            width,
            height,
            ref rgb,
            ..
        } = *self.decoded;
        let picture = PictureView::new(width, height, rgb).map_err(onnx::OnnxError::from)?;
        let mut detector = self.engine.detector()?.lock();
        let measured = detector.measure(&picture)?;
        let assessment = detector.assess_measured(&measured)?;
        let range = stratum(&assessment)
            .zip(detector.trace_range())
            .and_then(|(stratum, range)| range.of(stratum).cloned());
        let cells = assessment.heatmap.cells.iter();
        let highest = cells
            .max_by(|a, b| a.raw_score.total_cmp(&b.raw_score))
            .filter(|_| self.strip_pictures > 0);
        let patch_path = highest
            .map(|cell| detector.patch_path(&picture, (cell.x, cell.y)))
            .transpose()?;
        Ok((
            assessment,
            TraceCurve::new(&measured.trace, range),
            patch_path,
        ))
    }

    /// Inversion with the service's own generator. Its verdict holds at the generator's own size
    /// alone, so other sizes are inverted only where a strip is wanted, and give no evidence.
    fn invert(&self) -> Result<(Option<Evidence>, Option<InversionStrip>), WorkError> {
        let Ok(slot) = self.engine.generator() else {
            return Ok((None, None));
        };
        let own_size = (self.decoded.width, self.decoded.height) == slot.picture_size;
        if !slot.can_invert || (!own_size && self.strip_pictures == 0) {
            return Ok((None, None));
        }
        let picture = self.fitted(slot);
        let request = InvertRequest {
            picture: &picture,
            steps: None,
            preview_steps: self.strip_pictures,
        };
        let inversion = slot
            .lock()
            .invert(&request, &mut |_, _| ControlFlow::Continue(()))?;
        let verdict = inversion.verdict.as_ref().filter(|_| own_size);
        let evidence = verdict.map(|verdict| Evidence::GeneratorInversion {
            model: slot.model.name.clone(),
            statistic: verdict.value,
            threshold: verdict.threshold,
            made_by_model: verdict.made_by_this_model,
        });
        let strip = (self.strip_pictures > 0).then(|| InversionStrip {
            model: slot.model.name.clone(),
            autoencoded: inversion.autoencoded,
            to_noise: inversion.strip,
            way_back: inversion.strip_back,
            resized: !own_size,
        });
        Ok((evidence, strip))
    }

    /// The upload for the generator, which resizes it further if it must.
    fn fitted(&self, slot: &GeneratorSlot) -> Picture {
        let Decoded {
            width,
            height,
            ref rgb,
            ..
        } = *self.decoded;
        let whole = || Picture {
            width,
            height,
            rgb: rgb.clone(),
        };
        let longest = slot.picture_size.0.max(slot.picture_size.1);
        // Large uploads are averaged down first: the generator's own resizing is made for little.
        match super::to_picture(width, height, rgb) {
            Ok(picture) if width.max(height) > 4 * longest => {
                let small = picture.fit(2 * longest);
                Picture {
                    width: small.width(),
                    height: small.height(),
                    rgb: small.rgb().to_vec(),
                }
            }
            _ => whole(),
        }
    }
}

fn milliseconds(since: std::time::Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1_000.0
}

/// Content Credentials as evidence that stands beside the probability.
fn credentials_evidence(reading: &Reading) -> Evidence {
    Evidence::ContentCredentials {
        valid: matches!(reading.state, State::Valid | State::Trusted),
        trusted: reading.state == State::Trusted,
        signer: reading.signer.clone(),
        says_generated: reading.says_generated,
        generator: reading.generator.clone(),
        codes: reading.codes.clone(),
        refused: reading.state == State::Refused,
    }
}

/// A mark as evidence that stands beside the probability.
fn mark_evidence(mark: &Mark) -> Evidence {
    let claim = mark.generator.as_ref().unwrap_or(&mark.statement);
    Evidence::GeneratorMark {
        place: mark.place.clone(),
        claim: claim.clone(),
    }
}

/// A watermark as evidence that stands beside the probability.
fn watermark_evidence(watermark: &InvisibleWatermark) -> Evidence {
    let InvisibleWatermark {
        generator,
        agreeing_bits,
        bits,
        false_positive_rate,
    } = watermark.clone();
    Evidence::InvisibleWatermark {
        generator,
        agreeing_bits,
        bits,
        false_positive_rate,
    }
}

/// Entries of this ledger with the upload's bytes, else with its pixels, else with an image like it.
async fn own_entries(
    state: &AppState,
    examination: &Examination,
) -> Result<Vec<Evidence>, WorkError> {
    let own = |exact_file| {
        move |recorded: &ledger::RecordedEntry| Evidence::OwnEntry {
            leaf_index: recorded.leaf_index.get(),
            exact_file,
        }
    };
    let exact = state.ledger.find_image(&examination.sha256).await?;
    if !exact.is_empty() {
        return Ok(exact.iter().map(own(true)).collect());
    }
    let pixels = state.ledger.find_pixels(&examination.pixel_sha256).await?;
    if !pixels.is_empty() {
        return Ok(pixels.iter().map(own(false)).collect());
    }
    like_entries(state, examination).await
}

/// How a picture is turned or mirrored against one whose hash is at this place of the eight.
const TURNS: [Option<&str>; 8] = [
    None,
    Some("turned by a quarter"),
    Some("turned upside down"),
    Some("turned by a quarter"),
    Some("mirrored upside down"),
    Some("mirrored"),
    Some("turned and mirrored"),
    Some("turned and mirrored"),
];
/// Entries that are named for one upload, the nearest ones.
const NEAR_NAMED_MAX: usize = 5;

/// Entries whose image looks like the upload. Hashes of pictures with little structure are shared by so
/// many others that they say nothing, on either side.
async fn like_entries(
    state: &AppState,
    examination: &Examination,
) -> Result<Vec<Evidence>, WorkError> {
    let (hashes, quality) = &examination.perceptual;
    if *quality < MATCH_QUALITY_MIN {
        return Ok(Vec::new());
    }
    let hashes = hashes.map(|hash| *hash.as_bytes());
    let found = state.ledger.find_near(&hashes, MATCH_DISTANCE_MAX).await?;
    let found = found.into_iter().zip(TURNS);
    let found = found.flat_map(|(near, turned)| near.into_iter().map(move |near| (near, turned)));
    let mut found: Vec<_> = found
        .filter(|(near, _)| near.quality >= MATCH_QUALITY_MIN)
        .collect();
    // A symmetric picture is found in several turns: the first one of the list stands for all.
    found.sort_by_key(|(near, turned)| (near.distance, near.leaf_index, turned.is_some()));
    let mut named = HashSet::new();
    found.retain(|(near, _)| named.insert(near.leaf_index));
    let evidence = found.into_iter().take(NEAR_NAMED_MAX);
    Ok(evidence
        .map(|(near, turned)| Evidence::NearMatch {
            leaf_index: near.leaf_index,
            distance: near.distance,
            turned: turned.map(str::to_owned),
        })
        .collect())
}

struct Stamp<'a> {
    request_id: &'a str,
    client: String,
}

async fn record(
    state: &AppState,
    examination: &Examination,
    stamp: Stamp<'_>,
) -> Result<RecordedScore, WorkError> {
    let upload_salt = draw_salt();
    let assessment = &examination.assessment;
    let probability = assessment.probability.map(Decimal::from_f32).transpose()?;
    let entry = ScoreEntry {
        request_id: stamp.request_id.to_owned(),
        created_at_ms: now_ms(),
        client: stamp.client,
        upload_commitment: commit(&upload_salt, examination.sha256.as_bytes()),
        detector: recorded_detector(state.engine.detector()?),
        calibration_version: assessment.calibration_version.clone(),
        thresholds_version: assessment.thresholds_version.clone(),
        verdict: recorded_verdict(assessment.verdict),
        probability,
    };
    let envelope = Envelope::sign(&Entry::Score(entry.clone()), &state.signer)?;
    let appended = state.ledger.append(&envelope, None).await?;
    Ok(RecordedScore {
        entry,
        leaf_index: appended.leaf_index,
        leaf_hash: appended.leaf_hash,
        bundle: appended.bundle,
        upload_salt,
    })
}

fn recorded_detector(slot: &DetectorSlot) -> RecordedDetector {
    RecordedDetector {
        name: slot.identity.name.clone(),
        version: slot.identity.version.clone(),
        digest: slot.identity.digest,
    }
}

fn recorded_verdict(verdict: Verdict) -> RecordedVerdict {
    match verdict {
        Verdict::LikelyGenerated => RecordedVerdict::LikelyGenerated,
        Verdict::LikelyNotGenerated => RecordedVerdict::LikelyNotGenerated,
        Verdict::Inconclusive => RecordedVerdict::Inconclusive,
    }
}

//! Score an upload.

use std::ops::ControlFlow;
use std::sync::Arc;

use credentials::{Reading, State};
use detector::{Assessment, Evidence, PatchPath, PictureView, Verdict};
use diffusion::WatermarkReading;
use media::{Decoded, Format, InvisibleWatermark, Mark, PerceptualHash};
use ndarray::ArrayView4;
use onnx::{InvertRequest, Picture};
use provenance::{
    Bundle, Decimal, Digest, Entry, LeafIndex, RecordedDetector, RecordedVerdict, ScoreEntry,
    commit,
};

use super::own::{noise_watermark, own_entries};
use super::report::{TraceCurve, stratum};
use super::{WorkError, draw_salt, now_ms, sign_entries};
use crate::access::Caller;
use crate::engine::{DetectorSlot, Engine, GeneratorSlot};
use crate::request_id;
use crate::sandbox::Sandbox;
use crate::state::AppState;
use crate::watermarking::Watermarker;

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
    /// Digest of the pixels as the file stores them.
    pub pixel_sha256: Digest,
    /// The decoded picture, in the colours that a viewer shows.
    pub decoded: Decoded,
    /// What the file's Content Credentials say; none where it has none.
    pub credentials: Option<Reading>,
    /// Marks of generators in the file.
    pub marks: Vec<Mark>,
    /// Perceptual hashes of the picture and of its turns and mirrors, with their quality.
    pub perceptual: ([PerceptualHash; 8], u8),
    /// The open watermark of a generator in the pixels.
    pub watermark: Option<InvisibleWatermark>,
    /// The service's own mark in the noise that the picture inverts to, before it is looked up.
    pub noise_watermark: Option<WatermarkReading>,
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
            let means = Means::of(&state);
            let mut examination = examine_in_turn(means, &state.sandbox, upload, turn).await?;
            let mut own = own_entries(&state, &examination).await?;
            own.extend(noise_watermark(&state, &examination).await?);
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
    let means = Means {
        engine,
        watermarker: None,
    };
    examine_in_turn(means, sandbox, upload, ()).await
}

/// What an upload is examined with.
pub(super) struct Means {
    engine: Arc<Engine>,
    watermarker: Option<Arc<Watermarker>>,
}

impl Means {
    /// Those of a service.
    pub(super) fn of(state: &AppState) -> Self {
        Self {
            engine: Arc::clone(&state.engine),
            watermarker: state.watermarker.clone(),
        }
    }
}

/// Examines an upload and holds the turn until the work is really over: a client that leaves ends
/// the wait for the blocking thread, not the thread.
pub(super) async fn examine_in_turn(
    means: Means,
    sandbox: &Sandbox,
    upload: Upload,
    turn: impl Send + 'static,
) -> Result<Examination, WorkError> {
    // Asked first: without a detector there is no need to read anything.
    means.engine.detector()?;
    let started = std::time::Instant::now();
    let format = media::sniff(&upload.bytes)?;
    let (name, media_type) = (upload.file_name.as_deref(), upload.media_type.as_deref());
    media::check_label(name, media_type, format)?;
    let parsed = sandbox.parse(&upload.bytes).await?;
    let (decoded, pixel_sha256) = (parsed.decoded, parsed.pixel_sha256);
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
            engine: &means.engine,
            watermarker: means.watermarker.as_deref(),
            decoded: &decoded,
            strip_pictures,
        };
        let Seen {
            assessment,
            curve,
            patch_path,
            strip,
            noise_watermark,
            timings_ms,
        } = desk.assess()?;
        let timings_ms = ScoreTimings {
            parse_ms,
            ..timings_ms
        };
        let (width, height) = (decoded.width, decoded.height);
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
            noise_watermark,
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
    watermarker: Option<&'a Watermarker>,
    decoded: &'a Decoded,
    strip_pictures: usize,
}

/// What the models saw.
struct Seen {
    assessment: Assessment,
    curve: Option<TraceCurve>,
    patch_path: Option<PatchPath>,
    strip: Option<InversionStrip>,
    noise_watermark: Option<WatermarkReading>,
    timings_ms: ScoreTimings,
}

/// What the generator's inversion saw.
#[derive(Default)]
struct Inverted {
    evidence: Option<Evidence>,
    strip: Option<InversionStrip>,
    noise_watermark: Option<WatermarkReading>,
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
        let Inverted {
            evidence,
            strip,
            noise_watermark,
        } = self.invert()?;
        assessment.evidence.extend(evidence);
        let inversion_ms = milliseconds(started);
        Ok(Seen {
            assessment,
            curve,
            patch_path,
            strip,
            noise_watermark,
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
    /// alone, so other sizes are inverted only where a strip is wanted or a watermark may be found, and
    /// give no evidence about the model.
    fn invert(&self) -> Result<Inverted, WorkError> {
        let Ok(slot) = self.engine.generator() else {
            return Ok(Inverted::default());
        };
        let own_size = (self.decoded.width, self.decoded.height) == slot.picture_size;
        let may_be_marked = self.watermarker.is_some() && self.has_shape_of(slot);
        let wants_all = own_size || self.strip_pictures > 0;
        if !slot.can_invert || !(wants_all || may_be_marked) {
            return Ok(Inverted::default());
        }
        let picture = self.fitted(slot);
        if !wants_all {
            let noise = slot.lock().noise_of(&picture)?;
            return Ok(Inverted {
                noise_watermark: self.read_mark(slot, noise.view()),
                ..Inverted::default()
            });
        }
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
        let noise_watermark = self.read_mark(slot, inversion.trace.noise().view());
        let strip = (self.strip_pictures > 0).then(|| InversionStrip {
            model: slot.model.name.clone(),
            autoencoded: inversion.autoencoded,
            to_noise: inversion.strip,
            way_back: inversion.strip_back,
            resized: !own_size,
        });
        Ok(Inverted {
            evidence,
            strip,
            noise_watermark,
        })
    }

    /// Whether the upload has the sides of the generator's pictures, to a pixel's rounding: whatever else
    /// was done to one, its mark is only read where nothing was cut off.
    fn has_shape_of(&self, slot: &GeneratorSlot) -> bool {
        let (width, height) = slot.picture_size;
        let (found_width, found_height) = (self.decoded.width, self.decoded.height);
        let cross = |a: u32, b: u32| i64::from(a) * i64::from(b);
        let skew = cross(found_width, height) - cross(found_height, width);
        skew.abs() <= i64::from(width.max(height))
    }

    fn read_mark(
        &self,
        slot: &GeneratorSlot,
        noise: ArrayView4<'_, f32>,
    ) -> Option<WatermarkReading> {
        let watermarker = self.watermarker.filter(|_| slot.carries_watermark);
        watermarker.and_then(|watermarker| watermarker.read(noise))
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
    let envelopes = sign_entries(state, vec![Entry::Score(entry.clone())]).await?;
    let [envelope] = &envelopes[..] else {
        return Err(WorkError::Interrupted);
    };
    let appended = state.ledger.append(envelope, None).await?;
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

//! Evidence: what the probability rests on, and findings that stand beside it and never enter it.
//!
//! Marks and credentials can be copied onto any picture and stripped from any picture, so each kind
//! says what it can show. A missing mark shows nothing.

use serde::{Deserialize, Serialize};

use crate::semantic::Silence;

/// One finding about a picture. Written as `{"kind": "...", …}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Evidence {
    /// What the photo prior's trace gave: the first expert behind the probability.
    PriorTrace {
        /// Mean of the patches' raw scores.
        raw_score: f32,
        /// Smallest and largest raw score of a patch.
        raw_score_range: [f32; 2],
        /// Patches looked at.
        patches: usize,
        /// Quality measured from the trace, on the scale of JPEG quality, 100 for untouched.
        measured_quality: f32,
        /// Which calibration was used for that quality.
        stratum: String,
    },
    /// What a general image encoder sees in views of the picture: the second expert behind the
    /// probability.
    SemanticViews {
        /// Mean of the views' raw scores.
        raw_score: f32,
        /// Smallest and largest raw score of a view.
        raw_score_range: [f32; 2],
        /// Views looked at.
        views: usize,
    },
    /// The second expert said nothing; the probability rests on the trace alone.
    SemanticSilent {
        /// Why.
        silence: Silence,
    },
    /// The ledger of this service holds an entry with the same digest.
    OwnEntry {
        /// Leaf index of the entry.
        leaf_index: u64,
        /// True where the file's bytes are the same; false where the pixels alone are.
        exact_file: bool,
    },
    /// Text or fields that a generator leaves in a file. Anyone can write or remove them.
    GeneratorMark {
        /// Where it was found, for example `PNG tEXt parameters`.
        place: String,
        /// Which program or kind of source it names.
        claim: String,
    },
    /// Content Credentials in the file.
    ContentCredentials {
        /// Whether signature and content binding hold.
        valid: bool,
        /// Whether the signer is under a trust anchor.
        trusted: bool,
        /// Who signed, as written in the certificate. Only a trusted one says who it was.
        signer: Option<String>,
        /// Whether the credentials say that a model made the picture.
        says_generated: Option<bool>,
        /// The program that wrote them, as it calls itself.
        #[serde(default)]
        generator: Option<String>,
        /// The specification's codes of what does not hold, or why they were not read.
        #[serde(default)]
        codes: Vec<String>,
        /// Set where they were not read: over a limit, or unreadable within it.
        #[serde(default)]
        refused: bool,
    },
    /// Inversion with the generator of this service: was it made by this model.
    GeneratorInversion {
        /// Name of the model.
        model: String,
        /// The statistic that is compared.
        statistic: f64,
        /// Its frozen threshold.
        threshold: f64,
        /// Whether the statistic is on the model's side of the threshold.
        made_by_model: bool,
    },
    /// The file is a JPEG of this estimated quality.
    JpegQuality {
        /// Estimate from the luminance quantisation table, 1 to 100.
        luminance_quality: u8,
    },
    /// An open watermark that a generator's reference program hides in the pixels. Anyone can put it on
    /// any picture.
    InvisibleWatermark {
        /// Which program's message it is.
        generator: String,
        /// Bits that agree with the message.
        agreeing_bits: u32,
        /// Bits of the message.
        bits: u32,
        /// How often chance alone gives as many agreeing bits, over all messages that are tried.
        false_positive_rate: f64,
    },
    /// This service's own watermark, in the noise that the picture inverts to. Who has one marked picture
    /// can start another one from its noise, so that the mark alone never says that a picture is ours.
    NoiseWatermark {
        /// The id that it carries, ten hexadecimal digits.
        id: String,
        /// How far it stands out, in standard deviations of unmarked pictures.
        score: f64,
        /// How often chance alone gives as much, at most.
        false_positive_rate: f64,
        /// What the ledger says about the id.
        standing: WatermarkStanding,
    },
    /// The ledger of this service holds an entry whose image looks much like this one.
    NearMatch {
        /// Leaf index of the entry.
        leaf_index: u64,
        /// Bits of the perceptual hashes that differ, of 256.
        distance: u32,
        /// How the picture is turned or mirrored against the recorded one, where it is.
        turned: Option<String>,
    },
}

/// What a ledger says about the id of a watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum WatermarkStanding {
    /// The image of the entry with this id looks much like the picture.
    SameImage {
        /// Leaf index of the entry.
        leaf_index: u64,
        /// Bits of the perceptual hashes that differ, of 256.
        distance: u32,
    },
    /// The image of the entry with this id looks otherwise: a cropped copy, or the mark was carried over.
    OtherImage {
        /// Leaf index of the entry.
        leaf_index: u64,
        /// Bits of the perceptual hashes that differ, of 256.
        distance: u32,
    },
    /// One of the two pictures has too little structure to be compared.
    NotCompared {
        /// Leaf index of the entry.
        leaf_index: u64,
    },
    /// No entry has this id.
    NoEntry,
}

impl WatermarkStanding {
    /// Leaf index of the entry with the id.
    #[must_use]
    pub fn leaf_index(&self) -> Option<u64> {
        match *self {
            Self::SameImage { leaf_index, .. }
            | Self::OtherImage { leaf_index, .. }
            | Self::NotCompared { leaf_index } => Some(leaf_index),
            Self::NoEntry => None,
        }
    }

    /// What follows, as the end of a sentence.
    fn clause(&self) -> String {
        match self {
            Self::SameImage {
                leaf_index,
                distance,
            } => format!(
                "entry {leaf_index} records that mark for an image that looks like this one ({distance} of 256 bits differ): this service made it"
            ),
            Self::OtherImage {
                leaf_index,
                distance,
            } => format!(
                "entry {leaf_index} records that mark for an image that looks otherwise ({distance} of 256 bits differ): this one was cut or drawn over since, or the mark was carried over to it"
            ),
            Self::NotCompared { leaf_index } => format!(
                "entry {leaf_index} records that mark, but the pictures have too little structure to be compared"
            ),
            Self::NoEntry => "no entry of this ledger records that mark".to_owned(),
        }
    }
}

impl Evidence {
    /// Whether the probability rests on the finding (or on its absence).
    #[must_use]
    pub fn is_expert(&self) -> bool {
        matches!(
            self,
            Self::PriorTrace { .. } | Self::SemanticViews { .. } | Self::SemanticSilent { .. }
        )
    }

    /// Whether the finding says that a generator made the picture. Marks can be forged, so this
    /// never makes a verdict; it can only keep one from being given.
    #[must_use]
    pub fn says_generated(&self) -> bool {
        match self {
            Self::OwnEntry { .. }
            | Self::NearMatch { .. }
            | Self::GeneratorMark { .. }
            | Self::InvisibleWatermark { .. } => true,
            Self::GeneratorInversion { made_by_model, .. } => *made_by_model,
            Self::NoiseWatermark { standing, .. } => {
                matches!(standing, WatermarkStanding::SameImage { .. })
            }
            Self::ContentCredentials {
                valid,
                says_generated,
                ..
            } => *valid && *says_generated == Some(true),
            _ => false,
        }
    }

    /// Whether the finding says, under a signature that is trusted, that no generator made it.
    #[must_use]
    pub fn says_not_generated(&self) -> bool {
        matches!(
            self,
            Self::ContentCredentials {
                valid: true,
                trusted: true,
                says_generated: Some(false),
                ..
            }
        )
    }

    /// One sentence for people, with what the finding can and cannot show.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::PriorTrace {
                raw_score,
                patches,
                measured_quality,
                ..
            } => format!(
                "the noise trace of {patches} patches gives a raw score of {raw_score:.2} at a measured quality of {measured_quality:.0}"
            ),
            Self::SemanticViews {
                raw_score, views, ..
            } => format!(
                "what the picture shows, seen in {views} views by a general image encoder, gives a raw score of {raw_score:.2}"
            ),
            Self::SemanticSilent { silence } => format!(
                "the semantic expert says nothing ({}): the probability rests on the trace alone",
                silence.clause()
            ),
            Self::OwnEntry {
                leaf_index,
                exact_file: true,
            } => {
                format!("this file is recorded in this service's ledger as entry {leaf_index}")
            }
            Self::OwnEntry {
                leaf_index,
                exact_file: false,
            } => {
                format!(
                    "these pixels are recorded in this service's ledger as entry {leaf_index}; the file's other bytes differ"
                )
            }
            Self::GeneratorMark { place, claim } => {
                format!("{place} names {claim}; anyone can write or remove such a mark")
            }
            Self::ContentCredentials {
                refused: true,
                codes,
                ..
            } => format!(
                "content credentials are present and were not read: {}",
                codes.join(", ")
            ),
            Self::ContentCredentials {
                valid: false,
                codes,
                ..
            } => format!(
                "content credentials are present but do not hold ({})",
                codes.join(", ")
            ),
            Self::ContentCredentials {
                trusted,
                signer,
                says_generated,
                ..
            } => format!(
                "content credentials hold, signed by {}, who is {}{}",
                signer.as_deref().unwrap_or("an unnamed signer"),
                if *trusted {
                    "under a trust anchor of this service"
                } else {
                    "under no trust anchor of this service, so that it may be anybody"
                },
                match says_generated {
                    Some(true) => "; they say that a model made the picture or a part of it",
                    Some(false) => "; they say that no model made the picture",
                    None => "",
                }
            ),
            Self::GeneratorInversion {
                model,
                made_by_model,
                statistic,
                threshold,
            } => format!(
                "inversion with {model} gives {statistic:.4} against a threshold of {threshold:.4}: {} its own output",
                if *made_by_model {
                    "looks like"
                } else {
                    "does not look like"
                }
            ),
            Self::JpegQuality { luminance_quality } => {
                format!("the file is a JPEG of about quality {luminance_quality}")
            }
            Self::NearMatch {
                leaf_index,
                distance,
                turned,
            } => {
                let turned = turned.as_deref().map(|turned| format!(", {turned}"));
                format!(
                    "the image of entry {leaf_index} in this service's ledger looks much like this one{}: {distance} of 256 bits of their perceptual hashes differ; the same motif can be meant as well as a copy",
                    turned.unwrap_or_default()
                )
            }
            Self::NoiseWatermark {
                id,
                score,
                standing,
                ..
            } => format!(
                "the noise that the picture inverts to carries this service's watermark {id}, {score:.1} standard deviations above chance; {}",
                standing.clause()
            ),
            Self::InvisibleWatermark {
                generator,
                agreeing_bits,
                bits,
                false_positive_rate,
            } => format!(
                "the pixels carry the open watermark of {generator}: {agreeing_bits} of {bits} bits agree, which chance gives once in {:.0e} pictures; anyone can put it on a picture",
                1.0 / false_positive_rate
            ),
        }
    }
}

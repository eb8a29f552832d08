//! `/studio`

use ::ledger::Scope;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use diffusion::SchedulerKind;
use serde::Deserialize;

use super::view::{Choice, Fact, GeneratedView, Place, Strip, StripTile, StudioForm, StudioPage};
use super::visitor::{PageError, Visitor, shown, shown_error};
use super::{pictures, present, respond};
use crate::problem::Problem;
use crate::work::{self, GenerateAnswer, GenerateOrder, RecordedPicture, WorkError};

/// Pictures of the reverse process below each image.
const STRIP_PICTURES: usize = 8;

/// The form's fields as they come; an empty one means the model's default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Fields {
    prompt: String,
    negative_prompt: String,
    seed: String,
    n: String,
    steps: String,
    guidance_scale: String,
    scheduler: String,
}

/// The empty form.
pub(super) async fn show(visitor: Visitor) -> Result<HttpResponse, PageError> {
    visitor.require(Scope::Generate)?;
    Ok(match page(&visitor, &Fields::default()) {
        Ok(page) => respond::page(StatusCode::OK, &page),
        Err(error) => return Err(visitor.refuse(error)),
    })
}

/// Generates and shows the images with their provenance.
pub(super) async fn make(
    visitor: Visitor,
    fields: web::Form<Fields>,
) -> Result<HttpResponse, PageError> {
    visitor.require(Scope::Generate)?;
    let mut page = page(&visitor, &fields).map_err(|error| visitor.refuse(error))?;
    let order = match fields.parse() {
        Ok(order) => order,
        Err(problem) => {
            page.problem = Some(shown(&problem));
            return Ok(respond::page(StatusCode::BAD_REQUEST, &page));
        }
    };
    match work::generate(&visitor.state, &visitor.caller, order, None).await {
        Ok(answer) => {
            page.notes = notes(&answer);
            page.images = images(answer)
                .await
                .map_err(|error| visitor.refuse(error))?;
            Ok(respond::page(StatusCode::OK, &page))
        }
        Err(error) => {
            let (status, problem) = shown_error(error);
            page.problem = Some(problem);
            Ok(respond::page(status, &page))
        }
    }
}

impl Fields {
    fn parse(&self) -> Result<GenerateOrder, Problem> {
        let scheduler = text(&self.scheduler).map(|name| name.parse::<SchedulerKind>());
        let scheduler = scheduler
            .transpose()
            .map_err(|error| Problem::invalid("scheduler", error.to_string()))?;
        Ok(GenerateOrder {
            prompt: text(&self.prompt),
            negative_prompt: text(&self.negative_prompt),
            images: number("n", &self.n)?.unwrap_or(1),
            seed: number("seed", &self.seed)?,
            steps: number("steps", &self.steps)?,
            guidance_scale: number("guidance_scale", &self.guidance_scale)?,
            scheduler,
            preview_steps: STRIP_PICTURES,
            ..GenerateOrder::default()
        })
    }
}

fn text(field: &str) -> Option<String> {
    let field = field.trim();
    (!field.is_empty()).then(|| field.to_owned())
}

fn number<T: std::str::FromStr>(
    parameter: &'static str,
    field: &str,
) -> Result<Option<T>, Problem> {
    let refused = || {
        let shown: String = field.chars().take(40).collect();
        Problem::invalid(
            parameter,
            format!("{parameter} is {shown:?}, which is no number it can be"),
        )
    };
    text(field)
        .map(|field| field.parse().map_err(|_| refused()))
        .transpose()
}

/// The page with the form as it was sent, or with the model's defaults.
fn page(visitor: &Visitor, fields: &Fields) -> Result<StudioPage, WorkError> {
    let slot = visitor.state.engine.generator()?;
    let limits = &visitor.state.config.limits;
    let or = |field: &str, default: String| text(field).unwrap_or(default);
    let scheduler = or(&fields.scheduler, slot.scheduler.to_string());
    let schedulers = SchedulerKind::GENERATIVE.iter().map(|kind| Choice {
        value: kind.to_string(),
        label: label(*kind).to_owned(),
        selected: kind.to_string() == scheduler,
    });
    let (width, height) = slot.picture_size;
    let form = StudioForm {
        prompt: fields.prompt.clone(),
        takes_prompt: slot.takes_prompt,
        prompt_chars_max: limits.prompt_bytes_max,
        negative_prompt: fields.negative_prompt.clone(),
        seed: fields.seed.clone(),
        steps: or(&fields.steps, slot.defaults.num_inference_steps.to_string()),
        steps_max: limits.steps_max,
        guidance_scale: or(
            &fields.guidance_scale,
            slot.defaults.guidance_scale.to_string(),
        ),
        count: or(&fields.n, "1".to_owned()),
        count_max: limits.images_per_request_max,
        schedulers: schedulers.collect(),
    };
    Ok(StudioPage {
        frame: visitor.frame("Studio", Place::Studio),
        model: format!("{}, pictures of {width} × {height} pixels", slot.model.name),
        form,
        problem: None,
        notes: Vec::new(),
        images: Vec::new(),
    })
}

/// A scheduler's name as papers write it.
fn label(kind: SchedulerKind) -> &'static str {
    match kind {
        SchedulerKind::Ddpm => "DDPM",
        SchedulerKind::Ddim => "DDIM",
        SchedulerKind::DdimInverse => "DDIM inverse",
        SchedulerKind::Pndm => "PNDM",
        SchedulerKind::Lms => "LMS",
        SchedulerKind::Heun => "Heun",
        SchedulerKind::Euler => "Euler",
        SchedulerKind::EulerAncestral => "Euler ancestral",
        SchedulerKind::Kdpm2 => "DPM2",
        SchedulerKind::Kdpm2Ancestral => "DPM2 ancestral",
        SchedulerKind::DpmSolverMultistep => "DPM-Solver++ 2M",
        SchedulerKind::DpmSolverMultistep3 => "DPM-Solver++ 3M",
        SchedulerKind::DpmSolverMultistepSde => "DPM-Solver++ 2M SDE",
        SchedulerKind::DpmSolverSinglestep => "DPM-Solver++ 2S",
        SchedulerKind::DpmSolverSde => "DPM-Solver++ SDE",
        SchedulerKind::UniPc => "UniPC",
        SchedulerKind::Deis => "DEIS",
        SchedulerKind::Lcm => "LCM",
        SchedulerKind::Tcd => "TCD",
        SchedulerKind::FlowMatchEuler => "Flow-matching Euler",
        SchedulerKind::ProbabilityFlow => "Probability-flow ODE",
        SchedulerKind::PredictorCorrector => "Predictor-corrector",
    }
}

fn notes(answer: &GenerateAnswer) -> Vec<String> {
    let truncated = answer.truncated_prompt.as_ref().map(|truncated| {
        format!(
            "The prompt has {} tokens and the model reads {}. It did not see: \u{201c}{}\u{201d}",
            truncated.tokens, truncated.tokens_max, truncated.dropped
        )
    });
    truncated.into_iter().collect()
}

/// Encoding the strips takes a while, so it leaves the async threads.
async fn images(answer: GenerateAnswer) -> Result<Vec<GeneratedView>, WorkError> {
    web::block(move || answer.images.iter().map(generated).collect())
        .await
        .map_err(|_| WorkError::Interrupted)?
}

fn generated(image: &RecordedPicture) -> Result<GeneratedView, WorkError> {
    let index = image.leaf_index.get();
    let entry = &image.entry;
    let checkpoint = image.bundle.checkpoint();
    let head = checkpoint.unverified();
    let facts = vec![
        Fact::mono("Leaf hash", image.leaf_hash.to_string()),
        Fact::plain("Checkpoint", present::entries(head.tree_size.get())),
        Fact::mono("Root hash", head.root_hash.to_string()),
        Fact::plain("Settings", present::settings(entry)),
        Fact::mono("Seed", entry.seed.to_string()),
        Fact::mono("File digest", entry.image.sha256.to_string()),
        Fact::mono("Pixel digest", entry.image.pixel_sha256.to_string()),
        Fact::mono("Model digest", entry.model.digest.to_string()),
    ];
    Ok(GeneratedView {
        index,
        picture: pictures::inline_png(&image.file),
        alt: format!("The generated image, entry {index}"),
        // In the page, not behind addresses: the key may allow generating but not reading.
        download: pictures::inline_png(&image.file),
        download_name: present::image_name(index),
        bundle: pictures::inline_bundle(&image.bundle),
        bundle_name: present::bundle_name(index),
        facts,
        command: present::verify_command(index, true),
        strip: strip(image)?,
    })
}

/// What the model took for the finished image, along the way.
fn strip(image: &RecordedPicture) -> Result<Option<Strip>, WorkError> {
    let count = image.previews.len();
    if count == 0 {
        return Ok(None);
    }
    let mut tiles = Vec::with_capacity(count);
    for (place, picture) in image.previews.iter().enumerate() {
        let caption = match place + 1 {
            last if last == count => "finished".to_owned(),
            // The pictures are spread evenly over the steps.
            done => format!("{} %", done * 100 / count),
        };
        tiles.push(StripTile {
            source: pictures::inline_output(picture).map_err(WorkError::Encode)?,
            alt: format!("The model's guess, {caption} of the way"),
            caption,
        });
    }
    let explanation = format!(
        "What the model took for the finished image at {count} of the {} steps, from noise on.",
        image.entry.steps
    );
    Ok(Some(Strip {
        title: "The reverse process",
        explanation,
        large: false,
        tiles,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_fields_mean_the_models_defaults() {
        let fields = Fields {
            prompt: " a red heart ".to_owned(),
            ..Fields::default()
        };
        let order = fields.parse().unwrap();
        let expected = GenerateOrder {
            preview_steps: STRIP_PICTURES,
            ..GenerateOrder::new("a red heart")
        };
        assert_eq!(order, expected);
    }

    #[test]
    fn a_field_that_is_no_number_is_refused_by_name() {
        for (fields, name) in [
            (
                Fields {
                    seed: "-1".to_owned(),
                    ..Fields::default()
                },
                "seed",
            ),
            (
                Fields {
                    n: "many".to_owned(),
                    ..Fields::default()
                },
                "n",
            ),
            (
                Fields {
                    scheduler: "magic".to_owned(),
                    ..Fields::default()
                },
                "scheduler",
            ),
        ] {
            assert_eq!(fields.parse().unwrap_err().parameter, Some(name));
        }
    }
}

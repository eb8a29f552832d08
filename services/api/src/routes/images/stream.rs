//! The answer as server-sent events: pictures of the way, then each recorded image.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::header::{CONTENT_TYPE, ContentEncoding};
use actix_web::web::{self, Bytes};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::Stream;
use onnx::Preview;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::answer::{GeneratedImage, UsageBody};
use super::request::Delivery;
use crate::access::Caller;
use crate::config::Role;
use crate::problem::Problem;
use crate::state::AppState;
use crate::work::{self, GenerateAnswer, GenerateOrder, IdempotencyKey, OnProgress, WorkError};

/// Pictures of the way that wait for a slow reader; further ones are left out.
const PARTIAL_IMAGES_WAITING_MAX: usize = 8;

/// Names of the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::routes) struct Events {
    partial_image: &'static str,
    completed: &'static str,
}

impl Events {
    /// Of a generation.
    pub(in crate::routes) const GENERATION: Self = Self {
        partial_image: "image_generation.partial_image",
        completed: "image_generation.completed",
    };
    /// Of an edit.
    pub(in crate::routes) const EDIT: Self = Self {
        partial_image: "image_edit.partial_image",
        completed: "image_edit.completed",
    };
}

/// What is to be done and how it is told.
pub(in crate::routes) struct Job {
    pub(in crate::routes) order: GenerateOrder,
    pub(in crate::routes) key: Option<IdempotencyKey>,
    pub(in crate::routes) delivery: Delivery,
    pub(in crate::routes) events: Events,
}

/// Starts the work and answers with the first event, so that a refusal is still a refusal.
///
/// # Errors
/// Whatever stops the work before its first event.
pub(in crate::routes) async fn stream(
    state: web::Data<AppState>,
    caller: Caller,
    job: Job,
) -> Result<HttpResponse, Problem> {
    let (sender, previews) = mpsc::channel(PARTIAL_IMAGES_WAITING_MAX);
    let Job {
        order,
        key,
        delivery,
        events,
    } = job;
    let wanted = delivery.partial_images;
    if wanted > 0 && state.config.role == Role::Api {
        let detail =
            "partial_images must be 0: a worker makes the images, and sends no pictures of the way";
        return Err(Problem::invalid("partial_images", detail));
    }
    let on_progress: OnProgress = Box::new(move |progress| {
        let last = progress.step_index + 1 >= progress.steps;
        if let Some(preview) = progress.preview.filter(|_| wanted > 0 && !last) {
            // A reader that is too slow misses a picture of the way, never the image.
            let _ = sender.try_send(preview);
        }
        ControlFlow::Continue(())
    });
    let state = Arc::clone(&state);
    let work = Box::pin(async move {
        match key {
            None => work::generate(&state, &caller, order, Some(on_progress)).await,
            Some(key) => work::generate_once(&state, &caller, order, key).await,
        }
    });
    let mut told = Told {
        work: Some(work),
        previews,
        delivery,
        events,
        partial_images: Vec::new(),
        ready: VecDeque::new(),
    };
    told.wait().await?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        // Compression would hold events back until its window is full.
        .insert_header(ContentEncoding::Identity)
        .streaming(told.into_stream()))
}

type Work = Pin<Box<dyn Future<Output = Result<GenerateAnswer, WorkError>>>>;

/// A stream under way. Dropping it, when the client leaves, ends the work.
struct Told {
    work: Option<Work>,
    previews: mpsc::Receiver<Preview>,
    delivery: Delivery,
    events: Events,
    /// How many pictures of the way each image has had.
    partial_images: Vec<usize>,
    ready: VecDeque<Bytes>,
}

impl Told {
    /// Waits until something is ready to be told, or all is told.
    async fn wait(&mut self) -> Result<(), Problem> {
        while self.ready.is_empty() {
            let Some(work) = &mut self.work else {
                return Ok(());
            };
            tokio::select! {
                biased;
                Some(preview) = self.previews.recv() => self.tell_preview(preview),
                answer = work => {
                    self.work = None;
                    while let Ok(preview) = self.previews.try_recv() {
                        self.tell_preview(preview);
                    }
                    self.tell_answer(answer?);
                }
            }
        }
        Ok(())
    }

    fn tell_preview(&mut self, preview: Preview) {
        let image_index = preview.image_index;
        if self.partial_images.len() <= image_index {
            self.partial_images.resize(image_index + 1, 0);
        }
        let place = self.partial_images[image_index];
        if place >= self.delivery.partial_images as usize {
            return;
        }
        let (width, height) = (preview.picture.width, preview.picture.height);
        // A picture of the way that cannot be encoded is left out; the image itself still comes.
        let Ok(file) = work::unsigned_file(&preview.picture, self.delivery.format) else {
            return;
        };
        self.partial_images[image_index] += 1;
        let event = json!({
            "type": self.events.partial_image,
            "b64_json": STANDARD.encode(file),
            "partial_image_index": place,
            "image_index": image_index,
            "created_at": work::now_ms() / 1_000,
            "size": format!("{width}x{height}"),
            "quality": "auto",
            "background": "opaque",
            "output_format": self.delivery.format.to_string(),
        });
        self.ready
            .push_back(event_bytes(self.events.partial_image, &event));
    }

    fn tell_answer(&mut self, answer: GenerateAnswer) {
        let warnings = super::answer::warnings(&answer);
        let created_at = answer.created_at_ms / 1_000;
        for (image_index, picture) in answer.images.into_iter().enumerate() {
            let image = GeneratedImage::new(picture, None);
            let completed = Completed {
                kind: self.events.completed,
                created_at,
                size: image.image.size(),
                quality: "auto",
                background: "opaque",
                output_format: image.image.output_format().to_owned(),
                usage: answer.usage.map(|usage| UsageBody::new(usage, 1)),
                id: &answer.request_id,
                image_index,
                warnings: &warnings,
                image,
            };
            self.ready
                .push_back(event_bytes(self.events.completed, &completed));
        }
    }

    fn into_stream(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        futures_util::stream::unfold(self, |mut told| async move {
            if let Err(problem) = told.wait().await {
                let error = serde_json::to_value(problem.body().error).unwrap_or(Value::Null);
                let event = json!({ "type": "error", "error": error });
                told.ready.push_back(event_bytes("error", &event));
                told.work = None;
            }
            let bytes = told.ready.pop_front()?;
            Some((Ok(bytes), told))
        })
    }
}

/// The last event of an image.
#[derive(Serialize)]
struct Completed<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    created_at: u64,
    size: String,
    quality: &'static str,
    background: &'static str,
    output_format: String,
    /// Of this image; none when the answer was given before.
    usage: Option<UsageBody>,
    id: &'a str,
    image_index: usize,
    warnings: &'a [String],
    #[serde(flatten)]
    image: GeneratedImage,
}

fn event_bytes(name: &str, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).expect("texts and numbers serialise");
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

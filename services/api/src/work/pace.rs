//! How long the images of one shape take, made alone and in batches, and which batch pays.

use std::collections::HashMap;
use std::time::Duration;

use onnx::LoopShape;

use crate::config::Limits;

/// Shapes whose pace is remembered; sizes, steps and schedulers come from requests.
const SHAPES_MAX: usize = 64;
/// Runs of a batch size that only warm it up: memory is laid out, and each row is compared with what
/// it is alone.
const WARMING_RUNS: u32 = 1;
/// Weight of a new measurement in the moving mean.
const WEIGHT: f64 = 0.3;
/// After so many batches of a shape a size is measured anew: the machine may have other work by now.
const MEASURED_ANEW_AFTER: u64 = 64;

/// What a batch must do to be formed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchTerms {
    /// Images of a batch at most.
    pub images_max: usize,
    /// How many times the images of a second there must be, against images made alone.
    pub gain_min: f64,
    /// How much longer a batch may take than one image alone.
    pub delay_max: Duration,
}

impl BatchTerms {
    /// The terms of these limits.
    #[must_use]
    pub fn of(limits: &Limits) -> Self {
        Self {
            images_max: limits.batch_images_max,
            gain_min: 1.0 + f64::from(limits.batch_gain_percent_min) / 100.0,
            delay_max: Duration::from_millis(limits.batch_delay_ms_max),
        }
    }
}

/// Measured paces, by shape.
#[derive(Debug, Default)]
pub struct Pace {
    shapes: HashMap<LoopShape, ShapePace>,
    /// Grows with every question.
    clock: u64,
}

#[derive(Debug, Default)]
struct ShapePace {
    /// By the exponent of the batch size: 1, 2, 4 images and so on.
    sizes: Vec<SizePace>,
    batches: u64,
    /// When it was last asked for.
    used: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct SizePace {
    runs: u32,
    seconds_per_image: Option<f64>,
    /// The shape's number of batches at the last measurement.
    measured_at: u64,
}

impl Pace {
    /// How many images of a shape to make together when so many wait: the fastest of the sizes 1, 2, 4
    /// and so on when it is faster than one at a time by the least gain, else 1. Sizes that were
    /// not measured yet, or long ago, are tried when there are images for them.
    pub fn images_together(
        &mut self,
        shape: &LoopShape,
        waiting: usize,
        terms: BatchTerms,
    ) -> usize {
        self.clock += 1;
        let clock = self.clock;
        let pace = self.entry(shape);
        pace.used = clock;
        pace.batches += 1;
        let most = waiting.min(terms.images_max).max(1);
        pace.grow_to(most);
        let batches = pace.batches;
        let sizes = 0..=most.ilog2() as usize;
        let bearable = |place: &usize| *place == 0 || pace.delay(*place) <= terms.delay_max;
        let sizes: Vec<usize> = sizes.filter(bearable).collect();
        let unknown = |place: &&usize| pace.sizes[**place].seconds_per_image.is_none();
        if let Some(place) = sizes.iter().find(unknown) {
            return 1 << place;
        }
        let age = |place: usize| batches - pace.sizes[place].measured_at;
        let oldest = sizes.iter().copied().max_by_key(|&place| age(place));
        if let Some(place) = oldest.filter(|&place| age(place) > MEASURED_ANEW_AFTER) {
            return 1 << place;
        }
        let seconds = |place: usize| pace.sizes[place].seconds_per_image.unwrap_or(f64::MAX);
        let fastest = sizes
            .iter()
            .copied()
            .min_by(|&left, &right| seconds(left).total_cmp(&seconds(right)));
        match fastest {
            Some(place) if seconds(0) >= terms.gain_min * seconds(place) => 1 << place,
            _ => 1,
        }
    }

    /// Notes how long images took that were made `together` at a time. Batches that are not full tell
    /// nothing.
    pub fn observe(
        &mut self,
        shape: &LoopShape,
        together: usize,
        (images, took): (usize, Duration),
    ) {
        if !together.is_power_of_two() || images == 0 || !images.is_multiple_of(together) {
            return;
        }
        let pace = self.entry(shape);
        pace.grow_to(together);
        let batches = pace.batches;
        let size = &mut pace.sizes[together.ilog2() as usize];
        size.runs = size.runs.saturating_add(1);
        if size.runs <= WARMING_RUNS {
            return;
        }
        let seconds = took.as_secs_f64() / images as f64;
        let mean = size
            .seconds_per_image
            .map_or(seconds, |mean| mean + WEIGHT * (seconds - mean));
        size.seconds_per_image = Some(mean);
        size.measured_at = batches;
    }

    fn entry(&mut self, shape: &LoopShape) -> &mut ShapePace {
        if self.shapes.len() >= SHAPES_MAX && !self.shapes.contains_key(shape) {
            let oldest = self.shapes.iter().min_by_key(|(_, pace)| pace.used);
            if let Some(oldest) = oldest.map(|(shape, _)| shape.clone()) {
                self.shapes.remove(&oldest);
            }
        }
        self.shapes.entry(shape.clone()).or_default()
    }
}

impl ShapePace {
    fn grow_to(&mut self, images: usize) {
        let sizes = images.ilog2() as usize + 1;
        if self.sizes.len() < sizes {
            self.sizes.resize(sizes, SizePace::default());
        }
    }

    /// How much longer a batch of this size takes than an image alone; as long as one after another
    /// where it was not measured yet.
    fn delay(&self, place: usize) -> Duration {
        let Some(alone) = self.sizes[0].seconds_per_image else {
            // What an image takes is learned first.
            return Duration::MAX;
        };
        let each = self.sizes[place].seconds_per_image.unwrap_or(alone);
        let images = f64::from(1_u32 << place);
        Duration::try_from_secs_f64((images * each - alone).max(0.0)).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onnx::GenerateRequest;

    const TERMS: BatchTerms = BatchTerms {
        images_max: 4,
        gain_min: 1.1,
        delay_max: Duration::from_secs(60),
    };

    fn shape(steps: u32) -> LoopShape {
        let request = GenerateRequest {
            steps,
            ..GenerateRequest::new("a cat")
        };
        request.loop_shape()
    }

    /// Lets so many images wait until the choice is settled; `seconds` is what a batch of a size takes.
    fn settled(
        pace: &mut Pace,
        waiting: usize,
        terms: BatchTerms,
        seconds: impl Fn(usize) -> f64,
    ) -> usize {
        for _ in 0..12 {
            let images = pace.images_together(&shape(5), waiting, terms);
            let took = Duration::from_secs_f64(seconds(images));
            pace.observe(&shape(5), images, (images, took));
        }
        pace.images_together(&shape(5), waiting, terms)
    }

    #[test]
    fn the_fastest_size_is_found_by_measuring() {
        let seconds = |images| [0.0, 1.0, 1.5, 0.0, 4.0][images];
        assert_eq!(settled(&mut Pace::default(), 9, TERMS, seconds), 2);
        let seconds = |images| [0.0, 1.0, 1.9, 0.0, 2.0][images];
        assert_eq!(settled(&mut Pace::default(), 9, TERMS, seconds), 4);
        assert_eq!(settled(&mut Pace::default(), 3, TERMS, seconds), 1);
    }

    #[test]
    fn a_batch_that_gains_less_than_the_least_gain_is_not_formed() {
        let seconds = |images: usize| images as f64 / 1.05_f64.powi(images as i32 - 1);
        let mut pace = Pace::default();
        let terms = BatchTerms {
            gain_min: 1.2,
            ..TERMS
        };
        assert_eq!(settled(&mut pace, 4, terms, seconds), 1);
        assert_eq!(pace.images_together(&shape(5), 4, TERMS), 4);
    }

    #[test]
    fn a_batch_that_delays_its_first_image_too_long_is_not_formed() {
        let terms = BatchTerms {
            delay_max: Duration::from_millis(1_500),
            ..TERMS
        };
        let seconds = |images: usize| images as f64 * 0.7 + 0.3;
        assert_eq!(settled(&mut Pace::default(), 8, TERMS, seconds), 4);
        assert_eq!(settled(&mut Pace::default(), 8, terms, seconds), 2);
    }

    #[test]
    fn a_machine_that_changes_is_measured_anew() {
        let mut pace = Pace::default();
        let gains = |images: usize| images as f64 * 0.5 + 0.5;
        assert_eq!(settled(&mut pace, 4, TERMS, gains), 4);
        let loses = |images: usize| (images * images) as f64;
        let mut last = 4;
        for _ in 0..200 {
            last = pace.images_together(&shape(5), 4, TERMS);
            let took = Duration::from_secs_f64(loses(last));
            pace.observe(&shape(5), last, (last, took));
        }
        assert_eq!(last, 1);
    }

    #[test]
    fn shapes_do_not_pile_up() {
        let mut pace = Pace::default();
        for steps in 0..1_000 {
            pace.images_together(&shape(steps), 1, TERMS);
        }
        assert_eq!(pace.shapes.len(), SHAPES_MAX);
        assert!(pace.shapes.contains_key(&shape(999)));
    }

    #[test]
    fn one_image_at_most_means_no_batch_at_all() {
        let terms = BatchTerms {
            images_max: 1,
            ..TERMS
        };
        assert_eq!(settled(&mut Pace::default(), 8, terms, |_| 1.0), 1);
    }
}

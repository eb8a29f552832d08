//! The schedulers, one per file, and the arithmetic that they share.

pub mod ddim;
pub mod ddim_inverse;
pub mod dpm_solver_multistep;
pub mod euler;

use ndarray::{Array4, ArrayView4, CowArray, Ix4};

use crate::config::PredictionType;
use crate::error::DiffusionError;

/// `(from_sample * sample + from_output * output) * factor`. The factor stands outside, because
/// sample and output nearly cancel at high noise: weights that were divided by a small signal level
/// before would carry their rounding into the difference.
#[derive(Debug, Clone, Copy)]
struct Combination {
    from_sample: f32,
    from_output: f32,
    factor: f32,
}

impl Combination {
    fn new(from_sample: f64, from_output: f64, factor: f64) -> Self {
        Self {
            from_sample: from_sample as f32,
            from_output: from_output as f32,
            factor: factor as f32,
        }
    }

    fn apply(self, sample: f32, output: f32) -> f32 {
        (self.from_sample * sample + self.from_output * output) * self.factor
    }
}

/// Turns (sample, model output) into the noise-free sample and into the noise, for a sample
/// `x = signal * x0 + noise * epsilon`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conversion {
    original: Combination,
    epsilon: Combination,
}

impl Conversion {
    /// `signal` is the square root of the cumulative product, `noise` that of its complement.
    pub(crate) fn new(prediction_type: PredictionType, signal: f64, noise: f64) -> Self {
        let output_itself = Combination::new(0.0, 1.0, 1.0);
        let (original, epsilon) = match prediction_type {
            // x0 = (x - noise * output) / signal.
            PredictionType::Epsilon => (Combination::new(1.0, -noise, 1.0 / signal), output_itself),
            // epsilon = (x - signal * output) / noise.
            PredictionType::Sample => (output_itself, Combination::new(1.0, -signal, 1.0 / noise)),
            // Salimans and Ho 2022 (arXiv 2202.00512), appendix D: v = signal * epsilon - noise * x0.
            PredictionType::VPrediction => (
                Combination::new(signal, -noise, 1.0),
                Combination::new(noise, signal, 1.0),
            ),
        };
        Self { original, epsilon }
    }

    pub(crate) fn original(self, sample: f32, output: f32) -> f32 {
        self.original.apply(sample, output)
    }

    pub(crate) fn epsilon(self, sample: f32, output: f32) -> f32 {
        self.epsilon.apply(sample, output)
    }
}

/// Counts the steps of one run and refuses calls out of order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepCounter {
    next: usize,
    steps: usize,
}

impl StepCounter {
    pub(crate) fn new(steps: usize) -> Self {
        Self { next: 0, steps }
    }

    /// The step index that comes next.
    pub(crate) fn next(&self) -> usize {
        self.next
    }

    /// Lets the run begin at `first`.
    pub(crate) fn skip(&mut self, first: usize) -> Result<(), DiffusionError> {
        if first >= self.steps {
            return Err(DiffusionError::StepIndex {
                step_index: first,
                steps: self.steps,
                next: self.next,
            });
        }
        self.next = first;
        Ok(())
    }

    pub(crate) fn advance(&mut self, step_index: usize) -> Result<(), DiffusionError> {
        if step_index != self.next || step_index >= self.steps {
            return Err(DiffusionError::StepIndex {
                step_index,
                steps: self.steps,
                next: self.next,
            });
        }
        self.next += 1;
        Ok(())
    }
}

/// Refuses a model output whose shape is not the sample's.
pub(crate) fn refuse_shapes(
    model_output: &ArrayView4<'_, f32>,
    sample: &ArrayView4<'_, f32>,
) -> Result<(), DiffusionError> {
    refuse_shapes_of("model output", model_output, sample)
}

/// Refuses an array `what` whose shape is not the sample's.
pub(crate) fn refuse_shapes_of(
    what: &'static str,
    array: &ArrayView4<'_, f32>,
    sample: &ArrayView4<'_, f32>,
) -> Result<(), DiffusionError> {
    if array.dim() == sample.dim() {
        return Ok(());
    }
    Err(DiffusionError::Shape {
        what,
        found: array.shape().to_vec(),
        expected: sample.shape().to_vec(),
    })
}

/// A new array with `combine(left, right)` for each pair of elements of two arrays of one shape.
/// Plain slices: element-wise loops over them are turned into vector instructions.
pub(crate) fn map_pair(
    left: ArrayView4<'_, f32>,
    right: ArrayView4<'_, f32>,
    combine: impl Fn(f32, f32) -> f32,
) -> Array4<f32> {
    let shape = left.raw_dim();
    let (left, right) = (left.as_standard_layout(), right.as_standard_layout());
    let pairs = slice(&left).iter().zip(slice(&right));
    let values: Vec<f32> = pairs.map(|(&left, &right)| combine(left, right)).collect();
    Array4::from_shape_vec(shape, values).expect("both arrays have the shape")
}

/// As [`map_pair`], for three arrays.
pub(crate) fn map_triple(
    arrays: [ArrayView4<'_, f32>; 3],
    combine: impl Fn(f32, f32, f32) -> f32,
) -> Array4<f32> {
    let shape = arrays[0].raw_dim();
    let [first, second, third] = arrays.each_ref().map(|array| array.as_standard_layout());
    let triples = slice(&first).iter().zip(slice(&second)).zip(slice(&third));
    let values: Vec<f32> = triples
        .map(|((&first, &second), &third)| combine(first, second, third))
        .collect();
    Array4::from_shape_vec(shape, values).expect("all arrays have the shape")
}

fn slice<'a>(array: &'a CowArray<'_, f32, Ix4>) -> &'a [f32] {
    array.as_slice().expect("the array is in standard layout")
}

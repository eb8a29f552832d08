//! The schedulers, one per file, and the arithmetic that they share.

pub mod ddim;
pub mod ddim_inverse;
pub mod ddpm;
pub mod deis;
mod dpm_solver;
pub mod dpm_solver_multistep;
pub mod dpm_solver_sde;
pub mod dpm_solver_singlestep;
pub mod euler;
pub mod euler_ancestral;
pub mod flow_match_euler;
pub mod heun;
pub mod kdpm2;
pub mod kdpm2_ancestral;
pub mod lcm;
pub mod lms;
pub mod pndm;
mod prediction;
pub mod predictor_corrector;
pub mod probability_flow;
mod sigma_plan;
mod solver_plan;
mod solver_spread;
pub mod tcd;
pub mod unipc;

use ndarray::{Array4, ArrayView4, CowArray, Ix4};

pub(crate) use self::prediction::{Conversion, Correction, refuse_flow_prediction};
use crate::error::DiffusionError;

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

/// A new array with the weighted sum of arrays of one shape; terms of weight zero are left out, so
/// that they may hold anything. The sum is made block by block, which stays in the nearest cache.
pub(crate) fn weighted_sum(terms: &[(f64, ArrayView4<'_, f32>)]) -> Array4<f32> {
    /// Elements of one block: 8 KiB of the sum beside as many of a term.
    const BLOCK: usize = 2048;
    let shape = terms[0].1.raw_dim();
    let terms: Vec<(f32, CowArray<'_, f32, Ix4>)> = terms
        .iter()
        .filter(|(weight, _)| *weight != 0.0)
        .map(|(weight, array)| (*weight as f32, array.as_standard_layout()))
        .collect();
    let slices: Vec<(f32, &[f32])> = terms.iter().map(|(w, array)| (*w, slice(array))).collect();
    let Some(((first_weight, first), others)) = slices.split_first() else {
        return Array4::zeros(shape);
    };
    let mut sum: Vec<f32> = Vec::with_capacity(first.len());
    for start in (0..first.len()).step_by(BLOCK) {
        let block = start..(start + BLOCK).min(first.len());
        sum.extend(
            first[block.clone()]
                .iter()
                .map(|value| first_weight * value),
        );
        for (weight, term) in others {
            let pairs = sum[block.clone()].iter_mut().zip(&term[block.clone()]);
            pairs.for_each(|(sum, value)| *sum += weight * value);
        }
    }
    Array4::from_shape_vec(shape, sum).expect("all arrays have the shape")
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

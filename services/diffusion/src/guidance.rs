//! Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598, equation 6).
//!
//! Both branches of one image go through the model as one batch of two: row 0 is the
//! unconditional (or negative) branch, row 1 the conditional one.

use ndarray::{Array4, ArrayView4, Axis, concatenate};

use crate::error::DiffusionError;

/// Whether a guidance scale asks for the unconditional branch at all: one or less means that the
/// conditional prediction is used alone.
pub fn is_guided(guidance_scale: f32) -> bool {
    guidance_scale > 1.0
}

/// Doubles a sample of shape (1, c, h, w) to the batch of two of shape (2, c, h, w).
pub fn pair(sample: ArrayView4<'_, f32>) -> Array4<f32> {
    concatenate(Axis(0), &[sample, sample]).expect("two equal views always have matching shapes")
}

/// Folds the model's answer for a pair, shape (2, c, h, w), into one prediction of shape
/// (1, c, h, w): `unconditional + guidance_scale * (conditional - unconditional)`.
///
/// # Errors
/// [`DiffusionError::Shape`] when the batch is not two.
pub fn guide(
    pair_output: ArrayView4<'_, f32>,
    guidance_scale: f32,
) -> Result<Array4<f32>, DiffusionError> {
    if pair_output.dim().0 != 2 {
        let mut expected = pair_output.shape().to_vec();
        expected[0] = 2;
        return Err(DiffusionError::Shape {
            what: "output of the guided pair",
            found: pair_output.shape().to_vec(),
            expected,
        });
    }
    let (unconditional, conditional) = pair_output.split_at(Axis(0), 1);
    let mut guided = unconditional.to_owned();
    guided.zip_mut_with(&conditional, |value, &conditional| {
        *value += guidance_scale * (conditional - *value);
    });
    Ok(guided)
}

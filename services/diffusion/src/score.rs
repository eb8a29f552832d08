//! The score-based view of a noise-predicting model (Song et al. 2021, arXiv 2011.13456).
//!
//! A sample of the forward process is `x = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) epsilon` with
//! standard normal `epsilon`, so that the density of `x` given `x0` is normal, and the gradient of
//! its logarithm is
//!
//! `-(x - sqrt(alpha_bar) x0) / (1 - alpha_bar) = -epsilon / sqrt(1 - alpha_bar)`.
//!
//! The mean of this over all `x0` that may stand behind `x` is the score, the gradient of the
//! logarithm of the density of `x` itself (Vincent 2011, "A connection between score matching and
//! denoising autoencoders"); the mean of `epsilon` is what the network is trained to predict. So
//!
//! `score(x, t) = -noise_pred(x, t) / sqrt(1 - alpha_bar(t))`.
//!
//! With it the same network serves the two samplers of that paper: the probability-flow ODE
//! ([`crate::schedulers::probability_flow`]) and the predictor-corrector sampler
//! ([`crate::schedulers::predictor_corrector`]). Models that predict the sample or v are first
//! turned into noise predictors (Salimans and Ho 2022, arXiv 2202.00512, appendix D).

use ndarray::{Array4, ArrayView4};

/// The factor that turns predicted noise into the score at a cumulative product `alpha_cumprod`
/// below one.
pub fn score_factor(alpha_cumprod: f64) -> f64 {
    -1.0 / (1.0 - alpha_cumprod).sqrt()
}

/// The score of samples whose predicted noise has shape (batch, channels, height, width), at a
/// cumulative product `alpha_cumprod` below one.
pub fn score(noise_pred: ArrayView4<'_, f32>, alpha_cumprod: f64) -> Array4<f32> {
    let factor = score_factor(alpha_cumprod) as f32;
    noise_pred.mapv(|epsilon| factor * epsilon)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_of_standard_normal_data_is_minus_the_sample() {
        // Such data stays standard normal, and the best guess of its noise is noise * x.
        let alpha_cumprod = 0.3_f64;
        let sample = Array4::from_elem((1, 1, 1, 3), 0.7_f32);
        let noise_pred = &sample * (1.0 - alpha_cumprod).sqrt() as f32;
        for value in &score(noise_pred.view(), alpha_cumprod) {
            assert!((value + 0.7).abs() < 1e-6);
        }
    }
}

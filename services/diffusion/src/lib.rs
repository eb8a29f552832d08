//! Noise schedules, schedulers, the denoising loop, inversion and traces.

//! Time of drawing the noise of one image of shape (4, 64, 64) from every noise source:
//! `cargo run -p diffusion --example noise_times`. Each figure is the best of ROUNDS drawings.

use std::time::{Duration, Instant};

use diffusion::seed::{NoiseKind, noise_source};

const ROUNDS: usize = 200;

fn main() {
    for kind in NoiseKind::ALL {
        let mut source = noise_source(kind, &[1]);
        let mut best = Duration::MAX;
        for _ in 0..ROUNDS {
            let started = Instant::now();
            std::hint::black_box(source.normals((1, 4, 64, 64)));
            best = best.min(started.elapsed());
        }
        println!("{:12} {:7.1} us", kind.name(), best.as_secs_f64() * 1e6);
    }
}

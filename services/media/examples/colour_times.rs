//! Prints what the colour profile of each picture of the command line costs: the time of decoding without
//! and with it, taken in turns, the medians in milliseconds, and their ratio.

use std::time::Instant;

/// Turns of each; the median of so many is steady on a busy machine.
const TURNS: usize = 9;

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let limits = media::Limits::default();
    for path in std::env::args_os().skip(1) {
        let file = std::fs::read(&path)?;
        let (mut without, mut with) = (Vec::new(), Vec::new());
        let mut profile = None;
        for _ in 0..TURNS {
            let started = Instant::now();
            let stored = media::decode_stored(&file, &limits)?;
            let decoded = started.elapsed();
            let shown = stored.into_shown();
            without.push(decoded.as_secs_f64() * 1e3);
            with.push(started.elapsed().as_secs_f64() * 1e3);
            profile = shown.colour_profile;
        }
        let (without, with) = (median(without), median(with));
        let treatment = profile.map(|profile| profile.treatment);
        println!(
            "{}: {without:.1} ms, {with:.1} ms with its profile, {:.3} times, {treatment:?}",
            path.display(),
            with / without
        );
    }
    Ok(())
}

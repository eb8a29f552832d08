//! Writes a photograph of 4000 × 3000 pixels for the benchmark: a sample photograph, mirrored at its edges again and
//! again, so that every part of it has the texture of the original.
//!
//! ```text
//! large_photograph SAMPLE OUTPUT
//! ```

use media::Limits;

/// Width and height: 12 megapixels.
const SIDES: (u32, u32) = (4000, 3000);

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [sample, output] = arguments.as_slice() else {
        anyhow::bail!("usage: large_photograph SAMPLE OUTPUT");
    };
    let small = media::decode(&std::fs::read(sample)?, &Limits::default())?;
    let (width, height) = SIDES;
    let mut rgb = Vec::with_capacity(width as usize * height as usize * 3);
    for y in 0..height {
        for x in 0..width {
            let (from_x, from_y) = (mirrored(x, small.width), mirrored(y, small.height));
            let place = (from_y as usize * small.width as usize + from_x as usize) * 3;
            rgb.extend_from_slice(&small.rgb[place..place + 3]);
        }
    }
    std::fs::write(output, media::encode_png(width, height, &rgb, &[])?)?;
    Ok(())
}

/// The place in the original: forwards, backwards, forwards, and so on.
fn mirrored(place: u32, length: u32) -> u32 {
    let within = place % (2 * length);
    within.min(2 * length - 1 - within)
}

//! The synthetic picture of the golden vectors, as `make_vectors.py` draws it.

/// Width in pixels.
pub const WIDTH: usize = 272;
/// Height in pixels.
pub const HEIGHT: usize = 200;

/// Ramps, hashed noise whose strength grows to the right, a block grid below, a white corner.
pub fn synthetic_picture() -> Vec<u8> {
    let mut rgb = Vec::with_capacity(WIDTH * HEIGHT * 3);
    for y in 0..HEIGHT as u32 {
        for x in 0..WIDTH as u32 {
            for c in 0..3_u32 {
                let hashed = x
                    .wrapping_mul(374_761_393)
                    .wrapping_add(y.wrapping_mul(668_265_263))
                    .wrapping_add(c.wrapping_mul(2_246_822_519));
                let hashed = (hashed ^ (hashed >> 13)).wrapping_mul(1_274_126_177);
                let noise = (hashed ^ (hashed >> 16)) % 32;
                let mut value = 60 + x / 4 + y / 5 + 8 * c + noise * x / WIDTH as u32;
                if y > 120 && (x / 8 + y / 8) % 2 == 0 {
                    value += 9;
                }
                if x < 90 && y < 90 {
                    value = 255;
                }
                rgb.push(u8::try_from(value.min(255)).expect("the fixture is sound"));
            }
        }
    }
    rgb
}

/// Width, height and pixels of `times` by `times` copies side by side.
#[allow(
    dead_code,
    reason = "not every test that includes this file repeats the picture"
)]
pub fn repeated(times: usize) -> (u32, u32, Vec<u8>) {
    let one = synthetic_picture();
    let rgb = (0..HEIGHT * times)
        .flat_map(|row| {
            let row = row % HEIGHT;
            one[row * WIDTH * 3..(row + 1) * WIDTH * 3].repeat(times)
        })
        .collect();
    ((WIDTH * times) as u32, (HEIGHT * times) as u32, rgb)
}

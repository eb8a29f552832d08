//! Latents as Flux reads them: patches of two by two, one token each.

use ndarray::{Array2, Array3, Array4, ArrayD, ArrayView4};

/// Side of a patch.
const PATCH: usize = 2;

/// Latents of shape (rows, channels, height, width) to tokens of shape (rows, height / 2 * width /
/// 2, channels * 4); the values of a token go channel by channel.
pub(crate) fn pack(latents: ArrayView4<'_, f32>) -> Array3<f32> {
    let (rows, channels, height, width) = latents.dim();
    let across = width / PATCH;
    let shape = (rows, (height / PATCH) * across, channels * PATCH * PATCH);
    Array3::from_shape_fn(shape, |(row, token, value)| {
        let (channel, within) = (value / (PATCH * PATCH), value % (PATCH * PATCH));
        let y = token / across * PATCH + within / PATCH;
        let x = token % across * PATCH + within % PATCH;
        latents[[row, channel, y, x]]
    })
}

/// The way back, to latents of `shape`. The error says what was found.
pub(crate) fn unpack(
    tokens: ArrayD<f32>,
    shape: (usize, usize, usize, usize),
) -> Result<Array4<f32>, String> {
    let found = format!("of shape {:?}", tokens.shape());
    let (rows, channels, height, width) = shape;
    let across = width / PATCH;
    let packed = [rows, (height / PATCH) * across, channels * PATCH * PATCH];
    if tokens.shape() != packed {
        return Err(format!("{found} in place of {packed:?}"));
    }
    Ok(Array4::from_shape_fn(shape, |(row, channel, y, x)| {
        let token = y / PATCH * across + x / PATCH;
        let value = channel * PATCH * PATCH + y % PATCH * PATCH + x % PATCH;
        tokens[[row, token, value]]
    }))
}

/// Row and column of each patch, shape (tokens, 3), with a zero in front.
pub(crate) fn places(height: usize, width: usize) -> Array2<f32> {
    let across = width / PATCH;
    Array2::from_shape_fn(((height / PATCH) * across, 3), |(token, axis)| match axis {
        1 => (token / across) as f32,
        2 => (token % across) as f32,
        _ => 0.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_latents_come_back() {
        let shape = (2, 3, 4, 6);
        let latents = Array4::from_shape_fn(shape, |(row, channel, y, x)| {
            (((row * 3 + channel) * 4 + y) * 6 + x) as f32
        });
        let packed = pack(latents.view());
        assert_eq!(packed.dim(), (2, 6, 12));
        // The second token of the first row: the patch at the top, third and fourth column.
        assert_eq!(packed[[0, 1, 0]], 2.0);
        assert_eq!(packed[[0, 1, 3]], 9.0);
        assert_eq!(unpack(packed.into_dyn(), shape).unwrap(), latents);
        assert_eq!(places(4, 6).row(4).to_vec(), [0.0, 1.0, 1.0]);
    }
}

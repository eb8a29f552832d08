//! Latents in NumPy's `.npy` format: `float32`, four dimensions (batch, channels, height, width).

use std::path::Path;

use ndarray::{Array4, ArrayView4};
use ndarray_npy::{ViewNpyExt, WriteNpyExt};

use super::failure::Failure;

/// 512 MiB: 2,048 latents of 4×128×128, far beyond any batch that the limits allow.
const NPY_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Reads latents; they are used as they are, unscaled.
pub fn read(path: &Path) -> Result<Array4<f32>, Failure> {
    let refused = |cause: &dyn std::fmt::Display| {
        Failure::usage(format!("latents file {}: {cause}", path.display()))
    };
    let size = std::fs::metadata(path)
        .map_err(|error| refused(&error))?
        .len();
    if size > NPY_BYTES_MAX {
        return Err(refused(&format!(
            "has {size} bytes, the limit is {NPY_BYTES_MAX}"
        )));
    }
    let bytes = std::fs::read(path).map_err(|error| refused(&error))?;
    // A view compares the header's shape with the bytes that are there before it allocates.
    let latents = ArrayView4::<f32>::view_npy(&bytes).map_err(|error| {
        refused(&format!(
            "{error} (wanted: float32, shape batch, channels, height, width)"
        ))
    })?;
    let latents = latents.to_owned();
    if latents.is_empty() {
        return Err(refused(&"holds no values"));
    }
    if latents.iter().any(|value| !value.is_finite()) {
        return Err(refused(&"holds values that are not finite"));
    }
    Ok(latents)
}

/// Writes latents.
pub fn write(path: &Path, latents: &Array4<f32>) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    latents.write_npy(&mut bytes).map_err(Failure::work)?;
    super::write_file(path, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latents_survive_a_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("latents.npy");
        let latents = Array4::from_shape_fn((2, 4, 3, 3), |(n, c, y, x)| {
            (n * 1000 + c * 100 + y * 10 + x) as f32 - 7.5
        });
        write(&path, &latents).unwrap();
        assert_eq!(read(&path).unwrap(), latents);
    }

    #[test]
    fn latents_of_another_type_or_shape_are_refused_with_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wrong.npy");
        let flat = ndarray::Array1::<f64>::zeros(4);
        let file = std::fs::File::create(&path).unwrap();
        flat.write_npy(file).unwrap();
        let failure = read(&path).unwrap_err();
        assert!(
            failure.message().contains("wanted: float32"),
            "{}",
            failure.message()
        );
    }

    #[test]
    fn latents_that_are_not_finite_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nan.npy");
        let mut latents = Array4::<f32>::zeros((1, 1, 2, 2));
        latents[[0, 0, 1, 1]] = f32::NAN;
        write(&path, &latents).unwrap();
        let failure = read(&path).unwrap_err();
        assert!(
            failure.message().contains("not finite"),
            "{}",
            failure.message()
        );
    }

    #[test]
    fn a_file_that_is_no_npy_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("garbage.npy");
        std::fs::write(&path, b"not an array").unwrap();
        assert!(read(&path).is_err());
    }
}

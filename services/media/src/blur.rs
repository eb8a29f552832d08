//! Softening by a Gaussian, exactly for small deviations and by box filters for large ones.

/// Box filters that stand for one Gaussian.
const BOXES: usize = 3;

/// Numbers in rows from the top, one for each pixel.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plane {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) values: Vec<f32>,
}

impl Plane {
    /// Convolved with a Gaussian of `deviation` pixels that is cut off after `reach` pixels on each side; beyond the
    /// edge the plane is reflected, the outermost pixel not repeated.
    pub(crate) fn blurred(&self, deviation: f32, reach: usize) -> Self {
        let kernel = gaussian(deviation, reach);
        let along_rows = |plane: &Self| {
            let mut out = plane.clone();
            for (row, blurred) in plane
                .values
                .chunks_exact(plane.width)
                .zip(out.values.chunks_exact_mut(plane.width))
            {
                convolve(row, &kernel, blurred);
            }
            out
        };
        along_rows(&along_rows(self).transposed()).transposed()
    }

    /// Nearly convolved with a Gaussian of any deviation, in time that does not grow with it: three extended box
    /// filters of its variance (Gwosdek et al. 2011, "Theoretical foundations of Gaussian convolution by extended box
    /// filtering", equations 17 and 18). Beyond the edge the outermost pixel goes on.
    pub(crate) fn blurred_by_boxes(&self, deviation: f32) -> Self {
        if deviation <= 0.0 {
            return self.clone();
        }
        let filter = BoxFilter::of_variance(f64::from(deviation).powi(2) / BOXES as f64);
        let along_rows = |mut plane: Self| {
            let mut scratch = vec![0.0; plane.width];
            for row in plane.values.chunks_exact_mut(plane.width) {
                for _ in 0..BOXES {
                    filter.apply(row, &mut scratch);
                    row.copy_from_slice(&scratch);
                }
            }
            plane
        };
        along_rows(along_rows(self.clone()).transposed()).transposed()
    }

    fn transposed(&self) -> Self {
        let mut values = Vec::with_capacity(self.values.len());
        for x in 0..self.width {
            values.extend((0..self.height).map(|y| self.values[y * self.width + x]));
        }
        Self {
            width: self.height,
            height: self.width,
            values,
        }
    }
}

/// Weights of the pixels from `-reach` to `reach`, adding up to one.
fn gaussian(deviation: f32, reach: usize) -> Vec<f32> {
    let weight = |at: usize| {
        let distance = (at as f32 - reach as f32) / deviation;
        (-0.5 * distance * distance).exp()
    };
    let weights: Vec<f32> = (0..=2 * reach).map(weight).collect();
    let total: f32 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

fn convolve(row: &[f32], kernel: &[f32], out: &mut [f32]) {
    let reach = kernel.len() / 2;
    let padded: Vec<f32> = (0..row.len() + 2 * reach)
        .map(|at| row[reflected(at as i64 - reach as i64, row.len())])
        .collect();
    for (value, window) in out.iter_mut().zip(padded.windows(kernel.len())) {
        *value = window.iter().zip(kernel).map(|(a, b)| a * b).sum();
    }
}

/// The pixel that stands at a place outside: the line is reflected about the centres of its ends.
fn reflected(at: i64, length: usize) -> usize {
    let last = length as i64 - 1;
    if last == 0 {
        return 0;
    }
    let place = at.rem_euclid(2 * last);
    usize::try_from(place.min(2 * last - place)).expect("a place inside the line")
}

/// A mean over `2 * reach + 1` pixels and a part of the next one on each side.
struct BoxFilter {
    reach: usize,
    part: f64,
}

impl BoxFilter {
    fn of_variance(variance: f64) -> Self {
        let width = (12.0 * variance + 1.0).sqrt();
        let reach = ((width - 1.0) / 2.0).floor();
        let part = (2.0 * reach + 1.0) * (reach * (reach + 1.0) - 3.0 * variance)
            / (6.0 * (variance - (reach + 1.0).powi(2)));
        Self {
            reach: reach as usize,
            part,
        }
    }

    fn apply(&self, row: &[f32], out: &mut [f32]) {
        let last = row.len() as i64 - 1;
        let at = |place: i64| {
            let place = usize::try_from(place.clamp(0, last)).expect("a place inside the row");
            f64::from(row[place])
        };
        let reach = self.reach as i64;
        let size = 2.0 * self.reach as f64 + 1.0 + 2.0 * self.part;
        let mut sum: f64 = (-reach..=reach).map(at).sum();
        for (place, value) in (0_i64..).zip(out.iter_mut()) {
            let edges = at(place - reach - 1) + at(place + reach + 1);
            *value = ((sum + self.part * edges) / size) as f32;
            sum += at(place + reach + 1) - at(place - reach);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(width: usize, height: usize) -> Plane {
        let mut values = vec![0.0; width * height];
        values[height / 2 * width + width / 2] = 1.0;
        Plane {
            width,
            height,
            values,
        }
    }

    fn variance_along_rows(plane: &Plane) -> f64 {
        let centre = (plane.width / 2) as f64;
        let places = plane.values.iter().enumerate();
        places
            .map(|(at, &value)| ((at % plane.width) as f64 - centre).powi(2) * f64::from(value))
            .sum()
    }

    #[test]
    fn both_ways_keep_the_sum_and_have_the_variance_of_their_gaussian() {
        let exact = dot(41, 31).blurred(3.0, 14);
        let boxes = dot(41, 31).blurred_by_boxes(3.0);
        for plane in [&exact, &boxes] {
            let sum: f32 = plane.values.iter().sum();
            assert!((sum - 1.0).abs() < 1e-4, "{sum}");
            let variance = variance_along_rows(plane);
            assert!((variance - 9.0).abs() < 0.05, "{variance}");
        }
        let apart = exact.values.iter().zip(&boxes.values);
        let most = apart.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // Three boxes are flatter at the top, by a tenth of the peak at this deviation.
        let peak = exact.values.iter().copied().fold(0.0, f32::max);
        assert!(most < 0.11 * peak, "{most} of {peak}");
    }

    #[test]
    fn a_flat_plane_stays_flat_up_to_its_edges_even_under_a_filter_wider_than_itself() {
        let flat = Plane {
            width: 5,
            height: 3,
            values: vec![7.0; 15],
        };
        for blurred in [flat.blurred(4.0, 10), flat.blurred_by_boxes(256.0)] {
            assert!(
                blurred
                    .values
                    .iter()
                    .all(|value| (value - 7.0).abs() < 1e-3)
            );
        }
        assert_eq!(reflected(-2, 5), 2);
        assert_eq!(reflected(6, 5), 2);
        assert_eq!(reflected(9, 1), 0);
    }
}

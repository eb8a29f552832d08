//! Which side of a stored picture is up (EXIF tag 0x0112; CIPA DC-008, 4.6.4).

use serde::{Deserialize, Serialize};

use crate::picture::Picture;

/// How a stored picture is to be turned for people, as cameras write it. Pictures are decoded,
/// digested and examined as they are stored, since turning would swap the rows and columns that
/// compression left its traces in; they are shown upright.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orientation(u8);

impl Default for Orientation {
    fn default() -> Self {
        Self(1)
    }
}

impl Orientation {
    /// The orientation with this EXIF number; none outside 1 to 8.
    #[must_use]
    pub fn from_exif(number: u16) -> Option<Self> {
        match number {
            1..=8 => u8::try_from(number).ok().map(Self),
            _ => None,
        }
    }

    /// The EXIF number, 1 to 8; 1 is upright.
    #[must_use]
    pub fn exif(self) -> u8 {
        self.0
    }

    /// Whether the stored picture is upright.
    #[must_use]
    pub fn is_upright(self) -> bool {
        self.0 == 1
    }

    /// Whether rows become columns.
    #[must_use]
    pub fn swaps_sides(self) -> bool {
        self.0 >= 5
    }

    /// Width and height after turning.
    #[must_use]
    pub fn upright_size(self, width: u32, height: u32) -> (u32, u32) {
        if self.swaps_sides() {
            (height, width)
        } else {
            (width, height)
        }
    }

    /// Where the left upper corner of a square of a stored picture comes to lie. The square must
    /// lie inside the picture.
    #[must_use]
    pub fn upright_square(self, (x, y): (u32, u32), side: u32, size: (u32, u32)) -> (u32, u32) {
        let from_right = size.0.saturating_sub(side).saturating_sub(x);
        let from_below = size.1.saturating_sub(side).saturating_sub(y);
        match self.0 {
            2 => (from_right, y),
            3 => (from_right, from_below),
            4 => (x, from_below),
            5 => (y, x),
            6 => (from_below, x),
            7 => (from_below, from_right),
            8 => (y, from_right),
            _ => (x, y),
        }
    }
}

impl Picture {
    /// The picture turned for people.
    #[must_use]
    pub fn upright(self, orientation: Orientation) -> Self {
        if orientation.is_upright() {
            return self;
        }
        let size = (self.width(), self.height());
        let (width, height) = orientation.upright_size(size.0, size.1);
        let mut rgb = vec![0; self.rgb().len()];
        for (at, pixel) in self.rgb().chunks_exact(3).enumerate() {
            let (x, y) = (at % size.0 as usize, at / size.0 as usize);
            let place = (x as u32, y as u32);
            let (x, y) = orientation.upright_square(place, 1, size);
            let to = (y as usize * width as usize + x as usize) * 3;
            rgb[to..to + 3].copy_from_slice(pixel);
        }
        Self::new(width, height, rgb).expect("turning keeps the number of pixels")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three columns, two rows, numbered along the rows.
    fn numbered() -> Picture {
        let rgb = (0..6).flat_map(|value| [value; 3]).collect();
        Picture::new(3, 2, rgb).unwrap()
    }

    #[test]
    fn every_orientation_of_a_camera_is_turned_as_its_definition_says() {
        // Rows of the upright picture, from the figure of the standard.
        let expected: [&[&[u8]]; 8] = [
            &[&[0, 1, 2], &[3, 4, 5]],
            &[&[2, 1, 0], &[5, 4, 3]],
            &[&[5, 4, 3], &[2, 1, 0]],
            &[&[3, 4, 5], &[0, 1, 2]],
            &[&[0, 3], &[1, 4], &[2, 5]],
            &[&[3, 0], &[4, 1], &[5, 2]],
            &[&[5, 2], &[4, 1], &[3, 0]],
            &[&[2, 5], &[1, 4], &[0, 3]],
        ];
        for (number, rows) in (1..).zip(expected) {
            let upright = numbered().upright(Orientation::from_exif(number).unwrap());
            assert_eq!(upright.width() as usize, rows[0].len(), "{number}");
            let values: Vec<u8> = upright.rgb().iter().copied().step_by(3).collect();
            assert_eq!(values, rows.concat(), "{number}");
        }
    }

    #[test]
    fn a_square_goes_where_its_pixels_go() {
        let size = (30, 20);
        for number in 1..=8 {
            let orientation = Orientation::from_exif(number).unwrap();
            let mut rgb = vec![0; 30 * 20 * 3];
            for (x, y) in (0..4).flat_map(|x| (0..4).map(move |y| (x + 5, y + 9))) {
                rgb[(y * 30 + x) * 3] = 255;
            }
            let picture = Picture::new(30, 20, rgb).unwrap().upright(orientation);
            let first = picture
                .rgb()
                .iter()
                .step_by(3)
                .position(|value| *value == 255);
            let first = first.unwrap() as u32;
            let place = (first % picture.width(), first / picture.width());
            assert_eq!(
                orientation.upright_square((5, 9), 4, size),
                place,
                "{number}"
            );
        }
    }

    #[test]
    fn numbers_outside_the_definition_mean_nothing() {
        assert_eq!(Orientation::from_exif(0), None);
        assert_eq!(Orientation::from_exif(9), None);
    }
}

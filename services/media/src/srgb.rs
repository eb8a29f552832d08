//! Colours to sRGB by a profile.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use moxcms::{CmsError, ColorProfile, Layout, ParsingOptions, TransformExecutor, TransformOptions};

use crate::colour_profile::{ProfileColours, ProfileTreatment};

/// Pixels that are converted at a time: samples, and colours of twice their width, stay in a core's cache.
const PIXELS_AT_ONCE: usize = 4_096;
/// Steps between the colours that a profile is tried on, along each side of the cube.
const TRIAL_STEP: usize = 17;
/// A profile that moves no colour of the trial by more than this, of 255, is sRGB: rounding moves some by one, and so
/// do the published profiles of sRGB, whose curves are tables.
const SRGB_DISTANCE_MAX: u8 = 1;
/// Whatever a real device shows or prints, its lightest and its darkest colour lie further apart than this, of 255.
const SPREAD_MIN: u8 = 32;

/// Samples of a picture, pixel by pixel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Samples<'a> {
    pub(crate) colours: ProfileColours,
    /// Samples of a pixel, which begin with its colours; what lies behind them is left out.
    pub(crate) per_pixel: usize,
    pub(crate) values: Values<'a>,
}

/// Samples of one width.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Values<'a> {
    Eight(&'a [u8]),
    Sixteen(&'a [u16]),
}

/// RGB8 of the samples, or why there is none: a profile that is sRGB is no reason to touch them.
///
/// `profile` is one that `colour_profile` cut down. A library that gives up on it, in whatever way, finds it broken.
pub(crate) fn converted(profile: &[u8], samples: Samples<'_>) -> Result<Vec<u8>, ProfileTreatment> {
    let convert = AssertUnwindSafe(|| Source::new(profile, samples.colours)?.convert(samples));
    catch_unwind(convert).unwrap_or(Err(ProfileTreatment::Broken))
}

/// A profile to convert from.
struct Source {
    profile: ColorProfile,
    srgb: ColorProfile,
    layout: Layout,
    options: TransformOptions,
}

impl Source {
    fn new(profile: &[u8], colours: ProfileColours) -> Result<Self, ProfileTreatment> {
        let options = ParsingOptions {
            // It has been checked against the limit of its own; the library wants to be above it.
            max_profile_size: usize::MAX,
            ..ParsingOptions::default()
        };
        let profile = ColorProfile::new_from_slice_with_options(profile, options)
            .map_err(|error| treatment(&error))?;
        // Tags that are there and say nothing.
        let has_table = profile.lut_a_to_b_perceptual.is_some();
        if !has_table && profile.gray_trc.is_none() && !profile.is_matrix_shaper() {
            return Err(ProfileTreatment::Broken);
        }
        Ok(Self {
            profile,
            srgb: ColorProfile::new_srgb(),
            layout: match colours {
                ProfileColours::Rgb => Layout::Rgb,
                ProfileColours::Grey => Layout::Gray,
                ProfileColours::Cmyk => Layout::Rgba,
            },
            options: TransformOptions {
                allow_use_cicp_transfer: false,
                ..TransformOptions::default()
            },
        })
    }

    fn convert(&self, samples: Samples<'_>) -> Result<Vec<u8>, ProfileTreatment> {
        let eight =
            self.profile
                .create_transform_8bit(self.layout, &self.srgb, Layout::Rgb, self.options);
        let eight = eight.map_err(|error| treatment(&error))?;
        try_out(&*eight, samples.colours)?;
        match samples.values {
            Values::Eight(values) => run(&*eight, self.layout, (values, samples.per_pixel), |v| v),
            Values::Sixteen(values) => {
                let sixteen: Arc<_> = self
                    .profile
                    .create_transform_16bit(self.layout, &self.srgb, Layout::Rgb, self.options)
                    .map_err(|error| treatment(&error))?;
                // Nearest of 255 steps, as the picture's own samples are reduced.
                let eighth = |value: u16| ((u32::from(value) + 128) / 257) as u8;
                run(&*sixteen, self.layout, (values, samples.per_pixel), eighth)
            }
        }
    }
}

/// Converts some of all colours and looks at what comes out.
fn try_out(
    transform: &dyn TransformExecutor<u8>,
    colours: ProfileColours,
) -> Result<(), ProfileTreatment> {
    let level = |step: usize| u8::try_from(step * TRIAL_STEP).expect("the last step is 255");
    let steps = 255 / TRIAL_STEP + 1;
    let trial: Vec<u8> = match colours {
        ProfileColours::Grey => (0..=255).collect(),
        ProfileColours::Rgb => (0..steps.pow(3))
            .flat_map(|n| [n / steps.pow(2), n / steps % steps, n % steps].map(level))
            .collect(),
        // Equal parts of all inks, from none to all.
        ProfileColours::Cmyk => (0..=255).flat_map(|ink| [ink; 4]).collect(),
    };
    let channels = match colours {
        ProfileColours::Grey => 1,
        ProfileColours::Rgb => 3,
        ProfileColours::Cmyk => 4,
    };
    let mut shown = vec![0; trial.len() / channels * 3];
    transform
        .transform(&trial, &mut shown)
        .map_err(|error| treatment(&error))?;
    let (darkest, lightest) = (shown.iter().min(), shown.iter().max());
    let spread = darkest
        .zip(lightest)
        .map(|(darkest, lightest)| lightest - darkest);
    if spread.is_none_or(|spread| spread < SPREAD_MIN) {
        return Err(ProfileTreatment::Broken);
    }
    let moved = |(&from, &to): (&u8, &u8)| from.abs_diff(to) > SRGB_DISTANCE_MAX;
    let is_srgb = match colours {
        ProfileColours::Cmyk => false,
        ProfileColours::Rgb => !trial.iter().zip(&shown).any(moved),
        ProfileColours::Grey => {
            let thrice = trial.iter().flat_map(|grey| [grey; 3]);
            !thrice.zip(&shown).any(moved)
        }
    };
    if is_srgb {
        return Err(ProfileTreatment::AlreadySrgb);
    }
    Ok(())
}

/// Converts all pixels, a few at a time.
fn run<V: Copy + Default>(
    transform: &dyn TransformExecutor<V>,
    layout: Layout,
    (values, per_pixel): (&[V], usize),
    eighth: impl Fn(V) -> u8,
) -> Result<Vec<u8>, ProfileTreatment> {
    let channels = layout.channels();
    let mut rgb = Vec::with_capacity(values.len() / per_pixel * 3);
    let mut colours = vec![V::default(); PIXELS_AT_ONCE * channels];
    let mut shown = [V::default(); PIXELS_AT_ONCE * 3];
    for part in values.chunks(PIXELS_AT_ONCE * per_pixel) {
        let pixels = part.len() / per_pixel;
        let from = if channels == per_pixel {
            part
        } else {
            let gathered = colours.chunks_exact_mut(channels);
            for (colour, pixel) in gathered.zip(part.chunks_exact(per_pixel)) {
                colour.copy_from_slice(&pixel[..channels]);
            }
            &colours[..pixels * channels]
        };
        let to = &mut shown[..pixels * 3];
        transform
            .transform(from, to)
            .map_err(|error| treatment(&error))?;
        rgb.extend(to.iter().map(|value| eighth(*value)));
    }
    Ok(rgb)
}

fn treatment(error: &CmsError) -> ProfileTreatment {
    match error {
        CmsError::UnsupportedProfileConnection
        | CmsError::UnsupportedChannelConfiguration
        | CmsError::UnsupportedLutRenderingIntent(_) => ProfileTreatment::Unsupported,
        _ => ProfileTreatment::Broken,
    }
}

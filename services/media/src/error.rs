//! What can be wrong with a file.

use crate::format::Format;

/// Why bytes were refused. No variant carries any of the refused bytes except short,
/// printable names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MediaError {
    /// The file is empty.
    #[error("the file is empty")]
    Empty,
    /// More bytes than `Limits::bytes_max`.
    #[error("the file has {bytes} bytes, over the limit bytes_max of {bytes_max}")]
    TooManyBytes {
        /// Size of the file.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// A side over `Limits::side_max`, or of length zero.
    #[error(
        "the picture is {width}x{height}, a side is zero or over the limit side_max of {side_max}"
    )]
    Side {
        /// Declared width in pixels.
        width: u32,
        /// Declared height in pixels.
        height: u32,
        /// The limit.
        side_max: u32,
    },
    /// More pixels than `Limits::pixels_max`.
    #[error("the picture has {pixels} pixels, over the limit pixels_max of {pixels_max}")]
    TooManyPixels {
        /// Declared width times declared height.
        pixels: u64,
        /// The limit.
        pixels_max: u64,
    },
    /// More frames than `Limits::frames_max`: animations are not scored.
    #[error(
        "the picture is an animation of {frames} frames, over the limit frames_max of {frames_max}"
    )]
    TooManyFrames {
        /// Declared or counted frames.
        frames: u32,
        /// The limit.
        frames_max: u32,
    },
    /// The decoder wanted more memory than `Limits::decoder_alloc_bytes_max`.
    #[error(
        "decoding needs more memory than the limit decoder_alloc_bytes_max of {decoder_alloc_bytes_max}"
    )]
    DecoderMemory {
        /// The limit.
        decoder_alloc_bytes_max: u64,
    },
    /// The first bytes belong to no picture format that is known here.
    #[error("unknown format: the file is no png, jpeg or webp picture")]
    UnknownFormat,
    /// A known picture format that is not decoded.
    #[error("{name} pictures are not supported, only png, jpeg and webp")]
    UnsupportedFormat {
        /// Name of the recognised format.
        name: &'static str,
    },
    /// The name or media type says one format, the bytes another.
    #[error("the file is labelled {label} but its bytes are {found}")]
    Mislabelled {
        /// What the label says.
        label: Format,
        /// What the bytes say.
        found: Format,
    },
    /// The file ends before its container does.
    #[error("the {format} file is truncated: {what}")]
    Truncated {
        /// Format of the file.
        format: Format,
        /// What is missing.
        what: &'static str,
    },
    /// The container breaks its format's rules.
    #[error("the {format} file is malformed: {what}")]
    Malformed {
        /// Format of the file.
        format: Format,
        /// Which rule is broken.
        what: &'static str,
    },
    /// The pixel decoder refused the data.
    #[error("the {format} picture cannot be decoded: {cause}")]
    Undecodable {
        /// Format of the file.
        format: Format,
        /// The decoder's own words, shortened and printable.
        cause: String,
    },
    /// A picture to encode whose buffer does not match its size.
    #[error("a {width}x{height} picture needs {expected} bytes of rgb, got {got}")]
    PixelCount {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Bytes that the size asks for.
        expected: u64,
        /// Bytes that were given.
        got: u64,
    },
    /// A mask and the picture that it belongs to have different sizes.
    #[error("the mask is {}x{}, the picture {}x{}: they must have one size", mask.0, mask.1, picture.0, picture.1)]
    MaskSize {
        /// Width and height of the picture.
        picture: (u32, u32),
        /// Width and height of the mask.
        mask: (u32, u32),
    },
    /// A mask under which nothing is painted.
    #[error("the mask is blank: nothing would be painted")]
    MaskBlank,
    /// The PNG encoder refused (a keyword out of bounds, for example).
    #[error("the picture cannot be encoded: {cause}")]
    Encode {
        /// The encoder's own words.
        cause: String,
    },
}

impl MediaError {
    /// A stable kebab-case word for this refusal, for scripts and for crossing process borders.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "empty-file",
            Self::TooManyBytes { .. } => "too-many-bytes",
            Self::Side { .. } => "side-out-of-bounds",
            Self::TooManyPixels { .. } => "too-many-pixels",
            Self::TooManyFrames { .. } => "animated",
            Self::DecoderMemory { .. } => "decoder-memory",
            Self::UnknownFormat => "unknown-format",
            Self::UnsupportedFormat { .. } => "unsupported-format",
            Self::Mislabelled { .. } => "mislabelled",
            Self::Truncated { .. } => "truncated",
            Self::Malformed { .. } => "malformed",
            Self::Undecodable { .. } => "undecodable",
            Self::PixelCount { .. } => "pixel-count",
            Self::MaskSize { .. } => "mask-size",
            Self::MaskBlank => "mask-blank",
            Self::Encode { .. } => "not-encodable",
        }
    }
}

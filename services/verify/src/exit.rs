//! Exit codes, which scripts rely on.

/// Everything that was asked for was checked and holds.
pub const HOLDS: u8 = 0;
/// Something does not hold, or was not checked without that being asked for.
pub const DOES_NOT_HOLD: u8 = 1;
/// The arguments make no sense or a file cannot be read. clap uses the same code.
pub const UNREADABLE: u8 = 2;

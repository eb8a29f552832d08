//! Checks bundles, checkpoints and ledgers offline, without trusting the service.

fn main() {}

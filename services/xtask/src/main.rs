//! Developers' commands: native parts, demonstration, tests, benchmarks, fixtures.

fn main() {}

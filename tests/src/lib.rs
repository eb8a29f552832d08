//! What the tests share: the rules of the house, and starting the service for a test.

pub mod house;
pub mod programs;

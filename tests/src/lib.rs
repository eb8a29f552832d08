//! What the tests share: the rules of the house, the programs, and starting the service for a test.

pub mod client;
pub mod house;
pub mod programs;
pub mod python;
pub mod service;

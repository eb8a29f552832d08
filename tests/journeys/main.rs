//! The three journeys over HTTP, on the real service with its own database: generate and sign, score, audit; and what
//! must be refused on the way.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod access;
mod audit;
mod batches;
mod cases;
mod columns;
mod credentials;
mod embedded;
mod generate;
mod jobs;
mod keys;
mod log;
mod openai;
mod pages;
mod refusals;
mod score;
mod sdapi;
mod search;
mod signer;
mod time_stamps;
mod watermark;
mod witness;

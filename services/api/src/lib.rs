//! The Retrace service: HTTP, pages, workers, configuration, start-up and the command line.
//!
//! [`startup`] opens everything in order, [`routes`] translates HTTP to the journeys of
//! [`work`], [`problem`] translates errors to answers. Untrusted bytes go through [`sandbox`].

pub mod access;
pub mod checkpoint_stamps;
pub mod config;
pub mod cosigning;
pub mod credential_keys;
pub mod engine;
pub mod health;
mod images;
mod kept_uploads;
pub mod keys;
pub mod metrics;
pub mod native;
mod pages;
pub mod problem;
mod request_id;
pub mod routes;
pub mod runs;
pub mod sandbox;
pub mod signer;
pub mod startup;
pub mod state;
pub mod time_stamps;
mod turns;
pub mod watermarking;
pub mod witness;
pub mod work;

pub use images::ImageStore;
pub use kept_uploads::{KeptUploads, UploadName};
pub use turns::{NoTurn, Turn, Turns};

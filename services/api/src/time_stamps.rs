//! Asking a time-stamping authority over HTTP (RFC 3161, section 3.4).
//!
//! An authority that fails is left alone for a while, so that its failing costs one image its time-out and
//! not every image.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use credentials::{TIME_STAMP_BYTES_MAX, TimeStampAuthority};
use ureq::Agent;

use crate::config::TimeStampOptions;

const QUERY_TYPE: &str = "application/timestamp-query";
pub(crate) const REPLY_TYPE: &str = "application/timestamp-reply";

/// Stamps that came, and askings that failed, in this process.
pub static STAMPS: AtomicU64 = AtomicU64::new(0);
/// See [`STAMPS`].
pub static FAILURES: AtomicU64 = AtomicU64::new(0);

/// The authority of this service.
#[derive(Debug)]
pub struct HttpAuthority {
    agent: Agent,
    url: String,
    options: TimeStampOptions,
    not_before: Mutex<Option<Instant>>,
}

impl HttpAuthority {
    /// The configured authority; none where none is configured.
    #[must_use]
    pub fn new(options: &TimeStampOptions) -> Option<Self> {
        let agent = Agent::config_builder()
            .timeout_global(Some(options.timeout_max()))
            .http_status_as_error(false)
            .max_redirects(0)
            .build();
        Some(Self {
            agent: agent.into(),
            url: options.time_stamp_authority.clone()?,
            options: options.clone(),
            not_before: Mutex::new(None),
        })
    }

    /// The same, where it stamps the signatures of files.
    #[must_use]
    pub fn of_files(options: &TimeStampOptions) -> Option<Self> {
        match options.time_stamp_checkpoints_only {
            true => None,
            false => Self::new(options),
        }
    }

    /// Whether no file is signed without a stamp.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.options.require_time_stamps
    }

    /// Notes that a stamp came, or that none that holds did, and leaves the authority alone then.
    pub(crate) fn conclude(&self, failure: Option<&str>) {
        let mut not_before = self
            .not_before
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(reason) = failure else {
            STAMPS.fetch_add(1, Ordering::Relaxed);
            return;
        };
        FAILURES.fetch_add(1, Ordering::Relaxed);
        if not_before.is_none_or(|time| time <= Instant::now()) {
            let again_in_ms = self.options.time_stamp_pause_ms;
            tracing::warn!(authority = self.url, reason, again_in_ms, "no time stamp");
            *not_before = Some(Instant::now() + self.options.pause());
        }
    }

    fn ask(&self, request: &[u8]) -> Result<Vec<u8>, ureq::Error> {
        let post = self.agent.post(&self.url).content_type(QUERY_TYPE);
        let mut answer = post.send(request)?;
        let status = answer.status().as_u16();
        let media_type = answer.headers().get("content-type");
        let is_reply = media_type.is_some_and(|found| found == REPLY_TYPE);
        if status != 200 || !is_reply {
            return Err(ureq::Error::Other(
                format!("status {status}, or not {REPLY_TYPE}").into(),
            ));
        }
        let most = TIME_STAMP_BYTES_MAX as u64;
        answer.body_mut().with_config().limit(most).read_to_vec()
    }
}

impl TimeStampAuthority for HttpAuthority {
    fn time_stamp(&self, request: &[u8]) -> Result<Vec<u8>, String> {
        let not_before = *self
            .not_before
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if not_before.is_some_and(|time| Instant::now() < time) {
            return Err("the authority failed a moment ago and is left alone".to_owned());
        }
        self.ask(request).map_err(|error| error.to_string())
    }
}

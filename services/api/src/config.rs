//! Configuration: everything that can be set, and every limit by name.
//!
//! Each setting's documentation says what somebody who controls it could make the service sign.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use credentials::ManifestCaps;
use ledger::JobLimits;
use onnx::Provider;

mod bounds;
mod signer;
mod signing;
mod time_stamps;
mod witnesses;

use bounds::{Bound, check_bounds};

pub use bounds::LimitRefused;
pub use signer::{SignerLimits, SignerOptions};
pub use signing::{CredentialOptions, SigningOptions};
pub use time_stamps::TimeStampOptions;
pub use witnesses::WitnessOptions;

/// The log's name when none is configured.
pub const ORIGIN_DEFAULT: &str = "retrace.local/log";

/// Port of the service when none is configured.
pub const PORT_DEFAULT: u16 = 8080;

/// What this process does. All roles share one ledger, one image store and the same keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Everything: answers requests, generates in this process, and works off jobs.
    All,
    /// Answers requests, and turns every generation into a job. It opens no generator.
    Api,
    /// Works off jobs. It answers `/healthz` and `/readyz` alone, and signs with the service's keys.
    Worker,
}

impl Role {
    /// The word on the command line and in `/healthz`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Api => "api",
            Self::Worker => "worker",
        }
    }
}

/// What the service needs to start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address to listen on; port 0 takes a free one. Whoever reaches it can ask for what their
    /// key allows; without any client key only loopback addresses are accepted.
    pub listen: SocketAddr,
    /// What this process does.
    pub role: Role,
    /// Folder for keys, images, checkpoints and the private database. Whoever can read `keys/`
    /// in it can sign anything in the service's name.
    pub state: PathBuf,
    /// Postgres of the ledger; none starts a private cluster in the state folder. Whoever
    /// controls the database can withhold or fork the log, which checkpoints kept elsewhere
    /// reveal, but cannot forge a signed entry.
    pub database_url: Option<String>,
    /// Connections to Postgres at most.
    pub database_connections_max: u32,
    /// Name of the log in checkpoints and of the keys. Changing it starts another log.
    pub origin: String,
    /// The program that parses untrusted bytes as `PROGRAM parse-untrusted`; none is the running
    /// program itself. Whoever controls it sees uploads and decides which pixels are scored.
    pub parser: Option<PathBuf>,
    /// Models and native parts.
    pub engine: EngineOptions,
    /// Content Credentials.
    pub credentials: CredentialOptions,
    /// How the secrets in `keys/` lie on the disk.
    pub signing: SigningOptions,
    /// Who holds the entry key and the checkpoint key, where they do not lie in `keys/`.
    pub signer: SignerOptions,
    /// Whether the starting noise of images carries the service's watermark.
    pub watermark: bool,
    /// Time stamps on signatures.
    pub time_stamps: TimeStampOptions,
    /// Witnesses of the log.
    pub witnesses: WitnessOptions,
    /// Every limit.
    pub limits: Limits,
}

/// Where models and native parts are and how they run. Whoever controls these files decides what
/// is generated and how uploads are scored; their digests go into every entry.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Folder with `manifest.toml`; none looks for `models/` upwards from the working folder.
    pub models: Option<PathBuf>,
    /// Folder with the native parts; none looks for `.runtime/` upwards from the working folder.
    pub runtime: Option<PathBuf>,
    /// A generator's folder outside the manifest; none is `generator/` of the models. It is
    /// accepted by its computed digests.
    pub generator: Option<PathBuf>,
    /// A detector's folder with a manifest of its own, as `retrace train` writes it; none is `detector/` of the
    /// models.
    pub detector: Option<PathBuf>,
    /// Execution provider.
    pub provider: Provider,
    /// Refuse to start instead of falling back to the processor.
    pub require_gpu: bool,
    /// Threads inside one operator; 0 means one per core.
    pub threads: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            models: None,
            runtime: None,
            generator: None,
            detector: None,
            provider: Provider::Cpu,
            require_gpu: false,
            threads: 0,
        }
    }
}

impl Config {
    /// The defaults, with this state folder.
    #[must_use]
    pub fn new(state: PathBuf) -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT_DEFAULT),
            role: Role::All,
            state,
            database_url: None,
            database_connections_max: 16,
            origin: ORIGIN_DEFAULT.to_owned(),
            parser: None,
            engine: EngineOptions::default(),
            credentials: CredentialOptions::of(ORIGIN_DEFAULT),
            signing: SigningOptions::default(),
            signer: SignerOptions::default(),
            watermark: true,
            time_stamps: TimeStampOptions::default(),
            witnesses: WitnessOptions::default(),
            limits: Limits::default(),
        }
    }
}

/// Every limit of the service.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Bytes of an uploaded file
    #[arg(long, env = "RETRACE_UPLOAD_BYTES_MAX", default_value_t = LIMITS.upload_bytes_max)]
    pub upload_bytes_max: u64,
    /// Longest side of an uploaded picture in pixels
    #[arg(long, env = "RETRACE_UPLOAD_SIDE_MAX", default_value_t = LIMITS.upload_side_max)]
    pub upload_side_max: u32,
    /// Pixels of an uploaded picture
    #[arg(long, env = "RETRACE_UPLOAD_PIXELS_MAX", default_value_t = LIMITS.upload_pixels_max)]
    pub upload_pixels_max: u64,
    /// Memory that the decoder of an upload may ask for, in bytes
    #[arg(long, env = "RETRACE_DECODER_ALLOC_BYTES_MAX", default_value_t = LIMITS.decoder_alloc_bytes_max)]
    pub decoder_alloc_bytes_max: u64,
    /// Address space of the process that parses one upload, in bytes
    #[arg(long, env = "RETRACE_PARSER_MEMORY_BYTES_MAX", default_value_t = LIMITS.parser_memory_bytes_max)]
    pub parser_memory_bytes_max: u64,
    /// Processor time of the process that parses one upload, in seconds
    #[arg(long, env = "RETRACE_PARSER_CPU_S_MAX", default_value_t = LIMITS.parser_cpu_s_max)]
    pub parser_cpu_s_max: u64,
    /// Wall-clock time of the process that parses one upload, in milliseconds
    #[arg(long, env = "RETRACE_PARSER_WALL_MS_MAX", default_value_t = LIMITS.parser_wall_ms_max)]
    pub parser_wall_ms_max: u64,
    /// Bytes of all Content Credentials of an upload; larger ones are not read
    #[arg(long, env = "RETRACE_MANIFEST_BYTES_MAX", default_value_t = LIMITS.manifest_bytes_max)]
    pub manifest_bytes_max: u64,
    /// Bytes of Content Credentials that an image keeps of the picture it was made from
    #[arg(long, env = "RETRACE_MANIFEST_CARRIED_BYTES_MAX", default_value_t = LIMITS.manifest_carried_bytes_max)]
    pub manifest_carried_bytes_max: u64,
    /// Address space of the process that reads the Content Credentials of one upload, in bytes
    #[arg(long, env = "RETRACE_MANIFEST_MEMORY_BYTES_MAX", default_value_t = LIMITS.manifest_memory_bytes_max)]
    pub manifest_memory_bytes_max: u64,
    /// Processor time of the process that reads the Content Credentials of one upload, in seconds
    #[arg(long, env = "RETRACE_MANIFEST_CPU_S_MAX", default_value_t = LIMITS.manifest_cpu_s_max)]
    pub manifest_cpu_s_max: u64,
    /// Wall-clock time of the process that reads the Content Credentials of one upload, in milliseconds
    #[arg(long, env = "RETRACE_MANIFEST_WALL_MS_MAX", default_value_t = LIMITS.manifest_wall_ms_max)]
    pub manifest_wall_ms_max: u64,
    /// Bytes of a JSON request without an upload in it
    #[arg(long, env = "RETRACE_JSON_BYTES_MAX", default_value_t = LIMITS.json_bytes_max)]
    pub json_bytes_max: usize,
    /// Bytes of a prompt, and of a negative prompt
    #[arg(long, env = "RETRACE_PROMPT_BYTES_MAX", default_value_t = LIMITS.prompt_bytes_max)]
    pub prompt_bytes_max: usize,
    /// Images of one request
    #[arg(long, env = "RETRACE_IMAGES_PER_REQUEST_MAX", default_value_t = LIMITS.images_per_request_max)]
    pub images_per_request_max: u32,
    /// Pixels of one generated image
    #[arg(long, env = "RETRACE_PICTURE_PIXELS_MAX", default_value_t = LIMITS.picture_pixels_max)]
    pub picture_pixels_max: u64,
    /// Inference steps of one image
    #[arg(long, env = "RETRACE_STEPS_MAX", default_value_t = LIMITS.steps_max)]
    pub steps_max: u32,
    /// Weight of classifier-free guidance
    #[arg(long, env = "RETRACE_GUIDANCE_SCALE_MAX", default_value_t = LIMITS.guidance_scale_max)]
    pub guidance_scale_max: f32,
    /// Generations that run at once
    #[arg(long, env = "RETRACE_GENERATIONS_RUNNING_MAX", default_value_t = LIMITS.generations_running_max)]
    pub generations_running_max: usize,
    /// Generations that wait for their turn; further ones are refused
    #[arg(long, env = "RETRACE_GENERATIONS_WAITING_MAX", default_value_t = LIMITS.generations_waiting_max)]
    pub generations_waiting_max: usize,
    /// Images that go through the denoising loop together; 1 makes each alone
    #[arg(long, env = "RETRACE_BATCH_IMAGES_MAX", default_value_t = LIMITS.batch_images_max)]
    pub batch_images_max: usize,
    /// How many per cent more images a second a batch must give, as measured on this machine, to be formed
    #[arg(long, env = "RETRACE_BATCH_GAIN_PERCENT_MIN", default_value_t = LIMITS.batch_gain_percent_min)]
    pub batch_gain_percent_min: u32,
    /// How much longer a batch may take than one image alone, in milliseconds
    #[arg(long, env = "RETRACE_BATCH_DELAY_MS_MAX", default_value_t = LIMITS.batch_delay_ms_max)]
    pub batch_delay_ms_max: u64,
    /// Generations of one client that wait or run; further ones are refused
    #[arg(long, env = "RETRACE_GENERATIONS_PER_CLIENT_MAX", default_value_t = LIMITS.generations_per_client_max)]
    pub generations_per_client_max: usize,
    /// Jobs that wait or run; further ones are refused
    #[arg(long, env = "RETRACE_JOBS_WAITING_MAX", default_value_t = LIMITS.jobs_waiting_max)]
    pub jobs_waiting_max: u32,
    /// Jobs of one client that wait or run; further ones are refused
    #[arg(long, env = "RETRACE_JOBS_PER_CLIENT_MAX", default_value_t = LIMITS.jobs_per_client_max)]
    pub jobs_per_client_max: u32,
    /// Bytes of the order of one job, with the pictures that it starts from
    #[arg(long, env = "RETRACE_JOB_ORDER_BYTES_MAX", default_value_t = LIMITS.job_order_bytes_max)]
    pub job_order_bytes_max: u32,
    /// Workers that may begin a job and be lost or fail before it is given up
    #[arg(long, env = "RETRACE_JOB_ATTEMPTS_MAX", default_value_t = LIMITS.job_attempts_max)]
    pub job_attempts_max: u32,
    /// How long a worker may be silent before its job is given to another, in milliseconds
    #[arg(long, env = "RETRACE_JOB_LEASE_MS", default_value_t = LIMITS.job_lease_ms)]
    pub job_lease_ms: u64,
    /// How long an ended job is remembered, in seconds; its entries stay
    #[arg(long, env = "RETRACE_JOBS_KEPT_S_MAX", default_value_t = LIMITS.jobs_kept_s_max)]
    pub jobs_kept_s_max: u64,
    /// Jobs of one page of a list
    #[arg(long, env = "RETRACE_JOBS_PER_PAGE_MAX", default_value_t = LIMITS.jobs_per_page_max)]
    pub jobs_per_page_max: u32,
    /// Clients that follow a job's events at once
    #[arg(long, env = "RETRACE_EVENT_STREAMS_MAX", default_value_t = LIMITS.event_streams_max)]
    pub event_streams_max: usize,
    /// Bytes of all uploads that review cases keep
    #[arg(long, env = "RETRACE_CASE_BYTES_MAX", default_value_t = LIMITS.case_bytes_max)]
    pub case_bytes_max: u64,
    /// Notes of one review case
    #[arg(long, env = "RETRACE_CASE_NOTES_MAX", default_value_t = LIMITS.case_notes_max)]
    pub case_notes_max: u32,
    /// Review cases of one page of a list
    #[arg(long, env = "RETRACE_CASES_PER_PAGE_MAX", default_value_t = LIMITS.cases_per_page_max)]
    pub cases_per_page_max: u32,
    /// Scores that run at once
    #[arg(long, env = "RETRACE_SCORES_RUNNING_MAX", default_value_t = LIMITS.scores_running_max)]
    pub scores_running_max: usize,
    /// Scores that wait for their turn; further ones are refused
    #[arg(long, env = "RETRACE_SCORES_WAITING_MAX", default_value_t = LIMITS.scores_waiting_max)]
    pub scores_waiting_max: usize,
    /// Uploads that are read from the network at once
    #[arg(long, env = "RETRACE_UPLOADS_READING_MAX", default_value_t = LIMITS.uploads_reading_max)]
    pub uploads_reading_max: usize,
    /// How long one upload may take to arrive, in milliseconds
    #[arg(long, env = "RETRACE_UPLOAD_READ_MS_MAX", default_value_t = LIMITS.upload_read_ms_max)]
    pub upload_read_ms_max: u64,
    /// How long a request waits for its turn, in milliseconds
    #[arg(long, env = "RETRACE_TURN_WAIT_MS_MAX", default_value_t = LIMITS.turn_wait_ms_max)]
    pub turn_wait_ms_max: u64,
    /// Entries of one page of a search
    #[arg(long, env = "RETRACE_ENTRIES_PER_PAGE_MAX", default_value_t = LIMITS.entries_per_page_max)]
    pub entries_per_page_max: u32,
    /// Answers that are remembered for a repeated Idempotency-Key
    #[arg(long, env = "RETRACE_IDEMPOTENT_ANSWERS_MAX", default_value_t = LIMITS.idempotent_answers_max)]
    pub idempotent_answers_max: usize,
    /// How long requests may take to finish after the signal to stop, in seconds
    #[arg(long, env = "RETRACE_DRAIN_S_MAX", default_value_t = LIMITS.drain_s_max)]
    pub drain_s_max: u64,
}

/// The defaults. Sixteen generations in the queue are about a minute of work on two cores.
const LIMITS: Limits = Limits {
    upload_bytes_max: 32 << 20,
    upload_side_max: 16_384,
    upload_pixels_max: 64_000_000,
    decoder_alloc_bytes_max: 512 << 20,
    parser_memory_bytes_max: 2 << 30,
    parser_cpu_s_max: 20,
    parser_wall_ms_max: 30_000,
    manifest_bytes_max: 8 << 20,
    manifest_carried_bytes_max: 1 << 20,
    manifest_memory_bytes_max: 512 << 20, // the program itself takes most of it
    manifest_cpu_s_max: 2,
    manifest_wall_ms_max: 5_000,
    json_bytes_max: 64 << 10,
    prompt_bytes_max: 2_000,
    images_per_request_max: 8,
    picture_pixels_max: 1536 * 1536,
    steps_max: 200,
    guidance_scale_max: 30.0,
    generations_running_max: 1,
    generations_waiting_max: 16,
    batch_images_max: 4,
    batch_gain_percent_min: 10,
    batch_delay_ms_max: 10_000,
    generations_per_client_max: 8,
    jobs_waiting_max: 1_000,
    jobs_per_client_max: 100,
    job_order_bytes_max: 16 << 20,
    job_attempts_max: 3,
    job_lease_ms: 30_000,
    jobs_kept_s_max: 7 * 24 * 3_600,
    jobs_per_page_max: 100,
    event_streams_max: 256,
    case_bytes_max: 4 << 30,
    case_notes_max: 200,
    cases_per_page_max: 100,
    scores_running_max: 2,
    scores_waiting_max: 16,
    uploads_reading_max: 16,
    upload_read_ms_max: 60_000,
    turn_wait_ms_max: 60_000,
    entries_per_page_max: 200,
    idempotent_answers_max: 64,
    drain_s_max: 30,
};

impl Default for Limits {
    fn default() -> Self {
        LIMITS
    }
}

const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;

impl Limits {
    /// Refuses limits of zero and limits that the machine cannot hold.
    ///
    /// # Errors
    /// The first limit out of bounds.
    pub fn check(&self) -> Result<(), LimitRefused> {
        check_bounds(&self.bounds())?;
        if !(1.0..=1_000.0).contains(&self.guidance_scale_max) {
            return Err(LimitRefused {
                name: "guidance_scale_max",
                value: self.guidance_scale_max.to_string(),
                min: "1".to_owned(),
                max: "1000".to_owned(),
            });
        }
        Ok(())
    }

    /// Name, value, least and most of every limit that is a whole number.
    fn bounds(&self) -> Vec<Bound> {
        let mut bounds = self.bounds_of_uploads().to_vec();
        bounds.extend(self.bounds_of_manifests());
        bounds.extend(self.bounds_of_work());
        bounds.extend(self.bounds_of_batches());
        bounds.extend(self.bounds_of_jobs());
        bounds.extend(self.bounds_of_cases());
        bounds
    }

    fn bounds_of_batches(&self) -> [Bound; 3] {
        let images_max = self.batch_images_max as u64;
        let gain_percent_min = u64::from(self.batch_gain_percent_min);
        [
            ("batch_images_max", images_max, 1, 256),
            ("batch_gain_percent_min", gain_percent_min, 0, 1_000),
            ("batch_delay_ms_max", self.batch_delay_ms_max, 0, 3_600_000),
        ]
    }

    fn bounds_of_cases(&self) -> [Bound; 3] {
        let notes_max = u64::from(self.case_notes_max);
        let per_page_max = u64::from(self.cases_per_page_max);
        [
            ("case_bytes_max", self.case_bytes_max, KIB, 1 << 50),
            ("case_notes_max", notes_max, 1, 100_000),
            ("cases_per_page_max", per_page_max, 1, 200),
        ]
    }

    fn bounds_of_manifests(&self) -> [Bound; 5] {
        let (bytes, carried) = (self.manifest_bytes_max, self.manifest_carried_bytes_max);
        let memory = self.manifest_memory_bytes_max;
        [
            ("manifest_bytes_max", bytes, KIB, GIB),
            ("manifest_carried_bytes_max", carried, KIB, 8 << 20),
            ("manifest_memory_bytes_max", memory, 64 << 20, 1 << 40),
            ("manifest_cpu_s_max", self.manifest_cpu_s_max, 1, 600),
            (
                "manifest_wall_ms_max",
                self.manifest_wall_ms_max,
                1,
                600_000,
            ),
        ]
    }

    fn bounds_of_uploads(&self) -> [Bound; 11] {
        [
            ("upload_bytes_max", self.upload_bytes_max, KIB, GIB),
            (
                "upload_side_max",
                u64::from(self.upload_side_max),
                16,
                65_535,
            ),
            (
                "upload_pixels_max",
                self.upload_pixels_max,
                256,
                1_000_000_000,
            ),
            (
                "decoder_alloc_bytes_max",
                self.decoder_alloc_bytes_max,
                KIB,
                64 * GIB,
            ),
            // Below this the program itself does not fit into its address space.
            (
                "parser_memory_bytes_max",
                self.parser_memory_bytes_max,
                64 << 20,
                1 << 40,
            ),
            ("parser_cpu_s_max", self.parser_cpu_s_max, 1, 3_600),
            ("parser_wall_ms_max", self.parser_wall_ms_max, 1, 3_600_000),
            ("json_bytes_max", self.json_bytes_max as u64, KIB, GIB),
            ("prompt_bytes_max", self.prompt_bytes_max as u64, 1, 1 << 20),
            (
                "images_per_request_max",
                u64::from(self.images_per_request_max),
                1,
                1_000,
            ),
            ("picture_pixels_max", self.picture_pixels_max, 64, 1 << 28),
        ]
    }

    fn bounds_of_work(&self) -> [Bound; 11] {
        [
            ("steps_max", u64::from(self.steps_max), 1, 1_000),
            (
                "generations_running_max",
                self.generations_running_max as u64,
                1,
                1_000,
            ),
            (
                "generations_waiting_max",
                self.generations_waiting_max as u64,
                1,
                100_000,
            ),
            (
                "scores_running_max",
                self.scores_running_max as u64,
                1,
                1_000,
            ),
            (
                "scores_waiting_max",
                self.scores_waiting_max as u64,
                1,
                100_000,
            ),
            (
                "uploads_reading_max",
                self.uploads_reading_max as u64,
                1,
                10_000,
            ),
            ("upload_read_ms_max", self.upload_read_ms_max, 1, 3_600_000),
            ("turn_wait_ms_max", self.turn_wait_ms_max, 1, 3_600_000),
            (
                "entries_per_page_max",
                u64::from(self.entries_per_page_max),
                1,
                10_000,
            ),
            (
                "idempotent_answers_max",
                self.idempotent_answers_max as u64,
                1,
                100_000,
            ),
            ("drain_s_max", self.drain_s_max, 1, 3_600),
        ]
    }

    fn bounds_of_jobs(&self) -> [Bound; 9] {
        [
            (
                "generations_per_client_max",
                self.generations_per_client_max as u64,
                1,
                100_000,
            ),
            (
                "jobs_waiting_max",
                u64::from(self.jobs_waiting_max),
                1,
                1_000_000,
            ),
            (
                "jobs_per_client_max",
                u64::from(self.jobs_per_client_max),
                1,
                1_000_000,
            ),
            (
                "job_order_bytes_max",
                u64::from(self.job_order_bytes_max),
                KIB,
                GIB,
            ),
            ("job_attempts_max", u64::from(self.job_attempts_max), 1, 100),
            // Three heartbeats must fit into a lease.
            ("job_lease_ms", self.job_lease_ms, 300, 3_600_000),
            (
                "jobs_kept_s_max",
                self.jobs_kept_s_max,
                60,
                10 * 366 * 86_400,
            ),
            (
                "jobs_per_page_max",
                u64::from(self.jobs_per_page_max),
                1,
                1_000,
            ),
            (
                "event_streams_max",
                self.event_streams_max as u64,
                1,
                100_000,
            ),
        ]
    }

    /// The limits of the queue of jobs.
    #[must_use]
    pub fn jobs(&self) -> JobLimits {
        JobLimits {
            jobs_waiting_max: self.jobs_waiting_max,
            jobs_per_client_max: self.jobs_per_client_max,
            job_order_bytes_max: self.job_order_bytes_max,
        }
    }

    /// The caps on untrusted pictures.
    #[must_use]
    pub fn media(&self) -> media::Limits {
        media::Limits {
            bytes_max: self.upload_bytes_max,
            side_max: self.upload_side_max,
            pixels_max: self.upload_pixels_max,
            decoder_alloc_bytes_max: self.decoder_alloc_bytes_max,
            ..media::Limits::default()
        }
    }

    /// The caps on the Content Credentials of uploads.
    #[must_use]
    pub fn manifests(&self) -> ManifestCaps {
        ManifestCaps {
            manifest_bytes_max: self.manifest_bytes_max,
            carried_bytes_max: self.manifest_carried_bytes_max,
        }
    }

    /// How long a request waits for its turn.
    #[must_use]
    pub fn turn_wait_max(&self) -> Duration {
        Duration::from_millis(self.turn_wait_ms_max)
    }

    /// How long requests may take to finish after the signal to stop.
    #[must_use]
    pub fn drain_max(&self) -> Duration {
        Duration::from_secs(self.drain_s_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_limits_are_within_their_own_bounds() {
        assert_eq!(Limits::default().check(), Ok(()));
    }

    #[test]
    fn a_limit_out_of_bounds_is_refused_by_name() {
        let limits = Limits {
            steps_max: 0,
            ..Limits::default()
        };
        assert!(
            limits
                .check()
                .unwrap_err()
                .to_string()
                .contains("steps_max")
        );
        let limits = Limits {
            guidance_scale_max: f32::NAN,
            ..Limits::default()
        };
        assert!(
            limits
                .check()
                .unwrap_err()
                .to_string()
                .contains("guidance_scale_max")
        );
    }
}

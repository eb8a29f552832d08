//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

const EXIT_CODES: &str = "\
Exit codes:
  0  everything was checked and holds
  1  something does not hold, or could not be checked
  2  wrong arguments, or a file that cannot be read";

/// Check what a Retrace service has signed, offline and without trusting the service.
#[derive(Debug, Parser)]
#[command(name = "retrace-verify", version, after_help = EXIT_CODES)]
pub struct Arguments {
    /// Print one JSON document instead of lines.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub task: Task,
}

#[derive(Debug, Subcommand)]
pub enum Task {
    Bundle(BundleTask),
    Checkpoint(CheckpointTask),
    Inclusion(InclusionTask),
    Consistency(ConsistencyTask),
    Ledger(LedgerTask),
    Image(ImageTask),
    Export(ExportTask),
    Page(PageTask),
}

/// Whose signatures are believed. At least one of the two is needed.
#[derive(Debug, Clone, Args)]
pub struct KeyArguments {
    /// The public key file of the log (retrace.pub).
    #[arg(long, value_name = "FILE", required_unless_present = "policy")]
    pub public_key: Option<PathBuf>,
    /// A file of pinned keys. Keys of a log that is not in it yet are added, with a warning; other keys
    /// than the pinned ones are refused. Without --public-key the pinned keys are used. Its lines
    /// `witness`, `group` and `quorum` (C2SP tlog-policy) say who must have cosigned the newest checkpoint.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
}

const BUNDLE_EXAMPLES: &str = "\
Examples:
  retrace-verify bundle cat.bundle.json --image cat.png --public-key retrace.pub
  retrace-verify bundle cat.bundle.json --no-image --public-key retrace.pub --json";

/// Check a bundle: its entry's signature, its place in the log, the checkpoint and the image.
///
/// The image file must be the recorded one, byte by byte. A file that was saved again with the same
/// pixels does not hold either, but is reported as such (image-resaved).
#[derive(Debug, Args)]
#[command(after_help = BUNDLE_EXAMPLES)]
pub struct BundleTask {
    /// The bundle.
    pub file: PathBuf,
    /// The image that the bundle speaks about.
    #[arg(long, value_name = "FILE", conflicts_with = "no_image")]
    pub image: Option<PathBuf>,
    /// Check the bundle alone. Without this and without --image the check fails.
    #[arg(long)]
    pub no_image: bool,
    #[command(flatten)]
    pub keys: KeyArguments,
}

const CHECKPOINT_EXAMPLES: &str = "\
Examples:
  curl -s https://retrace.example/checkpoint > checkpoint.txt
  retrace-verify checkpoint checkpoint.txt --public-key retrace.pub

  curl -s https://retrace.example/v1/checkpoints/1024 > checkpoint.txt
  curl -s https://retrace.example/v1/checkpoints/1024/time-stamp > checkpoint.tsr
  retrace-verify checkpoint checkpoint.txt --public-key retrace.pub \
    --time-stamp checkpoint.tsr --time-stamp-anchors authority.pem

A time stamp is over the SHA-256 of the checkpoint's note with the signature lines of the log, and without
those of witnesses, which are left out before the digest is compared. The same files without them:
  openssl ts -verify -data checkpoint.txt -in checkpoint.tsr -CAfile authority.pem";

/// Check the log's signature of a checkpoint, and a time stamp of it.
#[derive(Debug, Args)]
#[command(after_help = CHECKPOINT_EXAMPLES)]
pub struct CheckpointTask {
    /// The checkpoint, a signed note.
    pub file: PathBuf,
    /// A time stamp of the checkpoint (RFC 3161), as `/v1/checkpoints/…/time-stamp` answers.
    #[arg(long, value_name = "FILE", requires = "time_stamp_anchors")]
    pub time_stamp: Option<PathBuf>,
    /// Certificates, PEM, under which the time-stamping authority is believed.
    #[arg(long, value_name = "FILE", requires = "time_stamp")]
    pub time_stamp_anchors: Option<PathBuf>,
    #[command(flatten)]
    pub keys: KeyArguments,
}

const INCLUSION_EXAMPLES: &str = "\
Examples:
  retrace-verify inclusion --leaf-hash 6e34… --leaf-index 0 --tree-size 2 --root-hash fac5… --proof 96a2…
  retrace-verify inclusion --leaf-hash 6e34… --leaf-index 0 --tree-size 1 --root-hash 6e34… --proof ''";

/// Check an RFC 6962 inclusion proof given as hexadecimal hashes.
#[derive(Debug, Args)]
#[command(after_help = INCLUSION_EXAMPLES)]
pub struct InclusionTask {
    /// The hash of the leaf, SHA-256(0x00 || leaf).
    #[arg(long, value_name = "HEX")]
    pub leaf_hash: String,
    /// The zero-based place of the leaf.
    #[arg(long, value_name = "N")]
    pub leaf_index: u64,
    /// The number of leaves.
    #[arg(long, value_name = "N")]
    pub tree_size: u64,
    /// The root hash of the tree.
    #[arg(long, value_name = "HEX")]
    pub root_hash: String,
    /// The proof's hashes from the leaf's sibling upwards, separated by commas; '' for none.
    #[arg(long, value_name = "HEX,HEX,…", num_args = 0..=1, default_missing_value = "", required = true)]
    pub proof: Option<String>,
}

const CONSISTENCY_EXAMPLES: &str = "\
Example:
  retrace-verify consistency --old-size 1 --old-root 6e34… --new-size 2 --new-root fac5… --proof 96a2…";

/// Check an RFC 6962 consistency proof given as hexadecimal hashes.
#[derive(Debug, Args)]
#[command(after_help = CONSISTENCY_EXAMPLES)]
pub struct ConsistencyTask {
    /// The number of leaves of the older tree.
    #[arg(long, value_name = "N")]
    pub old_size: u64,
    /// The root hash of the older tree.
    #[arg(long, value_name = "HEX")]
    pub old_root: String,
    /// The number of leaves of the newer tree.
    #[arg(long, value_name = "N")]
    pub new_size: u64,
    /// The root hash of the newer tree.
    #[arg(long, value_name = "HEX")]
    pub new_root: String,
    /// The proof's hashes, separated by commas; '' for none.
    #[arg(long, value_name = "HEX,HEX,…", num_args = 0..=1, default_missing_value = "", required = true)]
    pub proof: Option<String>,
}

const LEDGER_EXAMPLES: &str = "\
Examples:
  retrace-verify ledger mirror/ --public-key retrace.pub --policy pinned.txt
  retrace-verify ledger mirror/ --earlier last-week.txt --policy pinned.txt
  retrace-verify ledger envelopes.ndjson --checkpoint checkpoint.txt --public-key retrace.pub

A folder holds what `/checkpoint` and `/tile/…` answer, under the same paths: checkpoint, tile/0/000,
tile/entries/000.p/17 and so on. Hash tiles may be left out; those that are there are compared.";

/// Check a whole ledger: every entry's signature, and that the entries make the checkpoint's tree.
#[derive(Debug, Args)]
#[command(after_help = LEDGER_EXAMPLES)]
pub struct LedgerTask {
    /// A folder of tiles; or a file of all envelopes in the order of the log, one a line (NDJSON), as
    /// many as the checkpoint covers.
    pub path: PathBuf,
    /// The checkpoint that covers the entries. A folder has its own.
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// A checkpoint kept from before, whose tree the ledger must continue. May be given repeatedly.
    #[arg(long, value_name = "FILE")]
    pub earlier: Vec<PathBuf>,
    #[command(flatten)]
    pub keys: KeyArguments,
}

const IMAGE_EXAMPLES: &str = "\
Examples:
  retrace-verify image cat.png --bundle cat.bundle.json --public-key retrace.pub
  retrace-verify image cat.png --tiles mirror/ --policy pinned.txt --json
  retrace-verify image cat.png --bundle cat.bundle.json --public-key retrace.pub \
    --trust-anchors retrace-root.pem

The file holds when an entry records exactly its bytes. A file that was saved again with the same pixels
is reported as such (image-resaved) and does not hold. Content Credentials in the file must hold, too;
a file without any is not refused for that.";

/// Look an image up: in a bundle, or among all entries of a folder of tiles, which is checked whole.
#[derive(Debug, Args)]
#[command(after_help = IMAGE_EXAMPLES)]
pub struct ImageTask {
    /// The image file.
    pub file: PathBuf,
    /// The bundle that came with it.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "tiles",
        conflicts_with = "tiles"
    )]
    pub bundle: Option<PathBuf>,
    /// A folder of tiles, as for `ledger`.
    #[arg(long, value_name = "DIR")]
    pub tiles: Option<PathBuf>,
    /// Certificates, PEM, under which the signer of the file's Content Credentials is trusted, such
    /// as the service's retrace-root.pem. Without any, credentials that hold give a warning.
    #[arg(long, value_name = "FILE")]
    pub trust_anchors: Option<PathBuf>,
    #[command(flatten)]
    pub keys: KeyArguments,
}

const EXPORT_EXAMPLES: &str = "\
Examples:
  retrace-verify export entries.ndjson --public-key retrace.pub
  retrace-verify export entries.csv --policy pinned.txt --json
  retrace-verify export entries.ndjson --tiles mirror/ --policy pinned.txt

The rows of NDJSON are checked one by one, each with its own signature. Those of CSV carry none: the
manifest alone vouches for them. With --tiles the search is done again over the mirrored log, and the
command says whether the export left anything out.";

/// Check an export: that it is whole, that its manifest is signed, and each row.
#[derive(Debug, Args)]
#[command(after_help = EXPORT_EXAMPLES)]
pub struct ExportTask {
    /// The export, ending in its manifest.
    pub file: PathBuf,
    /// A folder of tiles, as for `ledger`, to search again.
    #[arg(long, value_name = "DIR")]
    pub tiles: Option<PathBuf>,
    #[command(flatten)]
    pub keys: KeyArguments,
}

const PAGE_EXAMPLES: &str = "\
Example:
  curl -s 'https://retrace.example/v1/entries?client=newsroom&limit=100' > page.json
  retrace-verify page page.json --query 'client=newsroom&limit=100' --tiles mirror/ --policy pinned.txt

The query is the one that the page was asked for with. The mirrored log must reach the checkpoint that the
page names; it is checked whole.";

/// Check a page of a search: that it left nothing out, by searching a folder of tiles again.
#[derive(Debug, Args)]
#[command(after_help = PAGE_EXAMPLES)]
pub struct PageTask {
    /// The page: an answer of `GET /v1/entries`.
    pub file: PathBuf,
    /// The parameters of the search, as they stood behind the question mark; '' for none.
    #[arg(long, value_name = "QUERY")]
    pub query: String,
    /// A folder of tiles, as for `ledger`.
    #[arg(long, value_name = "DIR")]
    pub tiles: PathBuf,
    #[command(flatten)]
    pub keys: KeyArguments,
}

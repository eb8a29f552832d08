//! Verifying the whole ledger anew, from nothing but the entries.

use std::collections::BTreeMap;
use std::fmt;

use provenance::merkle::{Appender, NewNode, empty_root, leaf_hash};
use provenance::{Digest, EntryVerifier, Envelope, LeafIndex, SignedCheckpoint, TreeSize};
use serde::Serialize;
use sqlx::PgConnection;

use crate::LedgerError;
use crate::blocking::blocking;
use crate::connect::Ledger;
use crate::entries::{Projection, digest, to_i64};
use crate::publication::parse_checkpoint;

/// Most problems that a report spells out.
pub const PROBLEMS_MAX: usize = 100;
/// Entries that are held in memory at a time.
const PAGE_ENTRIES: i64 = 512;

/// Something in the database that is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "problem", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Problem {
    /// No entry has this leaf index although later ones exist. Nothing after it was verified.
    MissingEntry {
        /// Where the gap is.
        leaf_index: LeafIndex,
    },
    /// The stored leaf hash is not that of the envelope.
    LeafHash {
        /// Whose.
        leaf_index: LeafIndex,
    },
    /// The envelope or the entry in it cannot be read, or its signature does not verify.
    Envelope {
        /// Whose.
        leaf_index: LeafIndex,
        /// What is wrong with it.
        detail: String,
    },
    /// A column for searching does not say what the envelope says.
    Column {
        /// Whose.
        leaf_index: LeafIndex,
    },
    /// A tree node is missing or has another hash than the entries give.
    Node {
        /// Its level.
        level: u8,
        /// Its place in the level.
        node_index: u64,
    },
    /// There are nodes that no entries stand for.
    SurplusNodes {
        /// How many nodes the entries give.
        expected: u64,
        /// How many there are.
        found: u64,
    },
    /// A checkpoint cannot be read, or its signature does not verify.
    Checkpoint {
        /// The tree size that it is stored under.
        tree_size: TreeSize,
        /// What is wrong with it.
        detail: String,
    },
    /// A checkpoint's root is not that of the entries.
    Root {
        /// The checkpoint's tree size.
        tree_size: TreeSize,
        /// The root that the entries give.
        computed: Digest,
        /// The root that was signed.
        signed: Digest,
    },
    /// A checkpoint covers more entries than there are: the database was rolled back.
    Beyond {
        /// The checkpoint's tree size.
        tree_size: TreeSize,
        /// The number of entries.
        entries: TreeSize,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingEntry { leaf_index } => {
                write!(
                    formatter,
                    "entry {leaf_index} is missing; nothing after it was verified"
                )
            }
            Self::LeafHash { leaf_index } => {
                write!(
                    formatter,
                    "entry {leaf_index} has another leaf hash than its envelope"
                )
            }
            Self::Envelope { leaf_index, detail } => {
                write!(formatter, "entry {leaf_index} does not verify: {detail}")
            }
            Self::Column { leaf_index } => {
                write!(
                    formatter,
                    "entry {leaf_index} has columns that contradict its envelope"
                )
            }
            Self::Node { level, node_index } => write!(
                formatter,
                "tree node {node_index} of level {level} is missing or has a wrong hash"
            ),
            Self::SurplusNodes { expected, found } => {
                write!(
                    formatter,
                    "there are {found} tree nodes where the entries give {expected}"
                )
            }
            Self::Checkpoint { tree_size, detail } => {
                write!(
                    formatter,
                    "checkpoint of size {tree_size} does not verify: {detail}"
                )
            }
            Self::Root {
                tree_size,
                computed,
                signed,
            } => write!(
                formatter,
                "checkpoint of size {tree_size} signs the root {signed}, the entries give {computed}"
            ),
            Self::Beyond { tree_size, entries } => write!(
                formatter,
                "checkpoint of size {tree_size} covers more than the {entries} entries there are"
            ),
        }
    }
}

/// What a check of the whole ledger found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The number of entries.
    pub entries: TreeSize,
    /// The root hash that the entries give.
    pub root_hash: Digest,
    /// The number of tree nodes compared.
    pub nodes: u64,
    /// The number of checkpoints compared.
    pub checkpoints: u64,
    /// How many entries the newest checkpoint covers. Later ones were just recorded.
    pub covered: TreeSize,
    /// What is wrong, at most [`PROBLEMS_MAX`] items.
    pub problems: Vec<Problem>,
    /// How many problems more there are.
    pub problems_left_out: u64,
}

impl CheckReport {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    fn add(&mut self, problem: Problem) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        } else {
            self.problems_left_out += 1;
        }
    }
}

/// One entry as it is stored.
struct Stored {
    leaf_index: i64,
    leaf_hash: Vec<u8>,
    envelope: Vec<u8>,
    kind: String,
    request_id: String,
    image_index: i64,
    client: String,
    created_at_ms: i64,
    image_sha256: Option<Vec<u8>>,
    pixel_sha256: Option<Vec<u8>>,
    model_name: Option<String>,
    model_digest: Option<Vec<u8>>,
    verdict: Option<String>,
}

/// The signed roots that the entries must give, by tree size.
type SignedRoots = BTreeMap<TreeSize, Vec<Digest>>;

impl Ledger {
    /// Verifies everything anew in one snapshot: each envelope's signature, each leaf hash and column,
    /// each tree node, and each published checkpoint, all from the entries alone. Reads the whole
    /// ledger, so it takes its time.
    ///
    /// # Errors
    /// When the database fails. What is wrong with the ledger is in the report.
    pub async fn check(&self) -> Result<CheckReport, LedgerError> {
        self.check_against(&[]).await
    }

    /// As [`check`](Self::check), and compares with checkpoints that somebody kept elsewhere: the
    /// checkpoint store's, or an auditor's.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub async fn check_against(
        &self,
        kept: &[SignedCheckpoint],
    ) -> Result<CheckReport, LedgerError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::raw_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .execute(&mut *transaction)
            .await?;
        let mut check = Check {
            verifier: self.options.public_keys.entries.clone(),
            appender: Appender::empty(),
            signed_roots: SignedRoots::new(),
            report: CheckReport {
                entries: TreeSize::new(0),
                root_hash: empty_root(),
                nodes: 0,
                checkpoints: 0,
                covered: TreeSize::new(0),
                problems: Vec::new(),
                problems_left_out: 0,
            },
        };
        self.load_checkpoints(&mut transaction, kept, &mut check)
            .await?;
        check.compare_roots();
        while check.next_page(&mut transaction).await? {}
        check.finish(&mut transaction).await?;
        transaction.commit().await?;
        Ok(check.report)
    }

    async fn load_checkpoints(
        &self,
        connection: &mut PgConnection,
        kept: &[SignedCheckpoint],
        check: &mut Check,
    ) -> Result<(), LedgerError> {
        let verifier = &self.options.public_keys.checkpoint;
        let rows = sqlx::query!("SELECT tree_size, root_hash, note FROM checkpoints")
            .fetch_all(connection)
            .await?;
        for row in rows {
            let tree_size = crate::entries::tree_size_of(row.tree_size)?;
            check.report.covered = check.report.covered.max(tree_size);
            match parse_checkpoint(&row.note, verifier) {
                Ok(signed)
                    if signed.unverified().tree_size == tree_size
                        && signed.unverified().root_hash.as_bytes()[..] == row.root_hash =>
                {
                    check.expect(&signed);
                }
                Ok(_) => check.report.add(Problem::Checkpoint {
                    tree_size,
                    detail: "its columns contradict its note".to_owned(),
                }),
                Err(error) => check.report.add(Problem::Checkpoint {
                    tree_size,
                    detail: error.to_string(),
                }),
            }
        }
        for signed in kept {
            match signed.verify(verifier) {
                Ok(_) => check.expect(signed),
                Err(error) => check.report.add(Problem::Checkpoint {
                    tree_size: signed.unverified().tree_size,
                    detail: error.to_string(),
                }),
            }
        }
        Ok(())
    }
}

/// A check under way.
struct Check {
    verifier: EntryVerifier,
    appender: Appender,
    /// Roots still to be compared.
    signed_roots: SignedRoots,
    report: CheckReport,
}

impl Check {
    fn expect(&mut self, signed: &SignedCheckpoint) {
        let checkpoint = signed.unverified();
        self.signed_roots
            .entry(checkpoint.tree_size)
            .or_default()
            .push(checkpoint.root_hash);
        self.report.checkpoints += 1;
    }

    /// Compares the signed roots of the size that the tree has now.
    fn compare_roots(&mut self) {
        let tree_size = self.appender.size();
        let Some(roots) = self.signed_roots.remove(&tree_size) else {
            return;
        };
        let computed = self.appender.root();
        for signed in roots.into_iter().filter(|signed| *signed != computed) {
            self.report.add(Problem::Root {
                tree_size,
                computed,
                signed,
            });
        }
    }

    /// Verifies the next entries. Answers whether there may be more.
    async fn next_page(&mut self, connection: &mut PgConnection) -> Result<bool, LedgerError> {
        let first = self.appender.size().get();
        let rows = load_page(connection, to_i64(first, "leaf index")?).await?;
        if rows.is_empty() {
            return Ok(false);
        }
        let verifier = self.verifier.clone();
        let (leaf_hashes, problems) =
            blocking(move || verify_page(first, &rows, &verifier)).await?;
        let mut nodes = Vec::new();
        for leaf_hash in leaf_hashes {
            self.appender.append(leaf_hash, &mut nodes)?;
            self.compare_roots();
        }
        let has_gap = problems
            .iter()
            .any(|problem| matches!(problem, Problem::MissingEntry { .. }));
        for problem in problems {
            self.report.add(problem);
        }
        self.compare_nodes(connection, &nodes).await?;
        Ok(!has_gap)
    }

    async fn compare_nodes(
        &mut self,
        connection: &mut PgConnection,
        nodes: &[NewNode],
    ) -> Result<(), LedgerError> {
        let levels: Vec<i16> = nodes.iter().map(|node| i16::from(node.id.level)).collect();
        let indexes = nodes
            .iter()
            .map(|node| to_i64(node.id.index, "node index"))
            .collect::<Result<Vec<_>, _>>()?;
        let hashes: Vec<&[u8]> = nodes.iter().map(|node| &node.hash.as_bytes()[..]).collect();
        let wrong = sqlx::query!(
            r#"SELECT place AS "place!"
               FROM unnest($1::smallint[], $2::bigint[], $3::bytea[])
                    WITH ORDINALITY AS computed (level, node_index, hash, place)
               LEFT JOIN nodes USING (level, node_index)
               WHERE nodes.hash IS DISTINCT FROM computed.hash
               ORDER BY place"#,
            &levels,
            &indexes,
            &hashes as &[&[u8]]
        )
        .fetch_all(connection)
        .await?;
        self.report.nodes += nodes.len() as u64;
        for row in wrong {
            let place = usize::try_from(row.place - 1)
                .expect("places are counted from 1 up to the length of an array");
            let id = nodes[place].id;
            self.report.add(Problem::Node {
                level: id.level,
                node_index: id.index,
            });
        }
        Ok(())
    }

    async fn finish(&mut self, connection: &mut PgConnection) -> Result<(), LedgerError> {
        let entries = self.appender.size();
        self.report.entries = entries;
        self.report.root_hash = self.appender.root();
        for tree_size in std::mem::take(&mut self.signed_roots).into_keys() {
            self.report.add(Problem::Beyond { tree_size, entries });
        }
        let row = sqlx::query!(r#"SELECT count(*) AS "nodes!" FROM nodes"#)
            .fetch_one(connection)
            .await?;
        let found = u64::try_from(row.nodes).unwrap_or_default();
        if found > self.report.nodes {
            self.report.add(Problem::SurplusNodes {
                expected: self.report.nodes,
                found,
            });
        }
        Ok(())
    }
}

async fn load_page(connection: &mut PgConnection, first: i64) -> Result<Vec<Stored>, LedgerError> {
    let rows = sqlx::query_as!(
        Stored,
        "SELECT leaf_index, leaf_hash, envelope, kind, request_id, image_index, client,
                created_at_ms, image_sha256, pixel_sha256, model_name, model_digest, verdict
         FROM entries WHERE leaf_index >= $1 ORDER BY leaf_index LIMIT $2",
        first,
        PAGE_ENTRIES
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

/// Verifies the entries of a page up to the first gap. Answers their leaf hashes and what is wrong.
fn verify_page(
    first: u64,
    rows: &[Stored],
    verifier: &EntryVerifier,
) -> Result<(Vec<Digest>, Vec<Problem>), LedgerError> {
    let mut leaf_hashes = Vec::with_capacity(rows.len());
    let mut problems = Vec::new();
    for (place, row) in (first..).zip(rows) {
        let leaf_index = LeafIndex::new(place);
        if row.leaf_index != to_i64(place, "leaf index")? {
            problems.push(Problem::MissingEntry { leaf_index });
            break;
        }
        let computed = leaf_hash(&row.envelope);
        if digest(&row.leaf_hash)? != computed {
            problems.push(Problem::LeafHash { leaf_index });
        }
        leaf_hashes.push(computed);
        let entry = Envelope::parse(&row.envelope).and_then(|envelope| envelope.verify(verifier));
        match entry {
            Err(error) => problems.push(Problem::Envelope {
                leaf_index,
                detail: error.to_string(),
            }),
            Ok(entry) if !row.says(&Projection::of(&entry)?) => {
                problems.push(Problem::Column { leaf_index });
            }
            Ok(_) => {}
        }
    }
    Ok((leaf_hashes, problems))
}

impl Stored {
    /// Whether the columns say what the entry says.
    fn says(&self, projection: &Projection) -> bool {
        self.kind == projection.kind
            && self.request_id == projection.request_id
            && self.image_index == projection.image_index
            && self.client == projection.client
            && self.created_at_ms == projection.created_at_ms
            && self.image_sha256 == projection.image_sha256
            && self.pixel_sha256 == projection.pixel_sha256
            && self.model_name == projection.model_name
            && self.model_digest == projection.model_digest
            && self.verdict == projection.verdict
    }
}

//! Verifying the whole ledger anew, from nothing but the entries.

mod ahead;
mod nodes;
mod report;
mod rows;

use std::collections::BTreeMap;

use provenance::merkle::{Appender, empty_root};
use provenance::{
    CheckpointKeys, Digest, KeyHistory, LeafIndex, SignedCheckpoint, TreeSize, WitnessPolicy,
};
use sqlx::PgConnection;

use self::ahead::{Ahead, verify_ahead};
pub use self::report::{CheckReport, CheckedCheckpointKey, CheckedKey, PROBLEMS_MAX, Problem};
use crate::LedgerError;
use crate::blocking::blocking;
use crate::connect::Ledger;
use crate::entries::{Projection, digest, leaf_index_of, to_i64, tree_size_of};
use crate::keys;
use crate::search::TIMES_BLOCK_ENTRIES;
use crate::time_stamps::TimeStampCheck;

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
            checkpoint_keys: self.stated_checkpoint_keys(&mut transaction).await?,
            entry_keys: self.first_key().prepared(),
            witnesses: self.options.witnesses.clone(),
            time_stamp_check: self.options.time_stamps,
            appender: Appender::empty(),
            signed_roots: SignedRoots::new(),
            times: BTreeMap::new(),
            report: CheckReport {
                entries: TreeSize::new(0),
                root_hash: empty_root(),
                nodes: 0,
                checkpoints: 0,
                time_stamps: 0,
                covered: TreeSize::new(0),
                entry_keys: Vec::new(),
                checkpoint_keys: Vec::new(),
                problems: Vec::new(),
                problems_left_out: 0,
            },
        };
        for signed in kept {
            check.expect_verified(signed);
        }
        check.load_checkpoints(&mut transaction, 0, 0).await?;
        check.compare_roots();
        check.walk(&mut transaction).await?;
        check.check_time_stamps(&mut transaction).await?;
        check.finish(&mut transaction).await?;
        transaction.commit().await?;
        Ok(check.report)
    }
}

impl Ledger {
    /// The checkpoint keys that the recorded statements name. Where one of those does not hold, which the check
    /// finds on its way, the log's first one alone.
    async fn stated_checkpoint_keys(
        &self,
        connection: &mut PgConnection,
    ) -> Result<CheckpointKeys, LedgerError> {
        let first = self.first_key();
        let whole = TreeSize::new(i64::MAX.unsigned_abs());
        let history = match keys::statements(connection, whole).await {
            Ok(recorded) => keys::history(first.clone(), &recorded).unwrap_or(first),
            Err(LedgerError::Provenance(_)) => first,
            Err(error) => return Err(error),
        };
        Ok(history.checkpoints().clone())
    }
}

/// A check under way.
struct Check {
    checkpoint_keys: CheckpointKeys,
    /// The keys that signed the entries so far.
    entry_keys: KeyHistory,
    witnesses: WitnessPolicy,
    time_stamp_check: Option<TimeStampCheck>,
    appender: Appender,
    /// Roots still to be compared.
    signed_roots: SignedRoots,
    /// The earliest and the latest time that the columns of each block state.
    times: BTreeMap<i64, (i64, i64)>,
    report: CheckReport,
}

impl Check {
    /// Loads the checkpoints from one tree size to another, both included, and remembers their roots.
    async fn load_checkpoints(
        &mut self,
        connection: &mut PgConnection,
        from: i64,
        to: i64,
    ) -> Result<(), LedgerError> {
        let rows = sqlx::query!(
            "SELECT tree_size, root_hash, note FROM checkpoints
             WHERE tree_size BETWEEN $1 AND $2 ORDER BY tree_size",
            from,
            to
        )
        .fetch_all(&mut *connection)
        .await?;
        for row in rows {
            let tree_size = tree_size_of(row.tree_size)?;
            self.report.covered = self.report.covered.max(tree_size);
            // Its root is compared with the entries, so that it makes no difference whether the key was revoked.
            let signed = SignedCheckpoint::parse(&row.note).and_then(|signed| {
                self.checkpoint_keys.verify_signature(&signed)?;
                Ok(signed)
            });
            match signed {
                Ok(signed)
                    if signed.unverified().tree_size == tree_size
                        && signed.unverified().root_hash.as_bytes()[..] == row.root_hash =>
                {
                    self.expect(&signed);
                }
                Ok(_) => self.report.add(Problem::Checkpoint {
                    tree_size,
                    detail: "its columns contradict its note".to_owned(),
                }),
                Err(error) => self.report.add(Problem::Checkpoint {
                    tree_size,
                    detail: error.to_string(),
                }),
            }
        }
        self.check_cosignatures(connection, from, to).await
    }

    /// Verifies the lines of the witnesses whose keys are known. A line that was changed is never handed
    /// out, so it is missed and not believed.
    async fn check_cosignatures(
        &mut self,
        connection: &mut PgConnection,
        from: i64,
        to: i64,
    ) -> Result<(), LedgerError> {
        if self.witnesses.witnesses().is_empty() {
            return Ok(());
        }
        let rows = sqlx::query!(
            "SELECT tree_size, witness, line, note
             FROM cosignatures JOIN checkpoints USING (tree_size)
             WHERE tree_size BETWEEN $1 AND $2 ORDER BY tree_size, witness",
            from,
            to
        )
        .fetch_all(connection)
        .await?;
        for row in rows {
            let known = self.witnesses.witnesses().iter();
            let Some(witness) = known
                .map(|witness| &witness.key)
                .find(|key| key.key_id() == row.witness)
            else {
                continue;
            };
            let checkpoint = SignedCheckpoint::parse(&row.note);
            let cosigned = checkpoint.and_then(|checkpoint| checkpoint.with_line(&row.line));
            if let Err(error) = cosigned.and_then(|cosigned| witness.verify(&cosigned)) {
                self.report.add(Problem::Cosignature {
                    tree_size: tree_size_of(row.tree_size)?,
                    witness: row.witness,
                    detail: error.to_string(),
                });
            }
        }
        Ok(())
    }

    /// Verifies that each kept time stamp is one of the checkpoint that is stored for its size, byte for byte. That
    /// the checkpoint is one of these entries is found elsewhere.
    async fn check_time_stamps(
        &mut self,
        connection: &mut PgConnection,
    ) -> Result<(), LedgerError> {
        let mut last = -1;
        loop {
            let rows = sqlx::query!(
                r#"SELECT tree_size, reply, note AS "note?"
                   FROM checkpoint_time_stamps LEFT JOIN checkpoints USING (tree_size)
                   WHERE tree_size > $1 ORDER BY tree_size LIMIT $2"#,
                last,
                rows::PAGE_ENTRIES
            )
            .fetch_all(&mut *connection)
            .await?;
            let Some(newest) = rows.last() else {
                return Ok(());
            };
            last = newest.tree_size;
            let verify = self.time_stamp_check;
            let verified = blocking(move || {
                let verified = rows.into_iter().map(|row| {
                    let verified = match (row.note, verify) {
                        (None, _) => Err("there is no such checkpoint".to_owned()),
                        (Some(_), None) => Ok(()),
                        (Some(note), Some(verify)) => verify(note.as_bytes(), &row.reply),
                    };
                    Ok((tree_size_of(row.tree_size)?, verified))
                });
                verified.collect::<Result<Vec<_>, LedgerError>>()
            })
            .await?;
            for (tree_size, verified) in verified {
                self.report.time_stamps += 1;
                if let Err(detail) = verified {
                    self.report.add(Problem::TimeStamp { tree_size, detail });
                }
            }
        }
    }

    fn expect_verified(&mut self, signed: &SignedCheckpoint) {
        match self.checkpoint_keys.verify_signature(signed) {
            Ok(_) => self.expect(signed),
            Err(error) => self.report.add(Problem::Checkpoint {
                tree_size: signed.unverified().tree_size,
                detail: error.to_string(),
            }),
        }
    }

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

    /// Verifies the entries from the first one up to the end or the first gap. While the signatures of a page
    /// are verified, the database compares the nodes of the page before it and reads the page after it.
    async fn walk(&mut self, connection: &mut PgConnection) -> Result<(), LedgerError> {
        let mut rows = rows::load_page(connection, 0).await?;
        let mut verified = Vec::new();
        let mut begin = 0;
        while !(rows.is_empty() && verified.is_empty()) {
            begin += rows.len() as u64;
            let next = verify_ahead(rows, self.entry_keys.clone());
            let database = async {
                let is_whole = self.take_page(connection, verified).await?;
                let first = to_i64(begin, "leaf index")?;
                Ok((is_whole, rows::load_page(connection, first).await?))
            };
            let (next, (is_whole, after)) = tokio::try_join!(next, database)?;
            if !is_whole {
                // What lies behind a gap was not looked at.
                return Ok(());
            }
            (verified, rows) = (next, after);
        }
        self.compare_times(connection).await
    }

    /// Takes the entries of a page in their order. Answers whether there was no gap.
    async fn take_page(
        &mut self,
        connection: &mut PgConnection,
        page: Vec<Ahead>,
    ) -> Result<bool, LedgerError> {
        let first = self.appender.size().get();
        // Sizes are unique, so this is at most one checkpoint for each entry of the page.
        let first_size = to_i64(first + 1, "tree size")?;
        let last_size = to_i64(first + page.len() as u64, "tree size")?;
        self.load_checkpoints(connection, first_size, last_size)
            .await?;
        let mut nodes = Vec::new();
        let mut is_whole = true;
        for ahead in page {
            let leaf_index = LeafIndex::new(self.appender.size().get());
            if ahead.row.leaf_index != to_i64(leaf_index.get(), "leaf index")? {
                self.report.add(Problem::MissingEntry { leaf_index });
                is_whole = false;
                break;
            }
            self.appender.append(ahead.leaf_hash, &mut nodes)?;
            self.compare_roots();
            self.take_entry(leaf_index, ahead)?;
        }
        self.report.nodes += nodes.len() as u64;
        for id in nodes::contradicted(connection, &nodes).await? {
            self.report.add(Problem::Node {
                level: id.level,
                node_index: id.index,
            });
        }
        Ok(is_whole)
    }

    fn take_entry(&mut self, leaf_index: LeafIndex, ahead: Ahead) -> Result<(), LedgerError> {
        let time = ahead.row.created_at_ms;
        let block = ahead.row.leaf_index / TIMES_BLOCK_ENTRIES;
        let (first, last) = self.times.entry(block).or_insert((time, time));
        (*first, *last) = ((*first).min(time), (*last).max(time));
        if digest(&ahead.row.leaf_hash)? != ahead.leaf_hash {
            self.report.add(Problem::LeafHash { leaf_index });
        }
        let met = ahead
            .verified
            .and_then(|verified| self.entry_keys.meet_ahead(leaf_index, verified));
        match met {
            Err(error) => self.report.add(Problem::Envelope {
                leaf_index,
                detail: error.to_string(),
            }),
            Ok(entry) => {
                let says = match ahead.columns_agree {
                    Some(known) => known,
                    None => ahead.row.says(&Projection::of(&entry)?),
                };
                if !says {
                    self.report.add(Problem::Column { leaf_index });
                }
            }
        }
        Ok(())
    }

    async fn compare_times(&mut self, connection: &mut PgConnection) -> Result<(), LedgerError> {
        let rows = sqlx::query!("SELECT block, first_ms, last_ms FROM entry_times")
            .fetch_all(connection)
            .await?;
        let mut kept: BTreeMap<i64, (i64, i64)> = rows
            .into_iter()
            .map(|row| (row.block, (row.first_ms, row.last_ms)))
            .collect();
        let computed = std::mem::take(&mut self.times);
        let mut wrong: Vec<i64> = computed
            .into_iter()
            .filter(|(block, times)| kept.remove(block) != Some(*times))
            .map(|(block, _)| block)
            .collect();
        wrong.extend(kept.into_keys());
        for block in wrong {
            let first = leaf_index_of(block.saturating_mul(TIMES_BLOCK_ENTRIES))?;
            self.report.add(Problem::Times { first });
        }
        Ok(())
    }

    async fn finish(&mut self, connection: &mut PgConnection) -> Result<(), LedgerError> {
        let entries = self.appender.size();
        self.report.entries = entries;
        self.report.root_hash = self.appender.root();
        let keys = self.entry_keys.keys().iter();
        self.report.entry_keys = keys.map(CheckedKey::of).collect();
        let keys = self.entry_keys.checkpoints().keys().iter();
        self.report.checkpoint_keys = keys.map(CheckedCheckpointKey::of).collect();
        self.add_checkpoints_beyond(connection).await?;
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

impl Check {
    /// Adds the checkpoints, published or kept elsewhere, that cover more than there is.
    async fn add_checkpoints_beyond(
        &mut self,
        connection: &mut PgConnection,
    ) -> Result<(), LedgerError> {
        let entries = self.appender.size();
        let rows = sqlx::query!(
            r#"SELECT tree_size, count(*) OVER () AS "found!" FROM checkpoints
               WHERE tree_size > $1 ORDER BY tree_size LIMIT $2"#,
            to_i64(entries.get(), "tree size")?,
            rows::PAGE_ENTRIES
        )
        .fetch_all(connection)
        .await?;
        let listed = rows.len() as u64;
        let found = rows.first().map_or(0, |row| row.found);
        let mut beyond: Vec<TreeSize> =
            std::mem::take(&mut self.signed_roots).into_keys().collect();
        for row in rows {
            let tree_size = tree_size_of(row.tree_size)?;
            self.report.covered = self.report.covered.max(tree_size);
            beyond.push(tree_size);
        }
        beyond.sort_unstable();
        beyond.dedup();
        for tree_size in beyond {
            self.report.add(Problem::Beyond { tree_size, entries });
        }
        let unlisted = u64::try_from(found)
            .unwrap_or_default()
            .saturating_sub(listed);
        self.report.problems_left_out += unlisted;
        Ok(())
    }
}

//! Proofs, folded from the stored hashes of complete subtrees.

use std::collections::{HashMap, HashSet};

use provenance::merkle::{
    NodeId, ProofNodes, TreeHead, consistency_nodes, fold_root, inclusion_nodes, node_hash,
    root_nodes, verify_inclusion,
};
use provenance::{Bundle, Digest, LeafIndex, TreeSize};
use sqlx::PgConnection;

use crate::LedgerError;
use crate::connect::Ledger;
use crate::entries::{digest, to_i64};

impl Ledger {
    /// The bundle of an entry under the newest checkpoint that enough witnesses have cosigned and that
    /// covers it, else under the newest; or under the one of this tree size.
    ///
    /// # Errors
    /// Refuses entries that the checkpoint does not cover, and sizes without a checkpoint.
    pub async fn bundle(
        &self,
        leaf_index: LeafIndex,
        tree_size: Option<TreeSize>,
    ) -> Result<Bundle, LedgerError> {
        let entry = self.entry(leaf_index).await?;
        let checkpoint = match tree_size {
            Some(tree_size) => self.checkpoint(tree_size).await?,
            None => self.checkpoint_covering(leaf_index).await?,
        };
        let tree_size = checkpoint.unverified().tree_size;
        let proof = self.inclusion_proof(leaf_index, tree_size).await?;
        let bundle = Bundle::new(entry.envelope, leaf_index, proof, checkpoint);
        self.with_keys(bundle).await
    }

    /// The inclusion proof of a leaf in the published tree of this size, from the leaf's sibling up.
    ///
    /// # Errors
    /// Refuses leaves outside the tree and sizes that are not published yet.
    pub async fn inclusion_proof(
        &self,
        leaf_index: LeafIndex,
        tree_size: TreeSize,
    ) -> Result<Vec<Digest>, LedgerError> {
        self.check_published(tree_size).await?;
        if !tree_size.contains(leaf_index) {
            return Err(LedgerError::NoSuchEntry {
                leaf_index,
                tree_size,
            });
        }
        self.inclusion_hashes(leaf_index, tree_size).await
    }

    /// The proof that the published tree of the new size continues the one of the old size.
    ///
    /// # Errors
    /// Refuses sizes that are not published yet, a new size below the old, and the empty tree as the
    /// old one.
    pub async fn consistency_proof(
        &self,
        old_size: TreeSize,
        new_size: TreeSize,
    ) -> Result<Vec<Digest>, LedgerError> {
        self.check_published(old_size.max(new_size)).await?;
        let nodes = consistency_nodes(old_size, new_size)?;
        let mut connection = self.pool.acquire().await?;
        let hashes = fetch_nodes(&mut connection, nodes.ids()).await?;
        Ok(nodes.fold(&hashes)?)
    }

    /// The inclusion proof in a tree that the caller knows to be recorded.
    pub(crate) async fn inclusion_hashes(
        &self,
        leaf_index: LeafIndex,
        tree_size: TreeSize,
    ) -> Result<Vec<Digest>, LedgerError> {
        let nodes = inclusion_nodes(leaf_index, tree_size)?;
        let mut connection = self.pool.acquire().await?;
        let hashes = fetch_nodes(&mut connection, nodes.ids()).await?;
        Ok(nodes.fold(&hashes)?)
    }

    async fn check_published(&self, tree_size: TreeSize) -> Result<(), LedgerError> {
        if tree_size > self.published_size().await? {
            return Err(LedgerError::NoSuchCheckpoint { tree_size });
        }
        Ok(())
    }
}

/// The inclusion proofs of these leaves in a recorded tree, each verified against its signed root: a
/// proof that does not hold is never handed out. What the leaves themselves make up is computed; the
/// rest is fetched at once.
pub(crate) async fn prove_all(
    connection: &mut PgConnection,
    leaves: &[(LeafIndex, Digest)],
    head: &TreeHead,
) -> Result<Vec<Vec<Digest>>, LedgerError> {
    let plans = leaves
        .iter()
        .map(|(leaf_index, _)| inclusion_nodes(*leaf_index, head.size))
        .collect::<Result<Vec<_>, _>>()?;
    let mut hashes = subtrees_of(leaves);
    let missing: HashSet<NodeId> = plans
        .iter()
        .flat_map(|plan| plan.ids())
        .filter(|id| !hashes.contains_key(id))
        .copied()
        .collect();
    let missing: Vec<NodeId> = missing.into_iter().collect();
    let fetched = fetch_nodes(connection, &missing).await?;
    hashes.extend(missing.into_iter().zip(fetched));
    let prove = |((leaf_index, leaf_hash), plan): (&(LeafIndex, Digest), &ProofNodes)| {
        let nodes: Vec<Digest> = plan.ids().iter().map(|id| hashes[id]).collect();
        let proof = plan.fold(&nodes)?;
        verify_inclusion(leaf_hash, *leaf_index, head, &proof).map_err(|error| {
            LedgerError::damaged(format!("the proof of entry {leaf_index}: {error}"))
        })?;
        Ok(proof)
    };
    leaves.iter().zip(&plans).map(prove).collect()
}

/// The hashes of all complete subtrees that consist of these leaves alone.
fn subtrees_of(leaves: &[(LeafIndex, Digest)]) -> HashMap<NodeId, Digest> {
    let mut level: Vec<(u64, Digest)> = leaves
        .iter()
        .map(|(leaf_index, leaf_hash)| (leaf_index.get(), *leaf_hash))
        .collect();
    level.sort_unstable_by_key(|(index, _)| *index);
    let mut hashes = HashMap::with_capacity(2 * level.len());
    let mut height = 0;
    while !level.is_empty() {
        let nodes = level.iter();
        hashes.extend(nodes.map(|(index, hash)| (NodeId::new(height, *index), *hash)));
        level = level
            .windows(2)
            .filter(|pair| pair[0].0 & 1 == 0 && pair[1].0 == pair[0].0 + 1)
            .map(|pair| (pair[0].0 >> 1, node_hash(&pair[0].1, &pair[1].1)))
            .collect();
        height += 1;
    }
    hashes
}

/// The hashes of these nodes, in the order asked for.
pub(crate) async fn fetch_nodes(
    connection: &mut PgConnection,
    ids: &[NodeId],
) -> Result<Vec<Digest>, LedgerError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let levels: Vec<i16> = ids.iter().map(|id| i16::from(id.level)).collect();
    let indexes = ids
        .iter()
        .map(|id| to_i64(id.index, "node index"))
        .collect::<Result<Vec<_>, _>>()?;
    let rows = sqlx::query!(
        r#"SELECT nodes.hash AS "hash?"
           FROM unnest($1::smallint[], $2::bigint[]) WITH ORDINALITY AS wanted (level, node_index, place)
           LEFT JOIN nodes ON nodes.level = wanted.level AND nodes.node_index = wanted.node_index
           ORDER BY wanted.place"#,
        &levels,
        &indexes
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .zip(ids)
        .map(|(row, id)| match row.hash {
            Some(hash) => digest(&hash),
            None => Err(LedgerError::damaged(format!(
                "tree node {} of level {} is missing",
                id.index, id.level
            ))),
        })
        .collect()
}

/// The root hash of the first `tree_size` recorded entries.
pub(crate) async fn root_at(
    connection: &mut PgConnection,
    tree_size: TreeSize,
) -> Result<Digest, LedgerError> {
    let edge = fetch_nodes(connection, &root_nodes(tree_size)).await?;
    Ok(fold_root(&edge))
}

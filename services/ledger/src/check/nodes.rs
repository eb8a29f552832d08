//! The stored tree nodes against computed ones.

use std::collections::HashMap;

use provenance::merkle::{NewNode, NodeId};
use sqlx::PgConnection;

use crate::LedgerError;
use crate::entries::to_i64;

/// Which of these computed nodes are not stored, or with another hash. At each level their indexes follow
/// one another, as those of appended leaves do.
pub(super) async fn contradicted(
    connection: &mut PgConnection,
    nodes: &[NewNode],
) -> Result<Vec<NodeId>, LedgerError> {
    let mut ranges: HashMap<u8, (u64, u64)> = HashMap::new();
    for node in nodes {
        let index = node.id.index;
        let (first, last) = ranges.entry(node.id.level).or_insert((index, index));
        (*first, *last) = ((*first).min(index), (*last).max(index));
    }
    let (mut levels, mut firsts, mut lasts) = (Vec::new(), Vec::new(), Vec::new());
    for (level, (first, last)) in ranges {
        levels.push(i16::from(level));
        firsts.push(to_i64(first, "node index")?);
        lasts.push(to_i64(last, "node index")?);
    }
    // One stretch of the index for each level: the offset keeps the planner from joining the other way round.
    let rows = sqlx::query!(
        r#"SELECT stored.level AS "level!", stored.node_index AS "node_index!", stored.hash AS "hash!"
           FROM unnest($1::smallint[], $2::bigint[], $3::bigint[]) AS wanted (level, first, last),
                LATERAL (SELECT * FROM nodes
                         WHERE nodes.level = wanted.level
                               AND nodes.node_index BETWEEN wanted.first AND wanted.last
                         OFFSET 0) AS stored"#,
        &levels,
        &firsts,
        &lasts
    )
    .fetch_all(connection)
    .await?;
    let rows = rows.into_iter();
    let stored: HashMap<(i16, i64), Vec<u8>> = rows
        .map(|row| ((row.level, row.node_index), row.hash))
        .collect();
    let mut wrong = Vec::new();
    for node in nodes {
        let place = (
            i16::from(node.id.level),
            to_i64(node.id.index, "node index")?,
        );
        if stored.get(&place).map(Vec::as_slice) != Some(&node.hash.as_bytes()[..]) {
            wrong.push(node.id);
        }
    }
    Ok(wrong)
}

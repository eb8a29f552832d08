//! `retrace-verify inclusion` and `retrace-verify consistency`

use provenance::merkle::{TreeHead, verify_consistency, verify_inclusion};
use provenance::{LeafIndex, TreeSize};

use crate::arguments::{ConsistencyTask, InclusionTask};
use crate::input::{InputError, parse_hash, parse_hashes};
use crate::report::{Check, Reason, Report};

/// Checks an inclusion proof given on the command line.
pub fn check_inclusion(task: &InclusionTask) -> Result<Report, InputError> {
    const CHECK: &str = "inclusion";
    let leaf_hash = parse_hash("--leaf-hash", &task.leaf_hash)?;
    let root_hash = parse_hash("--root-hash", &task.root_hash)?;
    let proof = parse_hashes("--proof", task.proof.as_deref().unwrap_or_default())?;
    let verify = || -> Result<String, Reason> {
        let head = TreeHead {
            size: TreeSize::new(task.tree_size),
            root_hash: root_hash?,
        };
        verify_inclusion(&leaf_hash?, LeafIndex::new(task.leaf_index), &head, &proof?)?;
        Ok(format!(
            "leaf {} of a tree of size {}",
            task.leaf_index, task.tree_size
        ))
    };
    Ok(report(CHECK, verify()))
}

/// Checks a consistency proof given on the command line.
pub fn check_consistency(task: &ConsistencyTask) -> Result<Report, InputError> {
    const CHECK: &str = "consistency";
    let old_root = parse_hash("--old-root", &task.old_root)?;
    let new_root = parse_hash("--new-root", &task.new_root)?;
    let proof = parse_hashes("--proof", task.proof.as_deref().unwrap_or_default())?;
    let verify = || -> Result<String, Reason> {
        let old = TreeHead {
            size: TreeSize::new(task.old_size),
            root_hash: old_root?,
        };
        let new = TreeHead {
            size: TreeSize::new(task.new_size),
            root_hash: new_root?,
        };
        verify_consistency(&old, &new, &proof?)?;
        Ok(format!(
            "the tree of size {} continues that of size {}",
            new.size, old.size
        ))
    };
    Ok(report(CHECK, verify()))
}

fn report(check: &'static str, outcome: Result<String, Reason>) -> Report {
    Report::of(match outcome {
        Ok(detail) => Check::ok(check, detail),
        Err(reason) => Check::failed(check, reason),
    })
}

//! `cargo xtask sqlx`: the queries of the ledger, described against a freshly migrated database.
//!
//! A build reads the descriptions in `.sqlx/` and needs no database. They are stale when a query or a migration changed
//! and nobody ran this command; `--check` finds that out.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::setup;
use crate::temporary_cluster::TemporaryCluster;
use crate::tree;
use crate::workspace::Workspace;

/// The one package with checked queries.
const PACKAGE: &str = "ledger";

/// Describes every query anew; with `check`, compares with what is committed instead of replacing it.
pub fn run(workspace: &Workspace, check: bool) -> Result<()> {
    setup::run(workspace, setup::Options::default())?;
    let committed = workspace.root().join(".sqlx");
    let fresh = describe(workspace)?;
    if check {
        return compare(&read(&committed)?, &read(fresh.path())?);
    }
    let described = read(fresh.path())?;
    if committed.exists() {
        fs::remove_dir_all(&committed).context(".sqlx cannot be removed")?;
    }
    if !described.is_empty() {
        fs::create_dir(&committed).context(".sqlx cannot be made")?;
    }
    for (name, text) in &described {
        fs::write(committed.join(name), text)
            .with_context(|| format!(".sqlx/{name} cannot be written"))?;
    }
    eprintln!("{} queries are described in .sqlx", described.len());
    Ok(())
}

/// Compiles the package against a migrated database; its macros write one file a query.
fn describe(workspace: &Workspace) -> Result<TempDir> {
    let folder = tempfile::tempdir().context("no temporary folder can be made")?;
    let cluster = TemporaryCluster::migrated(
        &workspace.runtime().join("postgres"),
        &workspace.root().join("migrations"),
    )?;
    // The macros run only when the package is compiled. A changed time makes cargo compile it; with its old time back,
    // the other builds of the package stay fresh.
    let source = workspace
        .root()
        .join("services")
        .join(PACKAGE)
        .join("src/lib.rs");
    let before = fs::metadata(&source)
        .and_then(|data| data.modified())
        .context("the package's source has no time")?;
    set_time(&source, SystemTime::now())?;
    let mut command = workspace.cargo();
    command
        .args(["check", "--quiet", "--all-targets", "--package", PACKAGE])
        .env("SQLX_OFFLINE", "false")
        .env("SQLX_OFFLINE_DIR", folder.path())
        .env("DATABASE_URL", cluster.database_url());
    let checked = Workspace::must_succeed(command, "cargo check against the database");
    set_time(&source, before)?;
    checked.map(|()| folder)
}

fn set_time(path: &Path, time: SystemTime) -> Result<()> {
    fs::File::options()
        .append(true)
        .open(path)
        .and_then(|file| file.set_modified(time))
        .with_context(|| format!("the time of {} cannot be set", path.display()))
}

fn read(folder: &Path) -> Result<BTreeMap<String, String>> {
    if !folder.exists() {
        return Ok(BTreeMap::new());
    }
    let json = tree::files(folder)?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "json"));
    json.map(|path| {
        let text = fs::read_to_string(folder.join(&path))
            .with_context(|| format!("{} cannot be read", path.display()))?;
        Ok((path.to_string_lossy().into_owned(), text))
    })
    .collect()
}

fn compare(committed: &BTreeMap<String, String>, fresh: &BTreeMap<String, String>) -> Result<()> {
    let stale = committed
        .keys()
        .filter(|name| !fresh.contains_key(*name))
        .map(|name| format!("no query any more: {name}"));
    let changed = fresh
        .iter()
        .filter(|(name, text)| committed.get(*name) != Some(text));
    let changed = changed.map(|(name, _)| format!("missing or different: {name}"));
    let differences: Vec<String> = stale.chain(changed).collect();
    if !differences.is_empty() {
        bail!(
            ".sqlx is stale; run cargo xtask sqlx\n{}",
            differences.join("\n")
        );
    }
    eprintln!(".sqlx describes all {} queries", fresh.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect()
    }

    #[test]
    fn a_missing_a_changed_and_a_superfluous_description_are_found() {
        let fresh = described(&[("a", "1"), ("b", "2")]);
        assert!(compare(&fresh, &fresh).is_ok());
        for committed in [
            &[("a", "1")][..],
            &[("a", "1"), ("b", "3")],
            &[("a", "1"), ("b", "2"), ("c", "4")],
        ] {
            assert!(compare(&described(committed), &fresh).is_err());
        }
    }
}

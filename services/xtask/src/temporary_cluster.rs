//! A Postgres of a few seconds: made, migrated, used by one cargo call, removed.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::tree;

/// The user and group `nobody`: Postgres refuses to run as root.
const NOBODY: u32 = 65534;
/// A start takes about a second; a loaded machine gets plenty.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How often to look whether the server answers.
const POLL: Duration = Duration::from_millis(50);
/// Name of the one database.
const DATABASE: &str = "queries";

/// A running server on a unix socket in a temporary folder.
pub struct TemporaryCluster {
    home: TempDir,
    binaries: PathBuf,
    as_nobody: bool,
    server: Option<Child>,
}

impl TemporaryCluster {
    /// Makes and starts a cluster from the Postgres in `postgres` (`bin`, `lib`, `share`) and applies every migration
    /// of `migrations` in order of name.
    pub fn migrated(postgres: &Path, migrations: &Path) -> Result<Self> {
        let home = tempfile::Builder::new()
            .prefix("retrace-queries-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .context("no temporary folder can be made")?;
        let as_nobody = rustix::process::geteuid().is_root();
        // The unprivileged user may not be able to reach a checkout below a closed home folder.
        let binaries = if as_nobody {
            copy_tree(postgres, &home.path().join("postgres"))?
        } else {
            postgres.to_owned()
        };
        let mut cluster = Self {
            home,
            binaries,
            as_nobody,
            server: None,
        };
        cluster.initialise()?;
        cluster.start()?;
        cluster.migrate(migrations)?;
        Ok(cluster)
    }

    /// The address of the migrated database.
    pub fn database_url(&self) -> String {
        format!(
            "postgres://postgres@localhost/{DATABASE}?host={}&sslmode=disable",
            self.home.path().display()
        )
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.binaries.join("bin").join(name));
        command
            .env("LD_LIBRARY_PATH", self.binaries.join("lib"))
            .current_dir(self.home.path())
            .stdin(Stdio::null());
        if self.as_nobody {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    fn initialise(&self) -> Result<()> {
        if self.as_nobody {
            chown(self.home.path(), Some(NOBODY), Some(NOBODY))
                .context("the temporary folder cannot change its owner")?;
        }
        let output = self
            .program("initdb")
            .args([
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
                "-D",
            ])
            .arg(self.data())
            .output()
            .context("initdb cannot be started; cargo xtask setup brings it")?;
        ensure!(
            output.status.success(),
            "initdb failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        let log_path = self.home.path().join("log");
        let log = File::create(&log_path).context("the server's log cannot be made")?;
        let mut command = self.program("postgres");
        command
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(self.home.path());
        // This data lives for seconds: no need to wait for the disk.
        command
            .args(["-c", "listen_addresses=", "-c", "fsync=off"])
            .stdout(Stdio::null())
            .stderr(log);
        let server = self
            .server
            .insert(command.spawn().context("postgres cannot be started")?);
        let deadline = Instant::now() + START_TIMEOUT;
        let socket = self.home.path().join(".s.PGSQL.5432");
        while !socket.exists() || !self.home.path().join("data/postmaster.pid").exists() {
            if let Some(status) = server.try_wait()? {
                bail!(
                    "postgres ended with {status}: {}",
                    fs::read_to_string(&log_path).unwrap_or_default()
                );
            }
            ensure!(
                Instant::now() < deadline,
                "postgres did not start within {} s",
                START_TIMEOUT.as_secs()
            );
            std::thread::sleep(POLL);
        }
        let mut answers = self.program("pg_isready");
        answers
            .arg("-h")
            .arg(self.home.path())
            .args(["-t", "30"])
            .stdout(Stdio::null());
        while !answers
            .status()
            .context("pg_isready cannot be started")?
            .success()
        {
            ensure!(
                Instant::now() < deadline,
                "postgres did not answer within {} s",
                START_TIMEOUT.as_secs()
            );
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn migrate(&self, migrations: &Path) -> Result<()> {
        let create = format!("CREATE DATABASE {DATABASE}");
        self.psql("postgres", |command| command.args(["-c", &create]))?;
        let scripts = tree::files(migrations)?
            .into_iter()
            .filter(|path| path.extension().is_some_and(|end| end == "sql"));
        for script in scripts {
            // psql runs as another user, which may not be able to read the checkout: it gets the text itself.
            let text = File::open(migrations.join(&script))
                .with_context(|| format!("{} cannot be read", script.display()))?;
            self.psql(DATABASE, |command| {
                command.arg("--single-transaction").stdin(text)
            })
            .with_context(|| format!("migration {}", script.display()))?;
        }
        Ok(())
    }

    fn psql(&self, database: &str, more: impl FnOnce(&mut Command) -> &mut Command) -> Result<()> {
        let mut command = self.program("psql");
        command
            .args([
                "-X",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                "postgres",
                "-d",
                database,
                "-h",
            ])
            .arg(self.home.path());
        let output = more(&mut command)
            .output()
            .context("psql cannot be started")?;
        ensure!(
            output.status.success(),
            "psql failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}

impl Drop for TemporaryCluster {
    fn drop(&mut self) {
        let Some(server) = &mut self.server else {
            return;
        };
        // SIGINT asks for a fast shutdown. The folder goes away after it, so a failure here loses nothing.
        if let Some(pid) = i32::try_from(server.id()).ok().and_then(Pid::from_raw)
            && kill_process(pid, Signal::INT).is_ok()
        {
            let _ = server.wait();
        }
    }
}

/// Copies a folder of plain files with their modes and returns where it lies now.
fn copy_tree(from: &Path, to: &Path) -> Result<PathBuf> {
    for path in tree::files(from)? {
        let target = to.join(&path);
        let folder = target.parent().context("a file lies in a folder")?;
        fs::create_dir_all(folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
        fs::copy(from.join(&path), &target)
            .with_context(|| format!("{} cannot be copied", path.display()))?;
    }
    Ok(to.to_owned())
}

//! Making, starting, finding and stopping the Postgres server of a private cluster.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::place::{Place, make_private};
use crate::LedgerError;

/// A server that replays a long write-ahead log after a crash needs this long before it answers.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(120);
/// A fast shutdown writes one checkpoint; after this the server is left to finish alone.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a starting or stopping server is looked at.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// The log is cut at a start when it has grown over this.
const LOG_BYTES_MAX: u64 = 4 << 20;
/// How much of a log an error message repeats.
const LAST_LINES: usize = 5;
/// The superuser of the cluster.
pub(super) const SUPERUSER: &str = "postgres";

/// A started server whose end is watched by a thread, so that it never stays a zombie.
#[derive(Debug)]
pub(super) struct Watched {
    ended: mpsc::Receiver<ExitStatus>,
}

impl Watched {
    /// The exit status, once the server has ended.
    pub(super) fn exit_status(&self) -> Option<ExitStatus> {
        self.ended.try_recv().ok()
    }
}

/// Runs `initdb` unless the cluster exists. Blocks.
pub(super) fn make_cluster(place: &Place) -> Result<(), LedgerError> {
    let pgdata = place.pgdata();
    if pgdata.join("PG_VERSION").exists() {
        return Ok(());
    }
    // A crash inside `initdb` leaves this folder half-filled; it is emptied and filled again.
    let half = place.home.join("pgdata.new");
    if half.exists() {
        fs::remove_dir_all(&half).map_err(|source| LedgerError::io("empty", &half, source))?;
    }
    make_private(&half, place.run_as)?;
    let output = command(place, "initdb")
        .arg("--pgdata")
        .arg(&half)
        .args([
            "--username",
            SUPERUSER,
            "--encoding",
            "UTF8",
            "--locale",
            "C",
        ])
        // The socket's folder admits one user only, so whoever reaches the socket may connect.
        .args(["--auth", "trust", "--no-instructions"])
        .output()
        .map_err(|source| LedgerError::io("run", &place.binaries.join("bin/initdb"), source))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(failure(place, &text, |detail| LedgerError::InitdbFailed {
            detail,
        }));
    }
    fs::rename(&half, &pgdata).map_err(|source| LedgerError::io("rename", &half, source))
}

/// Starts the server. It outlives this process: who leaves last stops it. Blocks.
pub(super) fn start(place: &Place) -> Result<Watched, LedgerError> {
    wait_for_old_server(place)?;
    let log = open_log(&place.log())?;
    let errors = log
        .try_clone()
        .map_err(|source| LedgerError::io("open", &place.log(), source))?;
    let mut child = command(place, "postgres")
        .arg("-D")
        .arg(place.pgdata())
        .arg("-k")
        .arg(&place.socket)
        .args(["-p", "5432", "-c", "listen_addresses="])
        .args([
            "-c",
            "unix_socket_permissions=0700",
            "-c",
            "cluster_name=retrace",
        ])
        // What the ledger promises rests on these three; said here so that no file can turn them off.
        .args([
            "-c",
            "fsync=on",
            "-c",
            "full_page_writes=on",
            "-c",
            "synchronous_commit=on",
        ])
        .args([
            "-c",
            "timezone=UTC",
            "-c",
            "log_timezone=UTC",
            "-c",
            "max_connections=200",
        ])
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        // Ctrl-C in the terminal must reach the service first, not the database under it.
        .process_group(0)
        .spawn()
        .map_err(|source| LedgerError::io("run", &place.binaries.join("bin/postgres"), source))?;
    let (report, ended) = mpsc::channel();
    std::thread::spawn(move || {
        if let Ok(status) = child.wait() {
            // Nobody listens once the handle is gone; the wait itself is what matters then.
            let _ = report.send(status);
        }
    });
    Ok(Watched { ended })
}

/// What the end of the server's log says about a failed start.
pub(super) fn start_failure(place: &Place) -> LedgerError {
    let text = fs::read(place.log()).unwrap_or_default();
    failure(place, &String::from_utf8_lossy(&text), |detail| {
        LedgerError::PostgresFailed { detail }
    })
}

/// Whether the server's process lives, though it may not answer yet or no more.
pub(super) fn is_running(place: &Place) -> bool {
    server_pid(place).is_some_and(|pid| is_server(pid, &place.pgdata()))
}

/// Asks the server to stop (fast shutdown) and waits until it has. Blocks.
pub(super) fn stop(place: &Place) {
    let pgdata = place.pgdata();
    let Some(pid) = server_pid(place).filter(|pid| is_server(*pid, &pgdata)) else {
        return;
    };
    if kill_process(pid, Signal::INT).is_err() {
        return;
    }
    let deadline = Instant::now() + STOP_TIMEOUT;
    while server_pid(place).is_some() && is_server(pid, &pgdata) && Instant::now() < deadline {
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// After a kill, helpers of the old server may live a moment longer, and a pid file stays. Postgres
/// clears the file itself, except where the number now belongs to a zombie or to another program.
fn wait_for_old_server(place: &Place) -> Result<(), LedgerError> {
    let deadline = Instant::now() + START_TIMEOUT;
    while has_processes(&place.pgdata()) {
        if Instant::now() > deadline {
            return Err(LedgerError::PostgresFailed {
                detail: "an older server on the same data neither answers nor ends".into(),
            });
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
    if let Some(pid) = server_pid(place)
        && !is_server(pid, &place.pgdata())
    {
        let file = place.pgdata().join("postmaster.pid");
        fs::remove_file(&file).map_err(|source| LedgerError::io("remove", &file, source))?;
    }
    Ok(())
}

/// The number in the pid file, which the server removes when it stops.
fn server_pid(place: &Place) -> Option<Pid> {
    let text = fs::read_to_string(place.pgdata().join("postmaster.pid")).ok()?;
    Pid::from_raw(text.lines().next()?.trim().parse().ok()?)
}

/// Whether this process is the live server of this data folder. After a restart of the machine or of a
/// container, the number in an old pid file may belong to anything.
fn is_server(pid: Pid, pgdata: &Path) -> bool {
    let process = Path::new("/proc").join(pid.as_raw_nonzero().to_string());
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    let works_elsewhere = fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd != pgdata);
    name.trim_end() == "postgres" && !works_elsewhere && !is_zombie(&process)
}

fn is_zombie(process: &Path) -> bool {
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    status
        .lines()
        .any(|line| line.starts_with("State:") && line.contains('Z'))
}

/// Whether any live process works in the data folder, as all processes of a server do.
fn has_processes(pgdata: &Path) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else {
        return false;
    };
    processes.flatten().any(|process| {
        fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == pgdata)
            && !is_zombie(&process.path())
    })
}

fn command(place: &Place, program: &str) -> Command {
    let mut command = Command::new(place.binaries.join("bin").join(program));
    command
        .env_clear()
        // The wheel's programs look for their libraries in a folder that only exists in site-packages.
        .env("LD_LIBRARY_PATH", place.binaries.join("lib"))
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C")
        .current_dir(&place.home);
    if let Some(id) = place.run_as {
        command.uid(id).gid(id);
    }
    command
}

fn open_log(path: &Path) -> Result<File, LedgerError> {
    let too_long = fs::metadata(path).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX);
    let mut options = OpenOptions::new();
    options.create(true);
    if too_long {
        options.write(true).truncate(true);
    } else {
        options.append(true);
    }
    options
        .open(path)
        .map_err(|source| LedgerError::io("open", path, source))
}

fn failure(
    place: &Place,
    text: &str,
    otherwise: impl FnOnce(String) -> LedgerError,
) -> LedgerError {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("; ");
    if last.contains("No space left on device") || last.contains("Disk quota exceeded") {
        return LedgerError::DiskFull {
            path: place.home.clone(),
        };
    }
    otherwise(last)
}

//! The private cluster: starting, sharing, stopping, recovering, and places that are closed.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ledger::LedgerError;
use ledger::cluster::{ClusterOptions, PrivateCluster};
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;

use crate::support::{binaries, until};

/// Tells a child process of a test where to start a cluster.
const CHILD: &str = "LEDGER_TEST_CLUSTER";

/// A folder that every user may pass through.
pub fn temporary_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path());
    folder
}

fn open(folder: &Path) {
    fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
}

fn server_pid(home: &Path) -> Option<i32> {
    let text = fs::read_to_string(home.join("pgdata/postmaster.pid")).ok()?;
    text.lines().next()?.parse().ok()
}

/// Kills the server so that it can do nothing more.
pub fn kill_server(home: &Path) {
    let pid = rustix::process::Pid::from_raw(server_pid(home).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

async fn answers(cluster: &PrivateCluster) -> bool {
    let url = cluster.database_url(PrivateCluster::DATABASE);
    PgConnection::connect(&url).await.is_ok()
}

fn options(folder: &Path) -> ClusterOptions {
    ClusterOptions::new(binaries(), folder.join("postgres"))
}

#[tokio::test]
async fn a_second_user_attaches_and_the_last_one_stops_the_server() {
    let folder = temporary_folder();
    let first = PrivateCluster::start_or_attach(&options(folder.path()))
        .await
        .unwrap();
    let pid = server_pid(first.home()).unwrap();
    let second = PrivateCluster::start_or_attach(&options(folder.path()))
        .await
        .unwrap();
    assert_eq!(server_pid(second.home()), Some(pid));
    // Who started it leaves first, and the other goes on with it.
    first.stop().await.unwrap();
    assert!(answers(&second).await);
    let home = second.home().to_owned();
    second.stop().await.unwrap();
    assert_eq!(server_pid(&home), None);
    // What was made stays.
    let third = PrivateCluster::start_or_attach(&options(folder.path()))
        .await
        .unwrap();
    assert!(answers(&third).await);
    drop(third);
    assert_eq!(server_pid(&home), None);
}

#[tokio::test]
async fn many_users_who_come_at_once_share_one_server() {
    let folder = temporary_folder();
    let starts: Vec<_> = (0..4)
        .map(|_| {
            let options = options(folder.path());
            tokio::spawn(async move { PrivateCluster::start_or_attach(&options).await })
        })
        .collect();
    let mut clusters = Vec::new();
    for start in starts {
        clusters.push(start.await.unwrap().unwrap());
    }
    let home = clusters[0].home().to_owned();
    for cluster in clusters {
        assert!(answers(&cluster).await);
        cluster.stop().await.unwrap();
    }
    assert_eq!(server_pid(&home), None);
}

#[tokio::test]
async fn a_killed_server_is_started_again() {
    let folder = temporary_folder();
    let first = PrivateCluster::start_or_attach(&options(folder.path()))
        .await
        .unwrap();
    first.create_database("kept").await.unwrap();
    kill_server(first.home());
    let second = PrivateCluster::start_or_attach(&options(folder.path()))
        .await
        .unwrap();
    PgConnection::connect(&second.database_url("kept"))
        .await
        .unwrap();
    drop(first);
    assert!(answers(&second).await);
    second.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_dies_under_its_users_is_started_again_by_one_of_them() {
    let folder = temporary_folder();
    let options = options(folder.path());
    let first = PrivateCluster::start_or_attach(&options).await.unwrap();
    let second = PrivateCluster::start_or_attach(&options).await.unwrap();
    first.create_database("kept").await.unwrap();
    let killed = server_pid(first.home()).unwrap();
    kill_server(first.home());
    until(async || answers(&first).await).await;
    assert_ne!(server_pid(first.home()), Some(killed));
    PgConnection::connect(&second.database_url("kept"))
        .await
        .unwrap();
    let home = first.home().to_owned();
    first.stop().await.unwrap();
    second.stop().await.unwrap();
    assert_eq!(server_pid(&home), None);
}

#[tokio::test]
async fn a_server_whose_users_were_killed_is_found_and_stopped_at_last() {
    let folder = temporary_folder();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "cluster::child_starts_a_cluster", "--nocapture"])
        .env(CHILD, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(
        lines
            .map_while(Result::ok)
            .any(|line| line.contains("cluster started"))
    );
    child.kill().unwrap();
    child.wait().unwrap();
    let pid = server_pid(&folder.path().join("postgres")).unwrap();
    let cluster = PrivateCluster::start_or_attach(&options(folder.path()))
        .await
        .unwrap();
    assert_eq!(server_pid(cluster.home()), Some(pid));
    assert!(answers(&cluster).await);
    let home = cluster.home().to_owned();
    cluster.stop().await.unwrap();
    assert_eq!(server_pid(&home), None);
}

/// The other half of the test above; does nothing unless that test runs it.
#[tokio::test]
async fn child_starts_a_cluster() {
    let Some(folder) = std::env::var_os(CHILD) else {
        return;
    };
    let cluster = PrivateCluster::start_or_attach(&options(Path::new(&folder)))
        .await
        .unwrap();
    println!("cluster started");
    std::future::pending::<()>().await;
    drop(cluster);
}

#[tokio::test]
async fn a_long_data_path_works() {
    let folder = temporary_folder();
    let deep = folder.path().join("x".repeat(120));
    fs::create_dir(&deep).unwrap();
    open(&deep);
    let cluster = PrivateCluster::start_or_attach(&options(&deep))
        .await
        .unwrap();
    assert!(answers(&cluster).await);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn root_places_a_cluster_outside_of_a_closed_folder() {
    if !rustix::process::geteuid().is_root() {
        // Only root runs the server as somebody else.
        return;
    }
    let closed = tempfile::tempdir().unwrap();
    fs::set_permissions(closed.path(), Permissions::from_mode(0o700)).unwrap();
    let closed_binaries = closed.path().join("runtime");
    let copied = Command::new("cp")
        .arg("-r")
        .arg(binaries())
        .arg(&closed_binaries)
        .status();
    assert!(copied.unwrap().success());
    let system = temporary_folder();
    let mut options = ClusterOptions::new(closed_binaries, closed.path().join("postgres"));
    options.system = system.path().join("retrace");
    for _ in 0..2 {
        let cluster = PrivateCluster::start_or_attach(&options).await.unwrap();
        assert!(answers(&cluster).await);
        assert!(
            cluster.home().starts_with(&options.system),
            "{}",
            cluster.home().display()
        );
        cluster.stop().await.unwrap();
    }
}

#[tokio::test]
async fn data_in_a_folder_that_was_closed_later_is_not_replaced_by_an_empty_cluster() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let folder = temporary_folder();
    let mut options = options(folder.path());
    options.system = folder.path().join("system");
    PrivateCluster::start_or_attach(&options)
        .await
        .unwrap()
        .stop()
        .await
        .unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    let refused = PrivateCluster::start_or_attach(&options)
        .await
        .err()
        .unwrap();
    assert!(
        matches!(refused, LedgerError::ClosedPlace { .. }),
        "{refused:?}"
    );
    open(folder.path());
    PrivateCluster::start_or_attach(&options)
        .await
        .unwrap()
        .stop()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_socket_folder_that_others_may_enter_is_refused() {
    let folder = temporary_folder();
    let socket = folder.path().join("postgres/socket");
    fs::create_dir_all(&socket).unwrap();
    fs::set_permissions(&socket, Permissions::from_mode(0o777)).unwrap();
    open(&folder.path().join("postgres"));
    let refused = PrivateCluster::start_or_attach(&options(folder.path()))
        .await
        .err()
        .unwrap();
    assert!(
        matches!(refused, LedgerError::ForeignFolder { .. }),
        "{refused:?}"
    );
}

#[tokio::test]
async fn missing_binaries_are_named_with_the_command_that_brings_them() {
    let folder = temporary_folder();
    let options = ClusterOptions::new(folder.path().join("nothing"), folder.path().join("data"));
    let refused = PrivateCluster::start_or_attach(&options)
        .await
        .err()
        .unwrap();
    assert!(
        matches!(refused, LedgerError::MissingNativePart { .. }),
        "{refused:?}"
    );
    assert!(
        refused.to_string().contains("cargo xtask setup"),
        "{refused}"
    );
}

#[tokio::test]
async fn what_initdb_says_at_its_end_is_said() {
    let folder = temporary_folder();
    let options = ClusterOptions::new(
        failing_binaries(folder.path(), "one\ntwo\nthree\nfour\nfive\nsix"),
        folder.path().join("data"),
    );
    let refused = PrivateCluster::start_or_attach(&options)
        .await
        .err()
        .unwrap();
    let LedgerError::InitdbFailed { detail } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(detail, "two; three; four; five; six");
}

#[tokio::test]
async fn a_full_disk_is_called_a_full_disk() {
    let folder = temporary_folder();
    let options = ClusterOptions::new(
        failing_binaries(
            folder.path(),
            "could not write to file: No space left on device",
        ),
        folder.path().join("data"),
    );
    let refused = PrivateCluster::start_or_attach(&options)
        .await
        .err()
        .unwrap();
    assert!(
        matches!(refused, LedgerError::DiskFull { .. }),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_server_that_does_not_start_says_why() {
    let folder = temporary_folder();
    let cluster = PrivateCluster::start_or_attach(&options(folder.path()))
        .await
        .unwrap();
    let home = cluster.home().to_owned();
    cluster.stop().await.unwrap();
    let file = home.join("pgdata/postgresql.conf");
    let sound = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{sound}\nno_such_setting = on\n")).unwrap();
    let refused = PrivateCluster::start_or_attach(&options(folder.path()))
        .await
        .err()
        .unwrap();
    assert!(refused.to_string().contains("no_such_setting"), "{refused}");
    fs::write(&file, sound).unwrap();
    let cluster = PrivateCluster::start_or_attach(&options(folder.path()))
        .await
        .unwrap();
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn names_of_databases_are_plain() {
    let folder = temporary_folder();
    let cluster = PrivateCluster::start_or_attach(&options(folder.path()))
        .await
        .unwrap();
    for name in ["", "Upper", "a\"b", "a b", &"x".repeat(64)] {
        let refused = cluster.create_database(name).await;
        assert!(
            matches!(refused, Err(LedgerError::DatabaseName { .. })),
            "{name:?}"
        );
    }
    cluster.stop().await.unwrap();
}

/// Binaries whose `initdb` fails with these words.
fn failing_binaries(folder: &Path, words: &str) -> PathBuf {
    let binaries = folder.join("binaries");
    for part in ["bin", "lib", "share"] {
        fs::create_dir_all(binaries.join(part)).unwrap();
        open(&binaries.join(part));
    }
    open(&binaries);
    fs::write(binaries.join("share/postgres.bki"), "").unwrap();
    let script = format!("#!/bin/sh\necho '{words}' >&2\nexit 1\n");
    for program in ["initdb", "postgres"] {
        let program = binaries.join("bin").join(program);
        fs::write(&program, &script).unwrap();
        open(&program);
    }
    binaries
}

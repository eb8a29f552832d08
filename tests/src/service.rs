//! Starting the service for a test: `spawn_app()` is the only way in.

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use api::config::Config;
use api::startup::App;
use ledger::cluster::{ClusterOptions, PrivateCluster};
use ledger::{CheckReport, Ledger, LedgerOptions, Scope};
use provenance::{Envelope, PublicKeys};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::client::Client;
use crate::house::root;
use crate::programs::program;

/// The private Postgres that the tests of one program share while one of them runs.
struct TestCluster {
    cluster: Option<PrivateCluster>,
    runtime: Runtime,
    databases: Mutex<u32>,
    // Removed last, after the server in it has stopped.
    _home: TempDir,
}

static SHARED: Mutex<Weak<TestCluster>> = Mutex::new(Weak::new());

impl TestCluster {
    /// The cluster that runs already, or a new one.
    fn shared() -> Result<Arc<Self>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return Ok(running);
        }
        let started = Arc::new(Self::start()?);
        *shared = Arc::downgrade(&started);
        Ok(started)
    }

    fn start() -> Result<Self> {
        let home = reachable_folder()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let options = ClusterOptions {
            binaries: runtime_folder().join("postgres"),
            data: home.path().join("data"),
            system: home.path().join("system"),
        };
        let cluster = runtime
            .block_on(PrivateCluster::start_or_attach(&options))
            .context("the private Postgres does not start (cargo xtask setup brings it)")?;
        Ok(Self {
            cluster: Some(cluster),
            runtime,
            databases: Mutex::new(0),
            _home: home,
        })
    }

    fn cluster(&self) -> &PrivateCluster {
        self.cluster
            .as_ref()
            .expect("the cluster is taken only when the last test has ended")
    }

    /// A database of its own, empty, and its address.
    fn new_database(&self) -> Result<String> {
        let mut databases = self
            .databases
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *databases += 1;
        let name = format!("test_{databases}");
        self.runtime
            .block_on(self.cluster().create_database(&name))?;
        Ok(self.cluster().database_url(&name))
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        if let Some(cluster) = self.cluster.take() {
            // What goes wrong here leaves a folder behind and falsifies no test.
            let _ = self.runtime.block_on(cluster.stop());
        }
    }
}

/// A temporary folder that the unprivileged user of a Postgres started by root can enter.
pub fn reachable_folder() -> Result<TempDir> {
    use std::os::unix::fs::PermissionsExt;
    let open = std::fs::Permissions::from_mode(0o755);
    tempfile::Builder::new()
        .prefix("retrace-test-")
        .permissions(open)
        .tempdir()
        .context("no temporary folder can be made")
}

/// The folder of the native parts.
pub fn runtime_folder() -> PathBuf {
    match std::env::var_os("RETRACE_RUNTIME") {
        Some(folder) if !folder.is_empty() => PathBuf::from(folder),
        _ => root().join(".runtime"),
    }
}

/// A sample photograph among the native parts.
pub fn photograph(name: &str) -> Vec<u8> {
    let path = runtime_folder().join("samples").join(name);
    std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{} (cargo xtask setup brings it): {error}", path.display()))
}

/// The real service, on a port of its own, with a database of its own.
///
/// When it is dropped it stops in order, and the whole ledger is verified anew from its entries.
pub struct TestService {
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
    database_url: String,
    public_keys: PublicKeys,
    cluster: Arc<TestCluster>,
    state: TempDir,
}

/// Starts the service with its defaults.
pub fn spawn_app() -> TestService {
    spawn_app_with(|_| ())
}

/// Starts the service on a state folder that holds something already.
pub fn spawn_app_on(state: TempDir) -> TestService {
    TestService::start(state, None, |_| ())
        .unwrap_or_else(|error| panic!("the service does not start: {error:#}"))
}

/// Starts the service with a watermark key that is always the same: the key changes an image's starting noise, and
/// with it, a little, how well the image is traced back from a damaged copy.
pub fn spawn_app_with_known_mark() -> TestService {
    state_with_known_mark()
        .and_then(|state| TestService::start(state, None, |_| ()))
        .unwrap_or_else(|error| panic!("the service does not start: {error:#}"))
}

fn state_with_known_mark() -> Result<TempDir> {
    let state = reachable_folder()?;
    let keys = state.path().join("keys");
    std::fs::create_dir(&keys)?;
    let seed = keys.join("watermark.seed");
    std::fs::write(&seed, "07".repeat(32))?;
    std::fs::set_permissions(&seed, Permissions::from_mode(0o600))?;
    Ok(state)
}

/// Starts the service on a state folder that holds something already, with some settings changed.
pub fn spawn_app_on_with(state: TempDir, change: impl FnOnce(&mut Config)) -> TestService {
    TestService::start(state, None, change)
        .unwrap_or_else(|error| panic!("the service does not start: {error:#}"))
}

/// The real program as a process of its own, killed when it is dropped.
pub struct TestProcess {
    child: Child,
    port: u16,
}

impl TestProcess {
    /// Starts `retrace serve` on a state folder, on a free port, and waits until it is bound. Without a
    /// database it uses the private cluster of the state folder.
    pub fn start(state: &Path, database_url: Option<&str>, arguments: &[&str]) -> Self {
        let path = program("retrace").unwrap_or_else(|error| panic!("{error:#}"));
        let mut command = Command::new(path);
        command
            .args(["serve", "--port", "0", "--json", "--threads", "1"])
            .args(arguments)
            .env_remove("DATABASE_URL")
            .env("RETRACE_STATE", state)
            .env("RETRACE_MODELS", root().join("models"))
            .env("RETRACE_RUNTIME", runtime_folder())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if let Some(url) = database_url {
            command.env("DATABASE_URL", url);
        }
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("the program does not start: {error}"));
        let output = child.stdout.take().expect("the output is piped");
        let mut line = String::new();
        let read = BufReader::new(output).read_line(&mut line);
        let told = read.ok().and_then(|_| {
            let document: serde_json::Value = serde_json::from_str(&line).ok()?;
            u16::try_from(document["port"].as_u64()?).ok()
        });
        let port = told.unwrap_or_else(|| panic!("{arguments:?} did not start: {line:?}"));
        Self { child, port }
    }

    /// A client of the process.
    pub fn client(&self) -> Client {
        Client::new(self.port, None)
    }

    /// Kills it at once, as a machine that loses power does.
    pub fn kill(mut self) {
        self.end();
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(mut self) {
        let asked = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        assert!(asked.is_ok_and(|status| status.success()));
        let ended = self.child.wait();
        assert!(ended.is_ok_and(|status| status.success()));
    }

    fn end(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for TestProcess {
    fn drop(&mut self) {
        self.end();
    }
}

/// Starts the service with some settings changed.
pub fn spawn_app_with(change: impl FnOnce(&mut Config)) -> TestService {
    let state = reachable_folder().expect("the machine has room for a temporary folder");
    TestService::start(state, None, change)
        .unwrap_or_else(|error| panic!("the service does not start: {error:#}"))
}

impl TestService {
    fn start(
        state: TempDir,
        database_url: Option<String>,
        change: impl FnOnce(&mut Config),
    ) -> Result<Self> {
        let cluster = TestCluster::shared()?;
        let database_url = match database_url {
            Some(url) => url,
            None => cluster.new_database()?,
        };
        let mut config = test_config(state.path(), &database_url)?;
        change(&mut config);
        let running = run_on_thread(config)?;
        Ok(Self {
            port: running.port,
            stop: Some(running.stop),
            thread: Some(running.thread),
            database_url,
            public_keys: running.public_keys,
            cluster,
            state,
        })
    }

    /// Starts a worker process on the service's database, images and keys, with further settings.
    pub fn start_worker(&self, settings: &[&str]) -> TestProcess {
        let mut arguments = vec!["--role", "worker"];
        arguments.extend(settings);
        TestProcess::start(self.state(), Some(&self.database_url), &arguments)
    }

    /// Records a signed entry as another process would.
    pub fn append(&self, envelope: &Envelope) {
        let appended = self.with_ledger(async |ledger| Ok(ledger.append(envelope, None).await?));
        appended.unwrap_or_else(|error| panic!("the entry is not recorded: {error:#}"));
    }

    /// Stops the service and starts it again on the same state and database.
    pub fn restart(mut self) -> Self {
        self.halt()
            .unwrap_or_else(|error| panic!("the service stopped with an error: {error:#}"));
        let database_url = self.database_url.clone();
        // The old folder goes on as the new service's state.
        let state = std::mem::replace(
            &mut self.state,
            reachable_folder().expect("there is room for a folder"),
        );
        Self::start(state, Some(database_url), |_| ())
            .unwrap_or_else(|error| panic!("the service does not start again: {error:#}"))
    }

    /// Stops the service, does something with its state folder and its database, and starts it again.
    pub fn stopped_for(mut self, work: impl FnOnce(&Path, &str)) -> Self {
        self.halt()
            .unwrap_or_else(|error| panic!("the service stopped with an error: {error:#}"));
        work(self.state.path(), &self.database_url);
        self.restart()
    }

    /// The address of its database.
    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    /// A client without a key.
    pub fn client(&self) -> Client {
        Client::new(self.port, None)
    }

    /// Makes an API key with these scopes and returns a client that shows it.
    pub fn client_with(&self, name: &str, scopes: &[Scope]) -> Client {
        Client::new(self.port, Some(self.new_key(name, scopes)))
    }

    /// Makes an API key with these scopes.
    pub fn new_key(&self, name: &str, scopes: &[Scope]) -> String {
        let made = self.with_ledger(async |ledger| Ok(ledger.create_client(name, scopes).await?));
        made.unwrap_or_else(|error| panic!("no key could be made: {error:#}"))
            .1
    }

    /// The address of another empty database in the same private Postgres.
    pub fn new_database(&self) -> String {
        self.cluster
            .new_database()
            .unwrap_or_else(|error| panic!("no database could be made: {error:#}"))
    }

    /// Everything in the service's database as text, as `pg_dump` writes it.
    pub fn dump_database(&self) -> String {
        let postgres = runtime_folder().join("postgres");
        let dump = std::process::Command::new(postgres.join("bin/pg_dump"))
            .env("LD_LIBRARY_PATH", postgres.join("lib"))
            .arg(&self.database_url)
            .output()
            .unwrap_or_else(|error| panic!("pg_dump cannot be started: {error}"));
        assert!(
            dump.status.success(),
            "{}",
            String::from_utf8_lossy(&dump.stderr)
        );
        String::from_utf8_lossy(&dump.stdout).into_owned()
    }

    /// The public keys that an auditor has.
    pub fn public_keys(&self) -> &PublicKeys {
        &self.public_keys
    }

    /// The state folder.
    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// The port that the service answers on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Verifies the whole ledger anew from its entries.
    pub fn check_ledger(&self) -> Result<CheckReport> {
        self.with_ledger(async |ledger| Ok(ledger.check().await?))
    }

    fn with_ledger<T>(&self, work: impl AsyncFnOnce(&Ledger) -> Result<T>) -> Result<T> {
        self.cluster.runtime.block_on(async {
            let mut options = LedgerOptions::new(&self.database_url, self.public_keys.clone());
            options.time_stamps = Some(api::checkpoint_stamps::verify);
            let ledger = Ledger::connect(&options).await?;
            let result = work(&ledger).await;
            ledger.close().await;
            result
        })
    }

    fn halt(&mut self) -> Result<()> {
        if let Some(stop) = self.stop.take() {
            // A service that ended by itself listens no more; its thread says why.
            let _ = stop.send(());
        }
        match self.thread.take() {
            Some(thread) => thread.join().map_err(|_| anyhow!("the service panicked"))?,
            None => Ok(()),
        }
    }
}

impl Drop for TestService {
    fn drop(&mut self) {
        let was_running = self.thread.is_some();
        let halted = self.halt();
        if std::thread::panicking() || !was_running {
            return;
        }
        halted.unwrap_or_else(|error| panic!("the service stopped with an error: {error:#}"));
        let report = self
            .check_ledger()
            .unwrap_or_else(|error| panic!("the ledger cannot be checked: {error:#}"));
        assert!(
            report.is_sound(),
            "the ledger does not verify: {:#?}",
            report.problems
        );
        assert_eq!(
            report.covered, report.entries,
            "every recorded entry is covered by a checkpoint"
        );
    }
}

fn test_config(state: &Path, database_url: &str) -> Result<Config> {
    let mut config = Config::new(state.to_path_buf());
    config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.database_url = Some(database_url.to_owned());
    // A test program does not parse uploads when it is started anew: the real program does.
    config.parser = Some(program("retrace")?);
    config.engine.models = Some(root().join("models"));
    config.engine.runtime = Some(runtime_folder());
    // Tests run beside one another: one thread each.
    config.engine.threads = 1;
    Ok(config)
}

struct Running {
    port: u16,
    public_keys: PublicKeys,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<()>>,
}

/// Builds the service on a thread with a runtime of its own, as the program does, and waits until it is bound.
fn run_on_thread(config: Config) -> Result<Running> {
    let (stop, stopped) = oneshot::channel::<()>();
    let (ready, bound) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        runtime.block_on(async move {
            let app = App::build(config).await?;
            ready
                .send((app.port(), app.state().public_keys.clone()))
                .context("the test has gone")?;
            app.run_until(async move { drop(stopped.await) })
                .await
                .map_err(anyhow::Error::from)
        })
    });
    match bound.recv() {
        Ok((port, public_keys)) => Ok(Running {
            port,
            public_keys,
            stop,
            thread,
        }),
        // The sender is gone: the thread ended with the reason.
        Err(_) => match thread.join() {
            Ok(Err(error)) => Err(error),
            Ok(Ok(())) => Err(anyhow!("the service ended before it was bound")),
            Err(_) => Err(anyhow!("the service panicked while it started")),
        },
    }
}

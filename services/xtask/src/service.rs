//! The service as a child process: started, watched, stopped in order.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::client::Client;

/// A first start makes a database cluster and loads the models; a loaded machine gets plenty.
const START_TIMEOUT: Duration = Duration::from_secs(180);
/// The service lets running requests finish and stops its database.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// How often to look at the child and at the signals.
const POLL: Duration = Duration::from_millis(100);
/// How much of the end of the log explains a failed start.
const LOG_TAIL_BYTES: u64 = 2_000;

/// Where the service runs and what it writes.
pub struct ServiceOptions<'a> {
    /// The program `retrace`.
    pub program: &'a Path,
    /// Working folder: models, native parts and state are looked for from here.
    pub folder: &'a Path,
    /// Folder of the native parts.
    pub runtime: &'a Path,
    /// Port on the loopback interface.
    pub port: u16,
    /// File that takes what the service prints.
    pub log: &'a Path,
    /// Environment variables of settings that are not the defaults.
    pub settings: &'a [(&'a str, &'a Path)],
}

/// A service that this process started and will stop.
pub struct Service {
    child: Child,
    log: PathBuf,
    interrupted: Arc<AtomicBool>,
}

/// Fails with a remedy unless the port can be bound on the loopback interface.
pub fn ensure_port_is_free(port: u16) -> Result<()> {
    TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
        .map(drop)
        .map_err(|error| {
            anyhow!("port {port} cannot be used ({error}); choose another one with --port")
        })
}

impl Service {
    /// Starts the service in a process group of its own, so that an interrupt from the terminal reaches this process
    /// alone, which then asks the service to stop.
    pub fn start(options: &ServiceOptions<'_>) -> Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))
                .context("signals cannot be caught")?;
        }
        let log = File::create(options.log)
            .with_context(|| format!("{} cannot be written", options.log.display()))?;
        let child = Command::new(options.program)
            .args([
                "serve",
                "--host",
                "127.0.0.1",
                "--port",
                &options.port.to_string(),
            ])
            .current_dir(options.folder)
            .env("RETRACE_RUNTIME", options.runtime)
            // The demonstration shows the embedded default.
            .env_remove("DATABASE_URL")
            .envs(options.settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("the log cannot be shared")?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("{} cannot be started", options.program.display()))?;
        Ok(Self {
            child,
            log: options.log.to_owned(),
            interrupted,
        })
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the service says that it is ready.
    pub fn wait_until_ready(&mut self, client: &Client) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            self.check()?;
            if client.is_ready() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!(
                    "the service was not ready within {} s\n{}",
                    START_TIMEOUT.as_secs(),
                    self.log_tail()
                );
            }
            std::thread::sleep(POLL);
        }
    }

    /// Fails when the service has ended or somebody asked this process to stop.
    pub fn check(&mut self) -> Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        if let Some(status) = self
            .child
            .try_wait()
            .context("the service cannot be watched")?
        {
            bail!("the service ended with {status}\n{}", self.log_tail());
        }
        Ok(())
    }

    /// Waits until somebody asks this process to stop, or the service ends by itself, and returns how it ended then.
    pub fn wait_for_interrupt(&mut self) -> Result<Option<ExitStatus>> {
        loop {
            if self.interrupted.load(Ordering::Relaxed) {
                return Ok(None);
            }
            if let Some(status) = self
                .child
                .try_wait()
                .context("the service cannot be watched")?
            {
                return Ok(Some(status));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Asks the service to stop and waits for it.
    pub fn stop(mut self) -> Result<()> {
        self.terminate();
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            match self
                .child
                .try_wait()
                .context("the service cannot be watched")?
            {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("the service stopped with {status}\n{}", self.log_tail()),
                None => std::thread::sleep(POLL),
            }
        }
        bail!(
            "the service did not stop within {} s\n{}",
            STOP_TIMEOUT.as_secs(),
            self.log_tail()
        )
    }

    fn terminate(&self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // A service that is gone already cannot be told to go: nothing to do then.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// The end of what the service printed.
    fn log_tail(&self) -> String {
        let read = || -> std::io::Result<String> {
            let mut file = File::open(&self.log)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
            let mut tail = Vec::new();
            file.read_to_end(&mut tail)?;
            Ok(String::from_utf8_lossy(&tail).into_owned())
        };
        format!(
            "the end of {}:\n{}",
            self.log.display(),
            read().unwrap_or_default()
        )
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.terminate();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_refused_with_a_remedy() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let error = ensure_port_is_free(taken.local_addr().unwrap().port()).unwrap_err();
        assert!(error.to_string().contains("--port"), "{error}");
    }
}

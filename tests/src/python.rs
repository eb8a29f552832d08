//! Scripts that call the service with other people's clients, run in the pinned Python packages.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::house::root;
use crate::service::runtime_folder;

/// A server in `tests/clients`, killed when it is dropped.
pub struct Server {
    child: Child,
    /// Its address, as it printed it.
    pub address: String,
}

impl Server {
    /// Starts `tests/clients/NAME` with these arguments and waits for its address.
    pub fn start(name: &str, arguments: &[&str]) -> Self {
        let mut child = python(name)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("python3 cannot be started: {error}"));
        let output = child.stdout.take().expect("it was asked for");
        let mut address = String::new();
        let read = BufReader::new(output).read_line(&mut address);
        let server = Self {
            child,
            address: address.trim_end().to_owned(),
        };
        assert!(read.is_ok() && !server.address.is_empty(), "{name} failed");
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `tests/clients/NAME` with these arguments; the last line of its output is its report.
pub fn run_client(name: &str, arguments: &[&str]) -> Value {
    let output = python(name)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("python3 cannot be started: {error}"));
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} failed:\n{text}\n{errors}");
    let report = text.lines().last().unwrap_or_default();
    serde_json::from_str(report).unwrap_or_else(|error| panic!("{error}: {report}\n{errors}"))
}

/// Python with a script of `tests/clients` and the pinned packages.
fn python(name: &str) -> Command {
    let packages = runtime_folder().join("clients");
    assert!(
        packages.is_dir(),
        "{} is missing (cargo xtask setup brings it)",
        packages.display()
    );
    let mut command = Command::new("python3");
    // Nothing of this machine's own packages or proxies takes part.
    command
        .arg("-s")
        .arg(root().join("tests/clients").join(name))
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("NO_PROXY", "127.0.0.1");
    command
}

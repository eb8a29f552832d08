//! Scripts that call the service with other people's clients, run in the pinned Python packages.

use std::process::Command;

use serde_json::Value;

use crate::house::root;
use crate::service::runtime_folder;

/// Runs `tests/clients/NAME` with these arguments; the last line of its output is its report.
pub fn run_client(name: &str, arguments: &[&str]) -> Value {
    let packages = runtime_folder().join("clients");
    assert!(
        packages.is_dir(),
        "{} is missing (cargo xtask setup brings it)",
        packages.display()
    );
    let output = Command::new("python3")
        // Nothing of this machine's own packages or proxies takes part.
        .arg("-s")
        .arg(root().join("tests/clients").join(name))
        .args(arguments)
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .unwrap_or_else(|error| panic!("python3 cannot be started: {error}"));
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} failed:\n{text}\n{errors}");
    let report = text.lines().last().unwrap_or_default();
    serde_json::from_str(report).unwrap_or_else(|error| panic!("{error}: {report}\n{errors}"))
}

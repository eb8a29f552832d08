//! Where things lie in a checkout, and how cargo is called in it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A checkout of the project.
#[derive(Debug, Clone)]
pub struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The checkout that holds the working folder: the nearest folder upwards with `services/xtask/native-parts.toml`.
    /// Cargo runs the program in the folder in which the user typed the command.
    pub fn find() -> Result<Self> {
        let start = env::current_dir().context("the working folder cannot be read")?;
        start
            .ancestors()
            .find(|folder| folder.join("services/xtask/native-parts.toml").is_file())
            .map(|root| Self {
                root: root.to_path_buf(),
            })
            .with_context(|| {
                format!(
                    "{} is not inside a checkout of the project",
                    start.display()
                )
            })
    }

    /// The folder that holds the root `Cargo.toml`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of the native parts: `RETRACE_RUNTIME` where it is set, else `.runtime/` of the checkout.
    pub fn runtime(&self) -> PathBuf {
        match env::var_os("RETRACE_RUNTIME") {
            // Cargo and the programs may run in another folder: a relative name is made absolute here.
            Some(folder) if !folder.is_empty() => {
                std::path::absolute(&folder).unwrap_or_else(|_| folder.into())
            }
            _ => self.root.join(".runtime"),
        }
    }

    /// A command of the cargo that runs this program, in the root of the checkout and with the native parts named.
    pub fn cargo(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command
            .current_dir(&self.root)
            .env("RETRACE_RUNTIME", self.runtime());
        command
    }

    /// Builds programs in the development profile and returns where they lie. Cargo shows its own progress on standard
    /// error. The whole workspace is selected, so that its tests share every build of a dependency.
    pub fn build(&self, programs: &[&str]) -> Result<Vec<PathBuf>> {
        self.build_with(programs, &[])
    }

    /// As [`build`](Self::build), with further arguments for cargo.
    pub fn build_with(&self, programs: &[&str], arguments: &[&str]) -> Result<Vec<PathBuf>> {
        let mut command = self.cargo();
        command
            .args([
                "build",
                "--workspace",
                "--message-format=json-render-diagnostics",
            ])
            .args(arguments);
        for program in programs {
            command.args(["--bin", program]);
        }
        let output = command
            .stderr(std::process::Stdio::inherit())
            .output()
            .context("cargo cannot be started")?;
        if !output.status.success() {
            bail!(
                "cargo build of {} failed with {}",
                programs.join(", "),
                output.status
            );
        }
        executables(&output.stdout)
    }

    /// Runs a command to its end and fails with its name unless it succeeds.
    pub fn must_succeed(mut command: Command, name: &str) -> Result<()> {
        let status = command
            .status()
            .with_context(|| format!("{name} cannot be started"))?;
        if !status.success() {
            bail!("{name} failed with {status}");
        }
        Ok(())
    }
}

/// The programs that a cargo build reports in its messages, one JSON document a line.
fn executables(messages: &[u8]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in messages
        .split(|&byte| byte == b'\n')
        .filter(|line| line.starts_with(b"{"))
    {
        let message: serde_json::Value =
            serde_json::from_slice(line).context("cargo's message is not JSON")?;
        if let Some(path) = message
            .get("executable")
            .and_then(serde_json::Value::as_str)
        {
            found.push(PathBuf::from(path));
        }
    }
    Ok(found)
}

/// The program called `name` among those that a build returned.
pub fn program(built: &[PathBuf], name: &str) -> Result<PathBuf> {
    built
        .iter()
        .find(|path| path.file_stem().is_some_and(|stem| stem == name))
        .cloned()
        .with_context(|| format!("cargo built no program called {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_read_from_cargos_messages() {
        let messages = br#"{"reason":"compiler-artifact","executable":null}
{"reason":"compiler-artifact","executable":"/t/debug/retrace"}
{"reason":"build-finished","success":true}
"#;
        let built = executables(messages).unwrap();
        assert_eq!(
            program(&built, "retrace").unwrap(),
            PathBuf::from("/t/debug/retrace")
        );
        assert!(program(&built, "retrace-verify").is_err());
    }
}

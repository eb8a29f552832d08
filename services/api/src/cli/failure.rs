//! Why a command ended without success, and the exit code that says so to scripts.

use std::fmt::Display;
use std::process::ExitCode;

use api::sandbox::SandboxError;
use api::startup::StartupError;
use api::work::WorkError;

/// The exit codes besides 0, documented in every help text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// What was asked about does not hold, or a file was refused.
    DoesNotHold = 1,
    /// The command line, or a value in it, was refused.
    Usage = 2,
    /// The environment lacks something: native parts, models, database, port, disk.
    Environment = 3,
    /// The work itself failed.
    Work = 4,
}

/// A failed command: its exit code and one line for the user.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    /// Empty when the command has already said everything on standard output.
    message: String,
}

impl Failure {
    /// What was asked about does not hold.
    pub fn does_not_hold(cause: impl Display) -> Failure {
        Failure {
            exit: Exit::DoesNotHold,
            message: cause.to_string(),
        }
    }

    /// A value of the command line was refused.
    pub fn usage(cause: impl Display) -> Failure {
        Failure {
            exit: Exit::Usage,
            message: cause.to_string(),
        }
    }

    /// Something outside the program is missing or broken.
    pub fn environment(cause: impl Display) -> Failure {
        Failure {
            exit: Exit::Environment,
            message: cause.to_string(),
        }
    }

    /// The work failed.
    pub fn work(cause: impl Display) -> Failure {
        Failure {
            exit: Exit::Work,
            message: cause.to_string(),
        }
    }

    /// The message, for a command that puts it into its JSON.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the failure is about one file, so that the others can go on.
    pub fn concerns_one_file(&self) -> bool {
        matches!(self.exit, Exit::DoesNotHold | Exit::Work)
    }

    /// Prints the message as one line and gives the exit code.
    pub fn report(self) -> ExitCode {
        if !self.message.is_empty() {
            // Several lines of a cause become one, so that scripts can read one line per error.
            let line: Vec<&str> = self.message.lines().map(str::trim).collect();
            eprintln!("retrace: {}", line.join("; "));
        }
        ExitCode::from(self.exit as u8)
    }
}

impl From<WorkError> for Failure {
    fn from(error: WorkError) -> Failure {
        match error {
            WorkError::Invalid { .. } | WorkError::UnknownModel { .. } => Failure::usage(error),
            WorkError::Upload(SandboxError::NotStarted { .. })
            | WorkError::Engine(_)
            | WorkError::Ledger(_)
            | WorkError::Signing(_)
            | WorkError::Columns(_)
            | WorkError::Images(_)
            | WorkError::NoTurn(_) => Failure::environment(error),
            WorkError::Upload(_) | WorkError::Label(_) | WorkError::NoImage { .. } => {
                Failure::does_not_hold(error)
            }
            // Work that failed, and errors that later versions add.
            _ => Failure::work(error),
        }
    }
}

impl From<StartupError> for Failure {
    fn from(error: StartupError) -> Failure {
        match error {
            StartupError::Limit(_) | StartupError::NoClientKeys { .. } => Failure::usage(error),
            _ => Failure::environment(error),
        }
    }
}

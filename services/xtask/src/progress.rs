//! Progress for people: bars and spinners on a terminal, one line a step elsewhere. Everything goes to standard error,
//! so that standard output stays free for the answer.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often a spinner turns.
const SPINNER_TICK: Duration = Duration::from_millis(120);

/// One step that is under way.
pub struct Step {
    bar: ProgressBar,
    what: String,
}

impl Step {
    /// Starts a step of unknown length.
    pub fn spinner(what: impl Into<String>) -> Self {
        let what = what.into();
        let bar = if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})")
                .expect("the template is well-formed");
            let bar = ProgressBar::new_spinner()
                .with_style(style)
                .with_message(what.clone());
            bar.enable_steady_tick(SPINNER_TICK);
            bar
        } else {
            eprintln!("{what}");
            ProgressBar::hidden()
        };
        Self { bar, what }
    }

    /// Starts a step of `length` bytes.
    pub fn bytes(what: impl Into<String>, length: u64) -> Self {
        let what = what.into();
        let bar = if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes}")
                .expect("the template is well-formed");
            ProgressBar::new(length)
                .with_style(style.progress_chars("=> "))
                .with_message(what.clone())
        } else {
            eprintln!("{what}");
            ProgressBar::hidden()
        };
        Self { bar, what }
    }

    /// Sets how many bytes are done.
    pub fn set_position(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    /// Ends the step with a line that stays.
    pub fn done(self, result: &str) {
        self.bar.finish_and_clear();
        eprintln!("{}: {result}", self.what);
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        // A step that failed leaves the terminal clean for the error message.
        if !self.bar.is_finished() {
            self.bar.finish_and_clear();
        }
    }
}

//! The Retrace service: HTTP, pages, workers, configuration, start-up and the command line.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The child that parses untrusted bytes gives up its rights before anything else starts.
    if std::env::args().nth(1).as_deref() == Some(api::sandbox::SUBCOMMAND) {
        return api::sandbox::child_main();
    }
    cli::main()
}

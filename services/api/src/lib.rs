//! The Retrace service: HTTP, pages, workers, configuration, start-up and the command line.

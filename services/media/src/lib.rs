//! Untrusted bytes to pixels within limits, metadata of other tools, encoders.

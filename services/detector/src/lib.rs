//! Trace features, calibration, evidence and verdict.

//! ONNX Runtime sessions, pipelines from a model folder, detector heads, manifest check.

//! How the C2PA library is set up. Its defaults fetch what a manifest asks for; ours fetch nothing.

use serde_json::{Value, json};

/// Bytes to which a compressed manifest may grow, in the library's unit of 1 MB.
const DECOMPRESSED_MB_MAX: usize = 4;

/// For writing. The result is not read back: the tests do that, and it would double the time.
pub(crate) fn of_writing() -> Value {
    json!({
        "core": core(),
        "verify": {
            "verify_after_sign": false,
            "remote_manifest_fetch": false,
            "ocsp_fetch": false,
        },
        "builder": { "thumbnail": { "enabled": false } },
    })
}

/// For reading, with these trust anchors in PEM.
pub(crate) fn of_reading(anchors_pem: &str) -> Value {
    let anchors = anchors_pem.trim();
    json!({
        "core": core(),
        "trust": { "trust_anchors": (!anchors.is_empty()).then_some(anchors) },
        "verify": {
            "verify_after_reading": true,
            "remote_manifest_fetch": false,
            "ocsp_fetch": false,
        },
        "builder": { "thumbnail": { "enabled": false } },
    })
}

fn core() -> Value {
    json!({
        // An empty list blocks every host.
        "allowed_network_hosts": [],
        "decode_identity_assertions": false,
        "max_decompressed_manifest_size_in_mb": DECOMPRESSED_MB_MAX,
    })
}

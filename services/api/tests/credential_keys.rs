//! The key and certificates with which files are signed.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use api::config::CredentialOptions;
use api::credential_keys::{CredentialKeys, ROOTS_PUBLIC_FILE};
use api::keys::{KeyError, Vault};
use credentials::DevChain;

/// The service's key and chain, in the folder of keys.
const OWN_FILE: &str = "credentials.pem";

/// 2026-11-27, in seconds since 1970.
const NOW_S: i64 = 1_795_737_600;

fn open(state: &Path) -> Result<CredentialKeys, KeyError> {
    CredentialKeys::open(
        state,
        &CredentialOptions::of("test.local"),
        NOW_S,
        &Vault::default(),
    )
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_chain_is_made_once_with_mode_600_and_read_again() {
    let state = tempfile::tempdir().unwrap();
    let first = open(state.path()).unwrap();
    assert!(first.created && first.own_root);
    let again = open(state.path()).unwrap();
    assert!(!again.created);
    assert_eq!(again.signer.chain(), first.signer.chain());
    assert_eq!(mode(&state.path().join("keys").join(OWN_FILE)), 0o600);
    let public = fs::read_to_string(state.path().join(ROOTS_PUBLIC_FILE)).unwrap();
    assert_eq!(public.matches("BEGIN CERTIFICATE").count(), 1);
    assert!(!public.contains("PRIVATE"));
}

#[test]
fn a_replaced_chain_leaves_its_root_among_our_own() {
    let state = tempfile::tempdir().unwrap();
    let first = open(state.path()).unwrap();
    let options = CredentialOptions::of("test.local");
    let second = CredentialKeys::replace(state.path(), &options, NOW_S, &Vault::default()).unwrap();
    assert_ne!(second.signer.chain(), first.signer.chain());
    assert!(second.own_roots_pem.ends_with(&first.own_roots_pem));
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let state = tempfile::tempdir().unwrap();
    open(state.path()).unwrap();
    let path = state.path().join("keys").join(OWN_FILE);
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let error = open(state.path()).unwrap_err();
    assert!(error.to_string().contains("644"), "{error}");
}

#[test]
fn an_operators_chain_is_used_and_a_foreign_key_refused() {
    let state = tempfile::tempdir().unwrap();
    let [own, other] = [1, 2].map(|_| DevChain::make("Newsroom", NOW_S).unwrap());
    let (chain, key) = (state.path().join("chain.pem"), state.path().join("key.pem"));
    fs::write(&chain, own.chain.pem()).unwrap();
    fs::write(&key, own.key.pem()).unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let options = CredentialOptions {
        chain: Some(chain.clone()),
        key: Some(key.clone()),
        ..CredentialOptions::of("Newsroom")
    };
    let opened = CredentialKeys::open(state.path(), &options, NOW_S, &Vault::default()).unwrap();
    assert!(!opened.own_root && opened.own_roots_pem.is_empty());
    assert!(!state.path().join("keys").exists(), "nothing is made");
    fs::write(&key, other.key.pem()).unwrap();
    let error = CredentialKeys::open(state.path(), &options, NOW_S, &Vault::default()).unwrap_err();
    assert!(error.to_string().contains("does not belong"), "{error}");
}

#[test]
fn a_chain_that_expired_is_refused_with_its_rule_and_replaced_on_demand() {
    let state = tempfile::tempdir().unwrap();
    open(state.path()).unwrap();
    let later_s = NOW_S + 11 * 366 * 86_400;
    let options = CredentialOptions::of("test.local");
    let error =
        CredentialKeys::open(state.path(), &options, later_s, &Vault::default()).unwrap_err();
    assert!(error.to_string().contains("expired on 2036"), "{error}");
    let replaced =
        CredentialKeys::replace(state.path(), &options, later_s, &Vault::default()).unwrap();
    assert!(replaced.created);
}

#[test]
fn trust_anchors_are_the_own_roots_and_the_operators() {
    let state = tempfile::tempdir().unwrap();
    let further = DevChain::make("Elsewhere", NOW_S).unwrap().root_pem;
    let file = state.path().join("anchors.pem");
    fs::write(&file, &further).unwrap();
    let options = CredentialOptions {
        anchors: Some(file.clone()),
        ..CredentialOptions::of("test.local")
    };
    let keys = CredentialKeys::open(state.path(), &options, NOW_S, &Vault::default()).unwrap();
    let anchors = keys.anchors(&options).unwrap();
    assert!(anchors.contains(keys.own_roots_pem.trim()) && anchors.contains(further.trim()));
    fs::write(&file, "no certificates").unwrap();
    let error = keys.anchors(&options).unwrap_err();
    assert!(error.to_string().contains("anchors.pem"), "{error}");
}

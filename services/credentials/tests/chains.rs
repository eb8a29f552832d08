//! Whom a reader trusts: who signs under an anchor, by authorities alone.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io::Cursor;

use c2pa::{Builder, Context, SigningAlg, create_signer};
use credentials::{ManifestCaps, ManifestReader, State};
use media::Format;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519,
};
use serde_json::json;

/// A certificate with its key.
struct Party {
    parameters: CertificateParams,
    key: KeyPair,
    pem: String,
}

impl Party {
    /// Issued by another one, or by itself.
    fn new(name: &str, is_ca: IsCa, issuer: Option<&Self>) -> Self {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut parameters = CertificateParams::default();
        parameters
            .distinguished_name
            .push(DnType::OrganizationName, name);
        parameters.use_authority_key_identifier_extension = true;
        match is_ca {
            IsCa::Ca(_) => parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign],
            IsCa::NoCa | IsCa::ExplicitNoCa => {
                parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
                parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
            }
        }
        parameters.is_ca = is_ca;
        let pem = match issuer {
            None => parameters.self_signed(&key).unwrap().pem(),
            Some(issuer) => {
                let by = Issuer::from_params(&issuer.parameters, &issuer.key);
                parameters.signed_by(&key, &by).unwrap().pem()
            }
        };
        Self {
            parameters,
            key,
            pem,
        }
    }

    fn authority(name: &str, below: Option<u8>, issuer: Option<&Self>) -> Self {
        let below = below.map_or(
            BasicConstraints::Unconstrained,
            BasicConstraints::Constrained,
        );
        Self::new(name, IsCa::Ca(below), issuer)
    }

    fn signer(name: &str, issuer: &Self) -> Self {
        Self::new(name, IsCa::ExplicitNoCa, Some(issuer))
    }
}

/// A picture under a manifest that the first of these signs, each being issued by the next.
fn signed(chain: &[&Party]) -> Vec<u8> {
    let pem: String = chain.iter().map(|party| party.pem.as_str()).collect();
    let key = chain[0].key.serialize_pem();
    let signer =
        create_signer::from_keys(pem.as_bytes(), key.as_bytes(), SigningAlg::Ed25519, None)
            .unwrap();
    let settings = json!({ "verify": { "verify_after_sign": false } });
    let context = Context::new().with_settings(settings).unwrap();
    let definition = json!({
        "claim_generator_info": [{ "name": "another", "version": "1" }],
        "assertions": [{
            "label": "c2pa.actions.v2",
            "data": {
                "actions": [{
                    "action": "c2pa.created",
                    "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture",
                }],
            },
        }],
    });
    let mut builder = Builder::from_shared_context(&context.into_shared())
        .with_definition(definition)
        .unwrap();
    let picture = media::encode_png(8, 8, &[128; 8 * 8 * 3], &[]).unwrap();
    let mut file = Cursor::new(Vec::new());
    builder
        .sign(
            &*signer,
            Format::Png.media_type(),
            &mut Cursor::new(picture),
            &mut file,
        )
        .unwrap();
    file.into_inner()
}

/// What a reader that trusts this root says of a picture that such a chain signed.
fn judged(root: &Party, chain: &[&Party]) -> (State, Vec<String>) {
    let reader = ManifestReader::new(&root.pem, ManifestCaps::default()).unwrap();
    let reading = reader.read(&signed(chain), Format::Png).unwrap();
    (reading.state, reading.codes)
}

#[test]
fn a_signer_under_an_authority_under_the_anchor_is_trusted() {
    let root = Party::authority("Root", Some(1), None);
    let between = Party::authority("Between", Some(0), Some(&root));
    let newsroom = Party::signer("Newsroom", &between);
    for chain in [&[&newsroom, &between][..], &[&newsroom, &between, &root]] {
        let (state, codes) = judged(&root, chain);
        assert_eq!(state, State::Trusted, "{codes:?}");
    }
    let direct = Party::signer("Newsroom", &root);
    assert_eq!(judged(&root, &[&direct]).0, State::Trusted);
}

/// Whoever has a certificate that signs credentials could issue others in anybody's name with its key.
#[test]
fn a_signer_that_another_signer_issued_is_not_trusted() {
    let root = Party::authority("Root", None, None);
    let attacker = Party::signer("Attacker", &root);
    let newsroom = Party::signer("Newsroom", &attacker);
    let (state, codes) = judged(&root, &[&newsroom, &attacker]);
    assert_eq!(state, State::Valid);
    assert_eq!(codes, ["signingCredential.untrusted"]);
}

#[test]
fn an_authority_further_from_the_anchor_than_is_allowed_makes_nobody_trusted() {
    let root = Party::authority("Root", None, None);
    let narrow = Party::authority("Narrow", Some(0), Some(&root));
    let below = Party::authority("Below", None, Some(&narrow));
    let newsroom = Party::signer("Newsroom", &below);
    let (state, _) = judged(&root, &[&newsroom, &below, &narrow]);
    assert_eq!(state, State::Valid);
}

#[test]
fn an_issuer_of_another_name_makes_nobody_trusted() {
    let root = Party::authority("Root", None, None);
    let mut between = Party::authority("Between", None, Some(&root));
    let name = DnType::OrganizationName;
    between
        .parameters
        .distinguished_name
        .push(name, "Elsewhere");
    let newsroom = Party::signer("Newsroom", &between);
    let (state, _) = judged(&root, &[&newsroom, &between]);
    assert_eq!(state, State::Valid);
}

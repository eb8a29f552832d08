//! Every rule of the certificate profile is named when a certificate breaks it.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use credentials::{CertificateChain, CredentialSigner, DevChain, Key};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
    SignatureAlgorithm, date_time_ymd,
};

/// 2026-11-27, in seconds since 1970.
const NOW_S: i64 = 1_795_737_600;

/// A root and a signing certificate that keep every rule, before they are signed.
struct Draft {
    root: CertificateParams,
    leaf: CertificateParams,
    algorithm: &'static SignatureAlgorithm,
}

impl Draft {
    fn new() -> Self {
        let named = |name: &str| {
            let mut parameters = CertificateParams::default();
            parameters.distinguished_name.push(DnType::CommonName, name);
            parameters.not_before = date_time_ymd(2026, 1, 1);
            parameters.not_after = date_time_ymd(2036, 1, 1);
            parameters
        };
        let mut root = named("test root");
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let mut leaf = named("test signer");
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.use_authority_key_identifier_extension = true;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
        Self {
            root,
            leaf,
            algorithm: &PKCS_ED25519,
        }
    }

    /// The chain as PEM, and the signing certificate's key.
    fn sign(&self) -> (String, String) {
        let [root_key, leaf_key] = [0, 1].map(|_| KeyPair::generate_for(self.algorithm).unwrap());
        let root = self.root.self_signed(&root_key).unwrap();
        let issuer = Issuer::from_params(&self.root, &root_key);
        let leaf = self.leaf.signed_by(&leaf_key, &issuer).unwrap();
        (
            format!("{}{}", leaf.pem(), root.pem()),
            leaf_key.serialize_pem(),
        )
    }

    fn refusal(&self) -> String {
        let refused = CertificateChain::parse(&self.sign().0, NOW_S).unwrap_err();
        refused.to_string()
    }
}

#[test]
fn a_chain_that_keeps_every_rule_signs_with_each_kind_of_key() {
    for algorithm in [
        &PKCS_ED25519,
        &PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P384_SHA384,
    ] {
        let draft = Draft {
            algorithm,
            ..Draft::new()
        };
        let (chain, key) = draft.sign();
        let chain = CertificateChain::parse(&chain, NOW_S).unwrap();
        assert_eq!(chain.subject(), "CN=test signer");
        CredentialSigner::new(chain, &Key::new(key)).unwrap();
    }
}

/// What breaks a rule, and a part of the message that names it.
type Breach = (fn(&mut Draft), &'static str);

const BREACHES: [Breach; 14] = [
    (
        |draft| draft.leaf.not_before = date_time_ymd(2030, 1, 1),
        "is not valid before 2030-01-01T00:00:00Z",
    ),
    (
        |draft| draft.leaf.not_after = date_time_ymd(2026, 2, 3),
        "expired on 2026-02-03T00:00:00Z",
    ),
    (
        |draft| draft.root.not_after = date_time_ymd(2026, 2, 3),
        "certificate 2 of the chain (CN=test root) expired",
    ),
    (
        |draft| draft.leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
        "must be an end entity's",
    ),
    (
        |draft| draft.leaf.distinguished_name = draft.root.distinguished_name.clone(),
        "is issued by itself",
    ),
    (
        |draft| draft.leaf.use_authority_key_identifier_extension = false,
        "lacks the authority key identifier",
    ),
    (
        |draft| draft.leaf.key_usages = Vec::new(),
        "lacks the extension keyUsage",
    ),
    (
        |draft| draft.leaf.key_usages = vec![KeyUsagePurpose::KeyAgreement],
        "lacks digitalSignature",
    ),
    (
        |draft| draft.leaf.key_usages.push(KeyUsagePurpose::KeyCertSign),
        "has keyCertSign",
    ),
    (
        |draft| draft.leaf.extended_key_usages = Vec::new(),
        "lacks the extension extendedKeyUsage",
    ),
    (
        |draft| {
            let usages = &mut draft.leaf.extended_key_usages;
            usages.push(ExtendedKeyUsagePurpose::Any);
        },
        "must not have anyExtendedKeyUsage",
    ),
    (
        |draft| draft.leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
        "but only serverAuth",
    ),
    (
        |draft| {
            let usages = &mut draft.leaf.extended_key_usages;
            usages.push(ExtendedKeyUsagePurpose::TimeStamping);
        },
        "mixes timeStamping",
    ),
    (
        |draft| {
            let mut extension =
                CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
            extension.set_criticality(true);
            draft.leaf.custom_extensions.push(extension);
        },
        "critical extension 1.3.6.1.4.1.99999.1",
    ),
];

#[test]
fn each_broken_rule_is_named() {
    for (breach, words) in BREACHES {
        let mut draft = Draft::new();
        breach(&mut draft);
        let refusal = draft.refusal();
        assert!(refusal.contains(words), "{words:?} not in {refusal:?}");
    }
}

#[test]
fn an_issuer_that_is_no_authority_is_named() {
    let mut draft = Draft::new();
    draft.root.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let refusal = draft.refusal();
    assert!(refusal.contains("is no authority"), "{refusal}");
}

#[test]
fn a_self_signed_certificate_is_named_as_such() {
    let mut draft = Draft::new();
    draft
        .root
        .key_usages
        .push(KeyUsagePurpose::DigitalSignature);
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let alone = draft.root.self_signed(&key).unwrap().pem();
    let refused = CertificateChain::parse(&alone, NOW_S).unwrap_err();
    assert!(refused.to_string().contains("is issued by itself"));
}

#[test]
fn the_order_and_the_signatures_of_a_chain_are_checked() {
    let [(own, _), (other, _)] = [0, 1].map(|_| Draft::new().sign());
    let end = "-----END CERTIFICATE-----\n";
    let split = |chain: &str| {
        let (leaf, root) = chain.split_once(end).unwrap();
        (format!("{leaf}{end}"), root.to_owned())
    };
    let ((leaf, root), (_, foreign_root)) = (split(&own), split(&other));
    let refusal = |chain: String| {
        let refused = CertificateChain::parse(&chain, NOW_S).unwrap_err();
        refused.to_string()
    };
    assert!(refusal(format!("{leaf}{foreign_root}")).contains("is not signed by the key"));
    assert!(refusal(format!("{leaf}{leaf}")).contains("stand in the order"));
    assert!(refusal(format!("{root}{leaf}")).contains("is issued by itself"));
    assert!(refusal(leaf.repeat(9)).contains("at most 8"));
    // The root may be left out: readers bring it as an anchor.
    CertificateChain::parse(&leaf, NOW_S).unwrap();
}

#[test]
fn texts_that_are_no_chain_are_refused_without_repeating_them() {
    let own = DevChain::make("Newsroom", NOW_S).unwrap();
    for (text, words) in [
        (String::new(), "no certificate"),
        ("secret".to_owned(), "no certificate"),
        (own.key.pem().to_owned(), "PRIVATE KEY"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
            "cannot be read",
        ),
    ] {
        let refused = CertificateChain::parse(&text, NOW_S)
            .unwrap_err()
            .to_string();
        assert!(refused.contains(words), "{words:?} not in {refused:?}");
        assert!(!refused.contains("secret"));
    }
}

#[test]
fn a_key_that_is_not_the_certificates_is_refused() {
    let [own, other] = [0, 1].map(|_| DevChain::make("Newsroom", NOW_S).unwrap());
    let refused = CredentialSigner::new(own.chain.clone(), &other.key).unwrap_err();
    assert!(refused.to_string().contains("does not belong"), "{refused}");
    let refused = CredentialSigner::new(own.chain, &Key::new("no key".to_owned())).unwrap_err();
    assert!(refused.to_string().contains("PKCS#8"), "{refused}");
}

#[test]
fn a_made_chain_names_the_operator_and_shows_no_key() {
    let made = DevChain::make("Example Newsroom", NOW_S).unwrap();
    assert!(made.chain.subject().contains("Example Newsroom"));
    assert!(made.chain.issuer().contains("own root"));
    assert!(made.chain.pem().ends_with(&made.root_pem));
    assert!(!format!("{made:?}").contains("PRIVATE"));
}

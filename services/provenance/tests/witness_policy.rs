//! Which witnesses suffice.

#![allow(clippy::unwrap_used, reason = "a test states by unwrap what must hold")]

use provenance::merkle::empty_root;
use provenance::{
    Checkpoint, CheckpointKeys, CheckpointSigner, SignedCheckpoint, TreeSize, WitnessPolicy,
    WitnessSigner,
};

const ORIGIN: &str = "retrace.test/log";
const TIME_S: u64 = 1_679_315_147;

fn log() -> CheckpointSigner {
    CheckpointSigner::from_seed(ORIGIN, [2; 32]).unwrap()
}

fn verifier() -> CheckpointKeys {
    log().verifier().into()
}

fn checkpoint() -> SignedCheckpoint {
    let checkpoint = Checkpoint {
        origin: ORIGIN.to_owned(),
        tree_size: TreeSize::new(0),
        root_hash: empty_root(),
    };
    checkpoint.sign(&log()).unwrap()
}

fn witness(number: u8) -> WitnessSigner {
    WitnessSigner::from_seed(&format!("witness.test/w{number}"), [number; 32]).unwrap()
}

/// A policy of witnesses a to f, whose keys are `{a}` to `{f}` in the text.
fn policy(text: &str) -> Result<WitnessPolicy, String> {
    let text = (b'a'..=b'f').fold(text.to_owned(), |text, letter| {
        let key = witness(letter).verifier().to_string();
        text.replace(&format!("{{{}}}", char::from(letter)), &key)
    });
    WitnessPolicy::parse(&text).map_err(|refusal| refusal.to_string())
}

fn cosigned_by(letters: &str) -> SignedCheckpoint {
    letters.bytes().fold(checkpoint(), |signed, letter| {
        let line = witness(letter).cosign(&signed, TIME_S + u64::from(letter));
        signed.with_line(&line).unwrap()
    })
}

const TWO_LEVELS: &str = "\
# Three of one operator, three of another.
witness a {a}
witness b {b}\thttps://witness.test/b
witness c {c}
 group abc 2 a b c

witness d {d}
witness e {e}
witness f {f}
group def any d e f
group both all abc def
quorum both
";

#[test]
fn a_quorum_of_groups_counts_each_witness_once() {
    let policy = policy(TWO_LEVELS).unwrap();
    assert_eq!(policy.quorum(), Some("both"));
    let b = &policy.witnesses()[1];
    assert_eq!(
        (&b.name[..], b.url.as_deref()),
        ("b", Some("https://witness.test/b"))
    );
    for (letters, suffices) in [
        ("", false),
        ("ab", false),
        ("def", false),
        ("ad", false),
        ("aad", false),
        ("abd", true),
        ("fca", true),
        ("abcdef", true),
    ] {
        let checked = policy.verify(&cosigned_by(letters), &verifier());
        assert_eq!(checked.is_ok(), suffices, "{letters}: {checked:?}");
        if let Err(refusal) = checked {
            assert_eq!(refusal.code(), "quorum-missing");
        }
    }
    let found = policy.verify(&cosigned_by("fca"), &verifier()).unwrap();
    let names: Vec<_> = found.known.iter().map(|known| &known.witness[..]).collect();
    assert_eq!((names, found.unknown_lines), (vec!["a", "c", "f"], 0));
    assert_eq!(found.known[0].time_s, TIME_S + u64::from(b'a'));
}

#[test]
fn lines_of_strangers_are_counted_and_do_not_count() {
    let policy = policy("witness a {a}\nquorum a\n").unwrap();
    let found = policy.verify(&cosigned_by("bac"), &verifier()).unwrap();
    assert_eq!((found.known.len(), found.unknown_lines), (1, 2));
    let refusal = policy.verify(&cosigned_by("bc"), &verifier()).unwrap_err();
    assert_eq!(refusal.code(), "quorum-missing");
    // The names of a witness are its policy's: a stranger under the same key name is a stranger.
    let other = WitnessSigner::from_seed("witness.test/w97", [9; 32]).unwrap();
    let line = other.cosign(&checkpoint(), TIME_S);
    let impostor = checkpoint().with_line(&line).unwrap();
    let refusal = policy.verify(&impostor, &verifier()).unwrap_err();
    assert_eq!(refusal.code(), "quorum-missing");
}

#[test]
fn a_known_line_that_does_not_verify_spoils_the_whole_note() {
    let policy = policy("witness a {a}\nwitness b {b}\ngroup g any a b\nquorum g\n").unwrap();
    let text = cosigned_by("ab").text();
    let other = Checkpoint {
        origin: ORIGIN.to_owned(),
        tree_size: TreeSize::new(1),
        root_hash: provenance::Digest::of(b"another tree"),
    };
    let stolen = witness(b'b').cosign(&other.sign(&log()).unwrap(), TIME_S);
    let (head, _) = text.trim_end().rsplit_once('\n').unwrap();
    let spoiled = SignedCheckpoint::parse(&format!("{head}\n{stolen}\n")).unwrap();
    let refusal = policy.verify(&spoiled, &verifier()).unwrap_err();
    assert_eq!(refusal.code(), "signature-invalid");
    let foreign = CheckpointSigner::from_seed(ORIGIN, [3; 32]).unwrap();
    let refusal = policy.verify(&cosigned_by("ab"), &foreign.verifier().into());
    assert_eq!(refusal.unwrap_err().code(), "checkpoint-key-unseen");
}

#[test]
fn a_policy_without_a_quorum_believes_every_checkpoint_of_the_log() {
    let policy = policy("witness a {a}\nquorum none\n").unwrap();
    assert_eq!(policy.quorum(), None);
    assert!(policy.verify(&checkpoint(), &verifier()).is_ok());
    assert_eq!(WitnessPolicy::default().quorum(), None);
}

#[test]
fn only_lines_of_known_witnesses_are_put_on_a_checkpoint() {
    let policy = policy("witness a {a}\nwitness b {b}\nquorum a\n").unwrap();
    let lines: Vec<String> = [b'c', b'b', b'a']
        .map(|letter| witness(letter).cosign(&checkpoint(), TIME_S))
        .into();
    let cosigned = policy.cosigned(&checkpoint(), &lines);
    assert_eq!(cosigned.signature_count(), 3);
    assert_eq!(
        policy.verify(&cosigned, &verifier()).unwrap().known.len(),
        2
    );
    let garbage = ["", "— x", "not a line at all"].map(str::to_owned);
    assert_eq!(policy.cosigned(&checkpoint(), &garbage), checkpoint());
}

#[test]
fn the_answer_of_a_witness_is_its_own_line_among_others() {
    let (a, b) = (witness(b'a'), witness(b'b'));
    let lines = [&b, &a].map(|signer| signer.cosign(&checkpoint(), TIME_S));
    let answer = format!("{}\n{}\n", lines[0], lines[1]);
    let line = a.verifier().read_answer(&checkpoint(), &answer).unwrap();
    assert_eq!(line, lines[1]);
    for refused in ["", "\n", "ok\n", &lines[0][..], &lines[1][..40]] {
        assert!(
            a.verifier().read_answer(&checkpoint(), refused).is_err(),
            "{refused:?}"
        );
    }
}

#[test]
fn policies_that_say_two_things_or_nothing_are_refused() {
    let one = "witness a {a}\n";
    for (text, reason) in [
        (String::new(), "no quorum"),
        (one.to_owned(), "no quorum"),
        (format!("{one}quorum b\n"), "not defined"),
        (format!("quorum a\n{one}"), "not defined"),
        (format!("{one}quorum a\nquorum a\n"), "second quorum"),
        (format!("{one}witness a {{b}}\nquorum a\n"), "taken"),
        (format!("{one}witness b {{a}}\nquorum a\n"), "occurs twice"),
        (format!("{one}group g 0 a\nquorum g\n"), "is no number"),
        (format!("{one}group g 2 a\nquorum g\n"), "is no number"),
        (format!("{one}group g 01 a\nquorum g\n"), "is no number"),
        (format!("{one}group g all\nquorum g\n"), "too few"),
        (format!("{one}group g all a a\nquorum g\n"), "twice"),
        (format!("{one}group g all g\nquorum g\n"), "not defined"),
        (format!("{one}group g any none\nquorum g\n"), "not defined"),
        (format!("{one}group none any a\nquorum none\n"), "taken"),
        ("witness a x+00+AA==\nquorum a\n".to_owned(), "line 1"),
        (
            format!("log {}\nquorum none\n", witness(1).verifier()),
            "line 1",
        ),
        ("Quorum none\n".to_owned(), "unknown word"),
        ("quorum none\r\n".to_owned(), "control"),
        ("quorum\n".to_owned(), "too few"),
    ] {
        let refusal = policy(&text).unwrap_err();
        assert!(refusal.contains(reason), "{text:?}: {refusal}");
    }
    let many: String = (0..65)
        .map(|n| format!("witness w{n} {}\n", witness(n).verifier()))
        .collect();
    assert!(
        policy(&format!("{many}quorum w0\n"))
            .unwrap_err()
            .contains("more than 64")
    );
    assert!(policy(&"#".repeat(70_000)).unwrap_err().contains("limit"));
}

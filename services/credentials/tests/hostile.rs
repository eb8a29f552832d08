//! Manifests that were made to hurt: refused by a cap or found invalid, never a crash and never believed.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::time::{SystemTime, UNIX_EPOCH};

use credentials::{
    CredentialSigner, DevChain, ManifestCaps, ManifestReader, ModelStatement, Operator, Reading,
    Software, State, Statement, Work,
};
use media::{ExifTexts, Format};

fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs() as i64
}

fn webp() -> Vec<u8> {
    let texts = ExifTexts {
        software: "Retrace",
        user_comment: None,
    };
    media::encode_webp((16, 16), &[90; 16 * 16 * 3], &texts).unwrap()
}

/// A WebP file with this manifest store.
fn with_store(store: &[u8]) -> Vec<u8> {
    let mut file = webp();
    file.extend(b"C2PA");
    file.extend((store.len() as u32).to_le_bytes());
    file.extend(store);
    if store.len() % 2 == 1 {
        file.push(0);
    }
    let length = (file.len() - 8) as u32;
    file[4..8].copy_from_slice(&length.to_le_bytes());
    file
}

fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let length = (8 + content.len()) as u32;
    [&length.to_be_bytes()[..], kind, content].concat()
}

/// A description box with a type and a label.
fn described(kind: [u8; 4], label: &str) -> Vec<u8> {
    let rest = [0, 0x11, 0, 0x10, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71];
    let content = [&kind[..], &rest, &[3], label.as_bytes(), &[0]].concat();
    boxed(b"jumd", &content)
}

fn store_of(content: &[u8]) -> Vec<u8> {
    boxed(
        b"jumb",
        &[described(*b"c2pa", "c2pa"), content.to_vec()].concat(),
    )
}

fn read(store: &[u8]) -> Reading {
    let reader = ManifestReader::new("", ManifestCaps::default()).unwrap();
    reader.read(&with_store(store), Format::Webp).unwrap()
}

fn assert_refused(store: &[u8], words: &str) {
    let reading = read(store);
    assert_eq!(reading.state, State::Refused, "{reading:?}");
    assert!(reading.codes[0].contains(words), "{reading:?}");
}

#[test]
fn deep_wide_and_oversized_manifests_are_refused_before_they_are_read() {
    let deep = (0..2_000).fold(described(*b"c2ma", "x"), |inner, _| boxed(b"jumb", &inner));
    assert_refused(&store_of(&deep), "deep");
    assert_refused(&store_of(&boxed(b"json", b"{}").repeat(5_000)), "boxes");
    assert_refused(
        &store_of(&boxed(b"bidb", &vec![0; 9 << 20])),
        "manifest_bytes_max",
    );
    assert_refused(&store_of(&boxed(b"brob", b"c2ma").repeat(9)), "compressed");
}

/// 256 MiB of zeros in 211 bytes: Python, `brotli.compress(bytes(256 << 20), quality=11, lgwin=24)`
/// with brotli 1.2.0, of which these bytes are the beginning; they alone stand for more than 64 MiB.
const BOMB: &str = "cfffff7ff82700e2b14020f7fe9ffffffff04f00c4610180eefd3fffffffe19f0088c32200ddfb7ffeffffc33f01\
108705 00baf7fffcffff877f02200e0b0074effff9ffff0fff04401c1600e8defff3ffff1ffe0980382c00d0bdffe7ffff3ffc13\
00715800a07bffcfffff7ff82700e2b00040f7fe9ffffffff04f00c4610180eefd3fffffffe19f0088c30200ddfb7ffe";

#[test]
fn a_compressed_bomb_is_invalid_and_is_not_unpacked() {
    let hex: Vec<u8> = BOMB.bytes().filter(u8::is_ascii_hexdigit).collect();
    let bomb: Vec<u8> = hex
        .chunks_exact(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    let content = [&b"c2ma"[..], &bomb].concat();
    let manifest = boxed(
        b"jumb",
        &[
            described(*b"c2cm", "urn:c2pa:00000000-0000-4000-8000-000000000000"),
            boxed(b"brob", &content),
        ]
        .concat(),
    );
    let reading = read(&store_of(&manifest));
    assert_eq!(reading.state, State::Invalid, "{reading:?}");
}

struct Samples {
    reader: ManifestReader,
    edited: Vec<u8>,
    outer: String,
    inner: String,
}

/// A signed edit of a signed picture, whose manifests have ids of the same length.
fn samples() -> Samples {
    let made = DevChain::make("Example Newsroom", now_s()).unwrap();
    let reader = ManifestReader::new(&made.root_pem, ManifestCaps::default()).unwrap();
    let signer = CredentialSigner::new(made.chain, &made.key).unwrap();
    let sign = |work| {
        let statement = Statement {
            format: Format::Webp,
            software: Software {
                name: "Retrace",
                version: "1",
            },
            operator: Operator {
                name: "Example Newsroom",
                log: "test.local/log",
            },
            model: ModelStatement {
                name: "model",
                digest: "00",
            },
            work,
            request_id: "req-1",
            image_index: 0,
            created_at_ms: 1_795_421_854_095,
            soft_bindings: &[],
        };
        signer.sign(webp(), &statement).unwrap()
    };
    let first = sign(Work::Created);
    let ingredient = reader.ingredient(&first, Format::Webp);
    let edited = sign(Work::Edited(&ingredient));
    let id = |file: &[u8]| reader.read(file, Format::Webp).unwrap().manifest.unwrap();
    let (inner, outer) = (id(&first), id(&edited));
    Samples {
        reader,
        edited,
        outer,
        inner,
    }
}

fn replaced(file: &[u8], from: &str, to: &str) -> Vec<u8> {
    let mut changed = file.to_vec();
    let mut at = 0;
    while let Some(found) = changed[at..]
        .windows(from.len())
        .position(|window| window == from.as_bytes())
    {
        at += found;
        changed[at..at + to.len()].copy_from_slice(to.as_bytes());
        at += to.len();
    }
    changed
}

#[test]
fn a_manifest_that_is_its_own_ingredient_does_not_hold_and_ends() {
    let Samples {
        reader,
        edited,
        outer,
        inner,
    } = samples();
    assert_eq!(outer.len(), inner.len());
    for cyclic in [
        replaced(&edited, &inner, &outer),
        replaced(&edited, &outer, &inner),
    ] {
        let reading = reader.read(&cyclic, Format::Webp).unwrap();
        assert_eq!(reading.state, State::Invalid, "{reading:?}");
        assert!(!reader.ingredient(&cyclic, Format::Webp).carries_manifests());
    }
}

#[test]
fn cut_and_mutated_manifests_never_crash_the_reader() {
    let Samples { reader, edited, .. } = samples();
    let start = edited
        .windows(4)
        .position(|window| window == b"C2PA")
        .unwrap();
    for cut in (start..edited.len()).step_by(97) {
        let read = reader.read(&edited[..cut], Format::Webp);
        assert!(
            read.is_none_or(|reading| reading.state < State::Valid),
            "cut at {cut}"
        );
    }
    // A fixed stream of numbers (Knuth's multiplier) chooses places and values.
    let mut random = 1_u32;
    for _ in 0..150 {
        let mut changed = edited.clone();
        for _ in 0..3 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = start + 8 + (random >> 8) as usize % (changed.len() - start - 8);
            changed[at] = random as u8;
        }
        // Padding may change without harm; whatever is said, it is said in order.
        let _ = reader.read(&changed, Format::Webp);
    }
}

//! Score.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use media::{Format, Limits};
use provenance::{Bundle, Entry, TlogProof};
use serde_json::{Value, json};
use tests::client::{Client, UploadedFile, bundle_of, png_of};
use tests::service::{photograph, spawn_app, spawn_app_with_known_mark};

/// The findings of one kind.
fn evidence<'a>(answer: &'a Value, kind: &str) -> Vec<&'a Value> {
    answer["evidence"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|item| item["kind"] == kind)
        .collect()
}

#[test]
fn an_image_of_ours_is_recognised_by_its_bytes() {
    let service = spawn_app();
    let client = service.client();
    let item = client.generate_one("a red heart", 1);
    let answer = client.score_png(&png_of(&item)).expect_ok();
    let found = evidence(&answer, "own_entry");
    assert_eq!(found.len(), 1, "{answer}");
    assert_eq!(found[0]["exact_file"], true);
    assert_eq!(
        found[0]["leaf_index"],
        item["provenance"]["entry"]["leaf_index"]
    );
}

#[test]
fn an_image_of_ours_that_was_saved_again_is_recognised_by_its_pixels() {
    let service = spawn_app();
    let client = service.client();
    let item = client.generate_one("a red heart", 2);
    let decoded = media::decode(&png_of(&item), &Limits::default()).unwrap();
    let saved_again = media::encode_png(decoded.width, decoded.height, &decoded.rgb, &[]).unwrap();
    assert_ne!(saved_again, png_of(&item));
    let answer = client.score_png(&saved_again).expect_ok();
    let found = evidence(&answer, "own_entry");
    assert_eq!(found.len(), 1, "{answer}");
    assert_eq!(found[0]["exact_file"], false);
    assert_eq!(
        answer["image"]["pixel_sha256"],
        item["image"]["pixel_sha256"]
    );
}

#[test]
fn an_image_of_ours_that_was_stripped_compressed_and_halved_is_traced_back_to_its_entry() {
    let service = spawn_app_with_known_mark();
    let client = service.client();
    let item = client.generate_one("a red heart", 3);
    let entry = &item["provenance"]["entry"];
    let stated = &entry["statement"]["body"]["perceptual_hash"];
    assert_eq!(entry["statement"]["version"], 3, "{entry}");
    let decoded = media::decode(&png_of(&item), &Limits::default()).unwrap();
    let (width, height) = (decoded.width, decoded.height);
    let picture = media::Picture::new(width, height, decoded.rgb).unwrap();
    let own = media::perceptual_hash(width, height, picture.rgb());
    assert_eq!(stated["hash"], own.hash.to_string());
    let half = picture.fit(width / 2);
    let texts = media::ExifTexts {
        software: "another",
        user_comment: None,
    };
    let size = (half.width(), half.height());
    let damaged = media::encode_jpeg(size, half.rgb(), 50, &texts).unwrap();
    let damaged = UploadedFile {
        name: "saved.jpg",
        media_type: "image/jpeg",
        bytes: &damaged,
    };
    let answer = client.score(&damaged).expect_ok();
    let found = evidence(&answer, "near_match");
    let traced = found
        .iter()
        .any(|near| near["leaf_index"] == entry["leaf_index"]);
    assert!(traced, "{answer}");
    assert!(evidence(&answer, "own_entry").is_empty());

    let hash = own.hash;
    let page = client.get(&format!("/v1/entries?perceptual_hash={hash}&distance=0"));
    let page = page.expect_ok();
    assert_eq!(page["entries"][0]["leaf_index"], entry["leaf_index"]);
    let refused = client.get(&format!("/v1/entries?perceptual_hash={hash}&distance=32"));
    refused.expect_problem(400, "invalid-request");
    let listed = client.get("/services/supportedAlgorithms").expect_ok();
    let alg = listed["fingerprints"][0]["alg"].as_str().unwrap();
    let sent = client.post(
        &format!("/matches/byContent?alg={alg}&maxResults=1"),
        ("image/jpeg", damaged.bytes),
        &[],
    );
    let matches = sent.expect_ok();
    let index = entry["leaf_index"].to_string();
    assert_eq!(matches["matches"][0]["manifestId"], index, "{matches}");
    let nonsense = client.get(&format!("/matches/byBinding?alg={alg}&value=AAAA"));
    nonsense.expect_problem(400, "invalid-request");
    resolve_manifest(&client, alg, &png_of(&item), entry);
    let photograph = client.score_png(&photograph("chelsea.png")).expect_ok();
    assert!(evidence(&photograph, "near_match").is_empty());
}

/// What an image's soft binding leads to, once its manifest was taken off.
fn resolve_manifest(client: &Client, alg: &str, file: &[u8], entry: &Value) {
    let index = entry["leaf_index"].to_string();
    let decoded = media::decode(file, &Limits::default()).unwrap();
    let own = media::perceptual_hash(decoded.width, decoded.height, &decoded.rgb);
    let value = STANDARD.encode(own.hash.as_bytes());
    // The manifest states the very binding that finds it.
    let store = credentials::manifest_store(file, Format::Png).unwrap();
    for stated in ["c2pa.soft-binding", alg, &value] {
        let found = store
            .windows(stated.len())
            .any(|it| it == stated.as_bytes());
        assert!(found, "{stated}");
    }
    let query = json!({ "alg": alg, "value": value, "maxResults": 1 });
    let matches = client.post_json("/matches/byBinding", &query).expect_ok();
    assert_eq!(matches["matches"][0]["manifestId"], index, "{matches}");
    let answer = client.get(&format!("/manifests/{index}"));
    assert_eq!(answer.media_type, "application/c2pa");
    assert!(answer.status == 200 && answer.body == store);
    let given = client
        .get(&format!("/manifests/{index}/receipts"))
        .expect_ok();
    assert_eq!(given["@type"], "org.c2pa.manifest-receipt", "{given}");
    assert_eq!(given["repository"]["manifestId"], index);
    assert_eq!(given["verified"], true);
    let proof = &given["anchor"]["proof"];
    let proof = TlogProof::parse(proof["tlogProof"].as_str().unwrap()).unwrap();
    assert_eq!(proof.leaf_index.to_string(), index);
    let whole = format!("/manifests/{index}?returnActiveManifest=true");
    client.get(&whole).expect_problem(400, "invalid-request");
    client
        .get("/manifests/4000000")
        .expect_problem(404, "not-found");
    // Scoring has recorded an entry without an image since.
    let score = entry["leaf_index"].as_u64().unwrap() + 1;
    client
        .get(&format!("/manifests/{score}"))
        .expect_problem(404, "not-found");
    client
        .get(&format!("/manifests/{score}/receipts"))
        .expect_problem(404, "not-found");
    assert_eq!(client.delete(&format!("/manifests/{index}")).status, 405);
}

#[test]
fn an_open_watermark_in_the_pixels_is_evidence_and_leaves_the_probability_alone() {
    let service = spawn_app();
    let folder = format!("{}/golden/media", env!("CARGO_MANIFEST_DIR"));
    let marked = std::fs::read(format!("{folder}/stable_diffusion_xl_floats.png")).unwrap();
    let answer = service.client().score_png(&marked).expect_ok();
    let found = evidence(&answer, "invisible_watermark");
    assert_eq!(found[0]["generator"], "Stable Diffusion XL", "{answer}");
    let sentence = found[0]["sentence"].as_str().unwrap();
    assert!(sentence.contains("anyone can put it"), "{sentence}");
}

#[test]
fn a_photograph_gets_a_verdict_a_probability_and_a_signed_entry() {
    let service = spawn_app();
    let answer = service
        .client()
        .score_png(&photograph("chelsea.png"))
        .expect_ok();
    let verdict = answer["verdict"].as_str().unwrap();
    assert!(
        ["LikelyGenerated", "LikelyNotGenerated", "Inconclusive"].contains(&verdict),
        "{verdict}"
    );
    let probability = answer["probability"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&probability), "{probability}");
    assert!(evidence(&answer, "own_entry").is_empty());
    for version in [
        "detector_version",
        "calibration_version",
        "thresholds_version",
    ] {
        assert!(!answer[version].as_str().unwrap().is_empty(), "{version}");
    }
    let verified = Bundle::parse(&bundle_of(&answer))
        .unwrap()
        .verify(service.public_keys())
        .unwrap();
    let Entry::Score(entry) = verified.entry else {
        panic!("{:?}", verified.entry)
    };
    let recorded = serde_json::to_value(entry.verdict).unwrap();
    assert_eq!(
        recorded.as_str().unwrap().replace('_', ""),
        verdict.to_lowercase()
    );
    let published = String::from_utf8(bundle_of(&answer)).unwrap();
    let digest = answer["image"]["sha256"].as_str().unwrap();
    assert!(
        !published.contains(digest),
        "the upload's own digest is not published"
    );
}

#[test]
fn the_same_photograph_gets_the_same_score_every_time() {
    let service = spawn_app();
    let client = service.client();
    let first = client.score_png(&photograph("coffee.png")).expect_ok();
    let second = client.score_png(&photograph("coffee.png")).expect_ok();
    for member in ["verdict", "reason", "probability", "raw_score"] {
        assert_eq!(first[member], second[member], "{member}");
    }
    assert_ne!(first["upload_salt"], second["upload_salt"]);
}

#[test]
fn a_picture_smaller_than_a_patch_is_inconclusive_and_says_so() {
    let service = spawn_app();
    let grey: Vec<u8> = (0..20 * 20 * 3)
        .map(|place| 100 + (place % 7) as u8)
        .collect();
    let small = media::encode_png(20, 20, &grey, &[]).unwrap();
    let answer = service.client().score_png(&small).expect_ok();
    assert_eq!(answer["verdict"], "Inconclusive");
    assert_eq!(answer["reason"], "too_small");
    assert_eq!(answer["probability"], Value::Null);
    assert!(
        answer["explanation"]
            .as_str()
            .unwrap()
            .contains("too small"),
        "{answer}"
    );
}

#[test]
fn a_mark_of_another_generator_is_evidence_and_leaves_the_probability_alone() {
    let service = spawn_app();
    let client = service.client();
    let decoded = media::decode(&photograph("coffee.png"), &Limits::default()).unwrap();
    let (width, height) = (decoded.width, decoded.height);
    let plain = media::encode_png(width, height, &decoded.rgb, &[]).unwrap();
    let parameters = (
        "parameters",
        "a cup of coffee\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1",
    );
    let marked = media::encode_png(width, height, &decoded.rgb, &[parameters]).unwrap();
    let plain = client.score_png(&plain).expect_ok();
    let marked = client.score_png(&marked).expect_ok();
    assert!(evidence(&plain, "generator_mark").is_empty());
    assert!(!evidence(&marked, "generator_mark").is_empty(), "{marked}");
    assert_eq!(plain["probability"], marked["probability"]);
    // The mark decides nothing; where the score says the opposite, neither does the score.
    if plain["verdict"] == "LikelyNotGenerated" {
        assert_eq!(marked["verdict"], "Inconclusive");
        assert_eq!(marked["reason"], "evidence_conflicts");
    } else {
        assert_eq!(plain["verdict"], marked["verdict"]);
    }
}

#[test]
fn an_upload_is_not_kept() {
    let service = spawn_app();
    let bytes = photograph("chelsea.png");
    service.client().score_png(&bytes).expect_ok();
    let kept = tests::house::files_with_bytes(service.state(), &bytes[..64]).unwrap();
    assert!(kept.is_empty(), "{kept:?}");
}

#[test]
fn an_upload_as_json_scores_like_one_as_a_form() {
    use base64::Engine as _;
    let service = spawn_app();
    let client = service.client();
    let bytes = photograph("coffee.png");
    let encoded = base64::engine::general_purpose::STANDARD.encode(&bytes);
    // Over the limit of ordinary JSON bodies, and still an upload.
    let as_json = client
        .post_json(
            "/v1/scores",
            &serde_json::json!({ "image_base64": encoded }),
        )
        .expect_ok();
    let as_form = client
        .score(&UploadedFile {
            name: "a.png",
            media_type: "image/png",
            bytes: &bytes,
        })
        .expect_ok();
    assert_eq!(as_json["raw_score"], as_form["raw_score"]);
}

/// A PNG with one more chunk behind its header.
fn with_chunk(file: &[u8], kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let checked = [kind as &[u8], data].concat();
    let mut crc = u32::MAX;
    for byte in &checked {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 * (crc & 1));
        }
    }
    let length = u32::try_from(data.len()).unwrap().to_be_bytes();
    let chunk = [&length[..], &checked, &(!crc).to_be_bytes()].concat();
    // Signature, length, name, 13 bytes of header and checksum.
    [&file[..33], &chunk, &file[33..]].concat()
}

#[test]
fn an_animation_is_refused_with_its_reason_on_the_page_too() {
    let service = spawn_app();
    let client = service.client();
    let still = photograph("coffee.png");
    let animated = with_chunk(&still, b"acTL", &[0, 0, 0, 12, 0, 0, 0, 0]);
    let detail = client
        .score_png(&animated)
        .expect_problem(422, "unreadable-file");
    assert!(detail.contains("animation of 12 frames"), "{detail}");
    let (media_type, body) = tests::client::form(&UploadedFile {
        name: "a.png",
        media_type: "image/png",
        bytes: &animated,
    });
    let page = client.post("/review", (&media_type, &body), &[]);
    assert_eq!(page.status, 422);
    assert!(page.text().contains("animation of 12 frames"));
}

#[test]
fn a_picture_that_a_camera_turned_is_scored_as_stored_and_shown_upright() {
    let service = spawn_app();
    let client = service.client();
    let stored = photograph("coffee.png");
    let orientation = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let turned = with_chunk(&stored, b"eXIf", orientation);
    let plain = client.score_png(&stored).expect_ok();
    let turned = client.score_png(&turned).expect_ok();
    assert_eq!(turned["image"]["orientation"], 6);
    for member in ["raw_score", "probability", "verdict"] {
        assert_eq!(turned[member], plain[member], "{member}");
    }
    assert_eq!(
        turned["image"]["pixel_sha256"],
        plain["image"]["pixel_sha256"]
    );
    let note = turned["image"]["notes"][0].as_str().unwrap();
    assert!(note.contains("upright"), "{note}");
    let heatmap = |answer: &Value| {
        use base64::Engine as _;
        let encoded = answer["heatmap"]["png_base64"].as_str().unwrap();
        let png = base64::engine::general_purpose::STANDARD
            .decode(encoded)
            .unwrap();
        let picture = media::decode(&png, &Limits::default()).unwrap();
        (picture.width, picture.height)
    };
    let (width, height) = heatmap(&plain);
    assert_eq!(heatmap(&turned), (height, width));
}

/// An `iCCP` chunk's data: a zlib stream (RFC 1950) of one stored block.
fn embedded(profile: &[u8]) -> Vec<u8> {
    let (mut low, mut high) = (1_u32, 0_u32);
    for byte in profile {
        low = (low + u32::from(*byte)) % 65_521;
        high = (high + low) % 65_521;
    }
    let length = u16::try_from(profile.len()).unwrap();
    let head = [0x78, 0x01, 0x01];
    let [size, other] = [length.to_le_bytes(), (!length).to_le_bytes()];
    let sum = (high << 16 | low).to_be_bytes();
    [&b"name\0\0"[..], &head, &size, &other, profile, &sum].concat()
}

#[test]
fn a_picture_in_wide_colours_is_scored_and_shown_in_srgb_and_says_so() {
    let service = spawn_app();
    let client = service.client();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/media/colour");
    let profile = |name: &str| std::fs::read(format!("{folder}/{name}.icc")).unwrap();
    let stored = photograph("coffee.png");
    let with = |profile: &[u8]| with_chunk(&stored, b"iCCP", &embedded(profile));
    let plain = client.score_png(&stored).expect_ok();
    assert_eq!(plain["image"]["colour_profile"], Value::Null);
    let image = |profile: &[u8], treatment: &str, words: &str| {
        let answer = client.score_png(&with(profile)).expect_ok();
        let found = &answer["image"]["colour_profile"]["treatment"];
        assert_eq!(found, treatment, "{answer}");
        let note = answer["image"]["notes"][0].as_str().unwrap();
        assert!(note.contains(words), "{note}");
        // The samples are the same, whatever they are taken for.
        let digests = [&answer, &plain].map(|answer| answer["image"]["pixel_sha256"].clone());
        assert_eq!(digests[0], digests[1]);
        answer
    };
    let wide = image(&profile("display_p3"), "converted", "\"Display P3\"");
    assert_ne!(
        wide["heatmap"]["png_base64"],
        plain["heatmap"]["png_base64"]
    );
    assert_ne!(wide["raw_score"], plain["raw_score"]);
    for (same, treatment, words) in [
        (profile("srgb_by_table"), "already_srgb", "as stored"),
        (
            profile("display_p3")[..300].to_vec(),
            "broken",
            "was ignored",
        ),
    ] {
        let answer = image(&same, treatment, words);
        for member in ["raw_score", "probability", "verdict", "heatmap"] {
            assert_eq!(answer[member], plain[member], "{member}");
        }
    }
    let mut named = profile("adobe_rgb");
    let name = named
        .windows(10)
        .position(|part| part == b"Compatible")
        .unwrap();
    named[name..name + 25].copy_from_slice(b"<script>alert(4)</script>");
    let (media_type, body) = tests::client::form(&UploadedFile {
        name: "a.png",
        media_type: "image/png",
        bytes: &with(&named),
    });
    let page = client.post("/review", (&media_type, &body), &[]).text();
    assert!(!page.contains("<script>alert") && page.contains("were converted to sRGB"));
    assert!(page.contains("alert(4)"));
}

#[test]
fn a_panorama_is_scored_and_one_lower_than_a_patch_is_too_small() {
    let service = spawn_app();
    let client = service.client();
    let panorama = |height: u32| {
        let rgb: Vec<u8> = (0..6_000 * height)
            .flat_map(|at| {
                let hash = at.wrapping_mul(2_654_435_761);
                [(hash >> 24) as u8, (hash >> 16) as u8, (at % 251) as u8]
            })
            .collect();
        media::encode_png(6_000, height, &rgb, &[]).unwrap()
    };
    let wide = client.score_png(&panorama(130)).expect_ok();
    assert!(wide["probability"].is_number(), "{wide}");
    assert_eq!(
        wide["trace_curve"]["log_rms"].as_array().map(Vec::len),
        Some(6)
    );
    let flat = client.score_png(&panorama(100)).expect_ok();
    assert_eq!(flat["reason"], "too_small");
    assert_eq!(flat["trace_curve"], Value::Null);
}

#[test]
fn what_a_file_says_about_itself_is_shown_as_text_and_never_as_markup() {
    let service = spawn_app();
    let hostile =
        "<img src=x onerror=alert(1)>\nSteps: 20, Sampler: <script>alert(2)</script>, Seed: 1";
    let file = with_chunk(
        &photograph("coffee.png"),
        b"tEXt",
        &[b"parameters\0", hostile.as_bytes()].concat(),
    );
    let (media_type, body) = tests::client::form(&UploadedFile {
        name: "<script>alert(3)</script>.png",
        media_type: "image/png",
        bytes: &file,
    });
    let page = service.client().post("/review", (&media_type, &body), &[]);
    assert_eq!(page.status, 200, "{}", page.text());
    let text = page.text();
    assert!(!text.contains("<script>alert") && !text.contains("<img src=x"));
}

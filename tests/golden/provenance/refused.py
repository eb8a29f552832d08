"""Inputs that must be refused. Each is named by the code of the refusal, up to `--`."""

import base64
import hashlib
import json

from formats import (
    CHECKPOINT,
    ENTRIES,
    ENTRY_SEED,
    ORIGIN,
    STRANGER,
    Key,
    Tree,
    b64,
    bundle,
    compact,
    consistency,
    digest_of,
    details,
    envelope,
    generation2_body,
    generation_body,
    head,
    inclusion,
    inpainting_details,
    note,
    pae,
    score_body,
    sha256,
    statement,
    tlog_proof,
    verifier_key,
)

# The order of the base point, and two encodings of points that nobody may use as a key.
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493
IDENTITY_POINT = bytes([1] + [0] * 31)
NON_CANONICAL_POINT = bytes([0xF0] + [0xFF] * 30 + [0x7F])  # y = 2^255 - 16, the point with y = 3


def flipped(hex_hash, bit=3):
    data = bytearray.fromhex(hex_hash)
    data[0] ^= 1 << bit
    return data.hex()


def refused(base, why, code, **changes):
    return {"why": why, "code": code, **{**base, **changes}}


def refused_inclusion(tree):
    top = 2**64 - 1
    out = []
    for index, size in ((0, 1), (0, 8), (5, 8), (2, 3), (4, 5)):
        good = inclusion(tree, index, size)
        proof, root = good["proof"], good["root_hash"]
        out += [
            refused(good, "index at size", "index-out-of-range", leaf_index=size),
            refused(good, "index at the end of 64 bits", "index-out-of-range", leaf_index=top),
            refused(good, "size zero", "index-out-of-range", tree_size=0, leaf_index=0),
            refused(good, "root flipped", "root-mismatch", root_hash=flipped(root)),
            refused(good, "leaf flipped", "root-mismatch", leaf_hash=flipped(good["leaf_hash"])),
            refused(good, "empty root", "root-mismatch", root_hash=sha256(b"").hex()),
            refused(good, "root after the proof", "proof-length", proof=proof + [root]),
            refused(good, "root before the proof", "proof-length", proof=[root] + proof),
            refused(good, "size doubled", "proof-length", tree_size=2 * size),
            refused(good, "size at the end of 64 bits", "proof-length", tree_size=top),
        ]
        if len(proof) > 1:
            out.append(refused(good, "hashes reversed", "root-mismatch", proof=proof[::-1]))
        for place in range(len(proof)):
            changed = proof[:place] + [flipped(proof[place])] + proof[place + 1 :]
            out.append(refused(good, f"hash {place} flipped", "root-mismatch", proof=changed))
            without = proof[:place] + proof[place + 1 :]
            out.append(refused(good, f"hash {place} missing", "proof-length", proof=without))
    wrong_place = inclusion(tree, 5, 8)
    for index in (4, 6, 7, 1):
        out.append(refused(wrong_place, f"index {index}", "root-mismatch", leaf_index=index))
    return out


def refused_consistency(tree):
    top = 2**64 - 1
    empty = sha256(b"").hex()
    out = []
    for old, new in ((1, 2), (1, 8), (6, 8), (4, 8), (3, 7), (2, 5), (5, 6)):
        good = consistency(tree, old, new)
        proof, new_root = good["proof"], good["new_root"]
        first_known = old & (old - 1) == 0
        out += [
            refused(good, "new root flipped", "root-mismatch", new_root=flipped(new_root)),
            refused(good, "proof empty", "proof-length", proof=[]),
            refused(good, "root after the proof", "proof-length", proof=proof + [new_root]),
            refused(good, "sizes swapped", "tree-shrank", old_size=new, new_size=old),
            refused(good, "old size zero", "consistency-from-empty-tree", old_size=0),
            refused(good, "old size zero, no proof", "consistency-from-empty-tree", old_size=0,
                    old_root=empty, proof=[]),
            refused(good, "old size zero, new size at the end", "consistency-from-empty-tree",
                    old_size=0, new_size=top),
            # When the old tree is one complete subtree, its root is where the walk starts, and a
            # wrong one first shows at the new root.
            refused(good, "old root flipped", "root-mismatch" if first_known else "old-root-mismatch",
                    old_root=flipped(good["old_root"])),
        ]
        for place in range(len(proof)):
            without = proof[:place] + proof[place + 1 :]
            out.append(refused(good, f"hash {place} missing", "proof-length", proof=without))
    same = consistency(tree, 5, 5)
    out += [
        refused(same, "equal sizes, other root", "root-mismatch", new_root=flipped(same["new_root"])),
        refused(same, "equal sizes with a proof", "proof-length", proof=[same["new_root"]]),
        refused(consistency(tree, 0, 0), "empty trees with another root", "root-mismatch",
                old_root=same["new_root"], new_root=same["new_root"]),
        refused(consistency(tree, 0, 0), "empty trees with a proof", "proof-length", proof=[empty]),
        refused(consistency(tree, 6, 8), "old size at the end of 64 bits", "tree-shrank", old_size=top),
    ]
    return out


def refused_entries(sample):
    good = sample.generation

    def body(**changes):
        return compact(statement("generation", {**generation_body(), **changes}))

    def part(name, **changes):
        return body(**{name: {**generation_body()[name], **changes}})

    def score(**changes):
        return compact(statement("score", {**score_body(), **changes}))

    reordered = dict(reversed(generation_body().items()))
    missing = {k: v for k, v in generation_body().items() if k != "steps"}
    parts = generation_body()["model"]["parts"]
    unsorted_parts = dict(reversed(parts.items()))
    return {
        "malformed--empty": b"",
        "malformed--not-json": b"entry",
        "malformed--truncated": good[:-1],
        "malformed--trailing-newline-twice": good + b"x",
        "malformed--field-missing": compact(statement("generation", missing)),
        "malformed--field-unknown": body(note="hello"),
        "malformed--field-twice": good.replace(b'"steps":30', b'"steps":30,"steps":30'),
        "malformed--steps-as-fraction": good.replace(b'"steps":30', b'"steps":30.0'),
        "malformed--steps-negative": good.replace(b'"steps":30', b'"steps":-30'),
        "malformed--steps-over-32-bits": good.replace(b'"steps":30', b'"steps":4294967296'),
        "malformed--seed-as-number": body(seed=7),
        "malformed--seed-with-leading-zero": body(seed="07"),
        "malformed--seed-over-64-bits": body(seed="18446744073709551616"),
        "malformed--guidance-as-number": body(guidance_scale=7.5),
        "malformed--guidance-with-trailing-zero": body(guidance_scale="7.50"),
        "malformed--guidance-with-exponent": body(guidance_scale="1e3"),
        "malformed--digest-in-upper-case": body(prompt_commitment=digest_of("x").upper()),
        "malformed--digest-short": body(prompt_commitment=digest_of("x")[:-2]),
        "malformed--verdict-unknown": score(verdict="certain"),
        "malformed--invalid-utf8": good.replace(b"studio", b"stud\xffo"),
        "malformed--lone-surrogate": good.replace(b"studio", b"stud\\ud800"),
        "not-canonical--space": good.replace(b'"steps":30', b'"steps": 30'),
        "not-canonical--final-newline": good + b"\n",
        "not-canonical--leading-space": b" " + good,
        "not-canonical--escaped-letter": good.replace(b"studio", b"\\u0073tudio"),
        "not-canonical--escaped-solidus": good.replace(b"image/png", b"image\\/png"),
        "not-canonical--fields-reordered": compact(statement("generation", reordered)),
        "not-canonical--parts-unsorted": part("model", parts=unsorted_parts),
        "not-canonical--part-twice": good.replace(
            b'"parts":{', b'"parts":{"unet/model.onnx":"' + digest_of("unet").encode() + b'",'),
        "not-canonical--kind-first": compact(
            {"kind": "generation", "version": 1, "body": generation_body()}),
        "not-canonical--probability-left-out": compact(statement("score", {
            k: v for k, v in score_body().items() if k != "probability"})),
        "unknown-entry-version--4": compact(statement("generation", generation2_body(), 4)),
        "unknown-entry-version--2-of-a-score": compact(statement("score", score_body(), 2)),
        "unknown-entry-version--0": compact(statement("generation", generation_body(), 0)),
        "unknown-entry-kind--other": compact(statement("deletion", generation_body())),
        "unknown-entry-kind--capital": compact(statement("Generation", generation_body())),
        "malformed--body-of-another-kind": compact(statement("score", generation_body())),
        "invalid-entry-field--client-empty": body(client=""),
        "invalid-entry-field--client-long": body(client="c" * 201),
        "invalid-entry-field--client-with-newline": body(client="a\nb"),
        "invalid-entry-field--time-over-53-bits": body(created_at_ms=2**53),
        "invalid-entry-field--no-pixels": part("image", width=0),
        "invalid-entry-field--no-parts": part("model", parts={}),
        "invalid-entry-field--too-many-parts": part(
            "model", parts={f"{n:03}": digest_of("p") for n in range(129)}),
        "invalid-entry-field--probability-over-one": score(probability="1.5"),
        "invalid-entry-field--probability-below-zero": score(probability="-0.1"),
        "too-long--parts": part(
            "model", parts={f"{n:0199}": digest_of("p") for n in range(128)}),
        **refused_details(sample),
    }


def refused_details(sample):
    """Entries of version 2."""
    good = sample.generation2

    def body(of=details, **changes):
        return compact(statement("generation", {**generation2_body(of), **changes}, 2))

    without = {k: v for k, v in generation2_body().items() if k != "strength"}
    last = {**generation_body(), **details()}
    return {
        "malformed--2-with-the-body-of-1": compact(statement("generation", generation_body(), 2)),
        "malformed--1-with-the-body-of-2": compact(statement("generation", generation2_body())),
        "malformed--2-noise-source-unknown": body(noise_source="dice"),
        "malformed--2-noise-source-in-capitals": body(noise_source="ChaCha20"),
        "malformed--2-task-unknown": body(task="text-to-video"),
        "malformed--2-strength-as-number": body(inpainting_details, strength=0.5),
        "malformed--2-setting-as-number": body(settings={"eta": 0.5}),
        "malformed--2-source-short": body(inpainting_details, sources=[digest_of("x")[:-2]] * 2),
        "not-canonical--2-details-last": compact(statement("generation", last, 2)),
        "not-canonical--2-settings-unsorted": body(settings={"timesteps": "999", "eta": "0.5"}),
        "not-canonical--2-strength-left-out": compact(statement("generation", without, 2)),
        "not-canonical--2-setting-twice": good.replace(b'"settings":{', b'"settings":{"eta":"0.1",'),
        "invalid-entry-field--2-latents-without-digest": body(noise_source="latents"),
        "invalid-entry-field--2-digest-without-latents": body(initial_latents_sha256=digest_of("x")),
        "invalid-entry-field--2-strength-over-one": body(inpainting_details, strength="1.5"),
        "invalid-entry-field--2-strength-below-zero": body(inpainting_details, strength="-0.5"),
        "invalid-entry-field--2-strength-without-source": body(strength="0.5"),
        "invalid-entry-field--2-source-without-use": body(sources=[digest_of("x")]),
        "invalid-entry-field--2-source-missing": body(inpainting_details, sources=[digest_of("x")]),
        "invalid-entry-field--2-too-many-sources": body(
            inpainting_details, sources=[digest_of("x")] * 9),
        "invalid-entry-field--2-watermark-empty": body(watermark=""),
        "invalid-entry-field--2-too-many-settings": body(
            settings={f"{n:02}": "1" for n in range(33)}),
        "invalid-entry-field--2-setting-empty": body(settings={"eta": ""}),
        "invalid-entry-field--2-setting-name-empty": body(settings={"": "1"}),
        "invalid-entry-field--2-setting-long": body(settings={"timesteps": "1" * 4097}),
        "invalid-entry-field--2-setting-with-newline": body(settings={"eta": "1\n2"}),
    }


def identity_signature(message, key):
    """A signature with R the identity: plain Ed25519 accepts it, the strict rules do not."""
    digest = bytearray(hashlib.sha512(key.seed).digest()[:32])
    digest[0] &= 248
    digest[31] = digest[31] & 127 | 64
    secret = int.from_bytes(digest, "little")
    challenge = hashlib.sha512(IDENTITY_POINT + key.public + message).digest()
    scalar = int.from_bytes(challenge, "little") * secret % ED25519_ORDER
    return IDENTITY_POINT + scalar.to_bytes(32, "little")


def malleated(signature):
    """The same signature with the group order added to its scalar."""
    scalar = int.from_bytes(signature[32:], "little") + ED25519_ORDER
    return signature[:32] + scalar.to_bytes(32, "little")


def with_spare_bits(text):
    """Another base64 text of the same bytes: the last letter carries bits that decoders drop."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    bare = text.rstrip("=")
    assert len(bare) != len(text), "only a padded text has spare bits"
    return bare[:-1] + alphabet[alphabet.index(bare[-1]) | 1] + "=" * (len(text) - len(bare))


def refused_envelopes(sample):
    payload = sample.generation
    good = envelope(payload)
    raw = compact(good)
    sig = good["signatures"][0]["sig"]
    label = ENTRIES.label()
    message = pae(payload)

    def signed(**changes):
        return compact({**good, "signatures": [{**good["signatures"][0], **changes}]})

    wrong_version = compact(statement("generation", generation_body(), 4))
    other_type = "application/vnd.in-toto+json"
    return {
        "malformed--empty": b"",
        "malformed--truncated": raw[:-1],
        "malformed--no-signature": compact({**good, "signatures": []}),
        "malformed--two-signatures": compact({**good, "signatures": good["signatures"] * 2}),
        "malformed--field-unknown": compact({**good, "comment": ""}),
        "malformed--signature-field-unknown": signed(cert=""),
        "malformed--signature-short": signed(sig=b64(base64.b64decode(sig)[:63])),
        "malformed--signature-long": signed(sig=b64(base64.b64decode(sig) + b"\0")),
        "malformed--signature-with-spare-bits": signed(sig=with_spare_bits(sig)),
        "malformed--signature-without-padding": signed(sig=sig.rstrip("=")),
        "malformed--payload-in-url-alphabet": compact({**good, "payload": "-_" + good["payload"][2:]}),
        "malformed--payload-with-line-break": compact(
            {**good, "payload": good["payload"][:76] + "\n" + good["payload"][76:]}),
        "not-canonical--space": raw.replace(b'":', b'": ', 1),
        "not-canonical--final-newline": raw + b"\n",
        "not-canonical--payload-type-first": compact({k: good[k] for k in
                                                     ("payloadType", "payload", "signatures")}),
        "not-canonical--escaped-solidus": raw.replace(b"application/", b"application\\/"),
        "unknown-payload-type--in-toto": compact(envelope(payload, payload_type=other_type)),
        "unknown-key--stranger": compact(envelope(payload, STRANGER)),
        "unknown-key--checkpoint-key": compact(envelope(payload, CHECKPOINT)),
        "unknown-key--no-id": signed(keyid=""),
        "unknown-key--id-of-another": signed(keyid=f"{ENTRIES.name}+00000000"),
        "signature-invalid--payload-changed": compact(
            {**good, "payload": b64(payload.replace(b'"steps":30', b'"steps":31'))}),
        "signature-invalid--by-a-stranger": signed(sig=b64(STRANGER.sign(message))),
        "signature-invalid--by-the-checkpoint-key": signed(sig=b64(CHECKPOINT.sign(message))),
        "signature-invalid--without-pre-authentication-encoding": signed(
            sig=b64(ENTRIES.sign(payload))),
        "signature-invalid--of-another-payload-type": signed(
            sig=b64(ENTRIES.sign(pae(payload, other_type)))),
        "signature-invalid--scalar-plus-order": signed(
            sig=b64(malleated(base64.b64decode(sig)))),
        "signature-invalid--commitment-of-small-order": signed(
            sig=b64(identity_signature(message, ENTRIES))),
        "signature-invalid--all-zero": signed(sig=b64(bytes(64))),
        "unknown-entry-version--signed": compact(envelope(wrong_version)),
        "not-canonical--signed-payload": compact(envelope(payload + b"\n")),
        "malformed--signed-payload-empty": compact(envelope(b"")),
        "too-long--payload": compact({**good, "payload": b64(bytes(49152))}),
        "unknown-key--label-in-upper-case": signed(keyid=label.upper()),
    }


def refused_checkpoints(sample):
    good = sample.note
    text = sample.head
    root = sample.tree.root(5)
    line = good.split("\n\n")[1]
    signature = line.split(" ")[2].strip()
    raw = base64.b64decode(signature)

    def noted(body, *keys):
        return note(body, *(keys or (CHECKPOINT,)))

    def lined(*lines):
        return text + "\n" + "".join(lines)

    def named(encoded, name=ORIGIN):
        return lined(f"— {name} {encoded}\n")

    return {
        "malformed--empty": "",
        "malformed--no-signature": text + "\n",
        "malformed--no-empty-line": text + line,
        "malformed--no-final-newline": good[:-1],
        "malformed--two-final-newlines": good + "\n",
        "malformed--carriage-returns": good.replace("\n", "\r\n"),
        "malformed--tab": good.replace(f"{ORIGIN}\n5", f"{ORIGIN}\t\n5"),
        "malformed--hyphen-for-dash": good.replace("— ", "- "),
        "invalid-key-name--two-spaces": good.replace("— ", "—  "),
        "malformed--trailing-space": good[:-1] + " \n",
        "malformed--signature-with-spare-bits": named(with_spare_bits(signature)),
        "malformed--signature-without-padding": named(signature.rstrip("=")),
        "malformed--signature-of-a-key-id-alone": named(b64(raw[:4])),
        "malformed--seventeen-lines": lined(*[line] * 17),
        "malformed--extension-line": noted(text + "extension\n"),
        "malformed--empty-extension-line": noted(text + "\n"),
        "malformed--two-lines": noted(f"{ORIGIN}\n5\n"),
        "malformed--size-with-leading-zero": noted(head("05", root)),
        "malformed--size-with-sign": noted(head("+5", root)),
        "malformed--size-over-64-bits": noted(head(2**64, root)),
        "malformed--size-in-hexadecimal": noted(head("0x5", root)),
        "malformed--root-of-31-bytes": noted(head(5, root[:31])),
        "malformed--root-of-33-bytes": noted(head(5, root + b"\0")),
        "malformed--root-with-spare-bits": noted(f"{ORIGIN}\n5\n{with_spare_bits(b64(root))}\n"),
        "malformed--root-in-hexadecimal": noted(f"{ORIGIN}\n5\n{root.hex()}\n"),
        "malformed--invalid-utf8": good.encode().replace(b"retrace", b"r\xfftrace", 1),
        "invalid-key-name--origin-empty": noted(head(5, root, "")),
        "invalid-key-name--origin-with-space": noted(head(5, root, "retrace test")),
        "invalid-key-name--line-with-plus": named(signature, "a+b"),
        "invalid-key-name--line-without-name": named(signature, ""),
        "root-mismatch--empty-tree-with-root": noted(head(0, root)),
        "origin-mismatch--another-log": noted(head(5, root, "other.test/log")),
        "unknown-key--stranger": noted(text, STRANGER),
        "unknown-key--entry-key": noted(text, ENTRIES),
        "checkpoint-key-unseen--right-name-wrong-id": named(b64(bytes(4) + raw[4:])),
        "unknown-key--wrong-name-right-id": named(signature, "other.test/log"),
        "signature-invalid--size-changed": good.replace("\n5\n", "\n6\n"),
        "signature-invalid--root-changed": good.replace(b64(root), b64(sha256(root))),
        "signature-invalid--by-a-stranger": named(
            b64(CHECKPOINT.id + STRANGER.sign(text.encode()))),
        "signature-invalid--short": named(b64(raw[:-1])),
        "signature-invalid--long": named(b64(raw + b"\0")),
        "signature-invalid--scalar-plus-order": named(b64(raw[:4] + malleated(raw[4:]))),
        "signature-invalid--commitment-of-small-order": named(
            b64(raw[:4] + identity_signature(text.encode(), CHECKPOINT))),
        "signature-invalid--second-line-of-the-same-key": lined(
            line, f"— {ORIGIN} {b64(raw[:-1] + bytes([raw[-1] ^ 1]))}\n"),
        "signature-invalid--without-final-newline-signed": named(
            b64(CHECKPOINT.id + CHECKPOINT.sign(text[:-1].encode()))),
    }


def refused_tlog_proofs(sample):
    good = sample.proof
    first = b64(sample.tree.path(3, 5)[0])
    return {
        "malformed--empty": "",
        "malformed--another-version": good.replace("@v1", "@v2", 1),
        "malformed--index-missing": good.replace("index 3\n", ""),
        "malformed--index-with-leading-zero": good.replace("index 3", "index 03"),
        "malformed--index-negative": good.replace("index 3", "index -1"),
        "malformed--index-over-64-bits": good.replace("index 3", f"index {2**64}"),
        "malformed--index-twice": good.replace("index 3\n", "index 3\nindex 3\n"),
        "malformed--extra-after-index": good.replace("index 3\n", "index 3\nextra AA==\n"),
        "malformed--extra-twice": good.replace("index 3\n", "extra AA==\nextra AA==\nindex 3\n"),
        "malformed--extra-with-spare-bits": good.replace("index 3\n", "extra AB==\nindex 3\n"),
        "malformed--hash-of-31-bytes": good.replace(first, b64(bytes(31))),
        "malformed--hash-with-spare-bits": good.replace(first, with_spare_bits(first)),
        "malformed--empty-line-between-hashes": good.replace(first, first + "\n"),
        "malformed--sixty-five-hashes": good.replace(first, "\n".join([first] * 63)),
        "malformed--carriage-returns": good.replace("\n", "\r\n"),
        "malformed--checkpoint-missing": good.split("\n\n")[0] + "\n\n",
        "malformed--truncated": good[:-1],
    }


def refused_bundles(sample):
    raw = sample.bundle_of(3)
    text = sample.proof
    path = sample.tree.path(3, 5)
    stranger_note = note(sample.head, STRANGER)
    cosigned = note(sample.head, CHECKPOINT, STRANGER)
    resized = note(head(9, sample.tree.root(5)), CHECKPOINT)
    forged = envelope(compact(statement("generation", {**generation_body(), "steps": 31})))

    def with_proof(proof):
        return compact(bundle(sample.leaves[3], proof))

    return {
        "malformed--empty": b"",
        "malformed--truncated": raw[:-1],
        "malformed--field-unknown": compact({**json.loads(raw), "comment": ""}),
        "malformed--another-format": raw.replace(b"bundle@v1", b"bundle@v2"),
        "malformed--extra-data": with_proof(tlog_proof(3, path, sample.note, b"extra")),
        "malformed--proof-missing": compact({"format": "retrace-bundle@v1",
                                             "envelope": sample.leaves[3]}),
        "malformed--bundle-twice": raw + raw,
        "not-canonical--final-newline": raw + b"\n",
        "not-canonical--pretty": json.dumps(json.loads(raw), indent=1, ensure_ascii=False).encode(),
        "not-canonical--escaped-dash": raw.replace("—".encode(), b"\\u2014"),
        "not-canonical--fields-reordered": compact(dict(reversed(json.loads(raw).items()))),
        "unverified-signature--cosigned": with_proof(tlog_proof(3, path, cosigned)),
        "unknown-key--checkpoint-by-a-stranger": with_proof(tlog_proof(3, path, stranger_note)),
        "unknown-key--entry-by-a-stranger": stranger_bundle(sample),
        "signature-invalid--checkpoint-resized": with_proof(text.replace("\n5\n", "\n6\n")),
        "root-mismatch--another-index": with_proof(text.replace("index 3", "index 2")),
        "proof-length--last-index": with_proof(text.replace("index 3", "index 4")),
        "index-out-of-range--index-5": with_proof(text.replace("index 3", "index 5")),
        "index-out-of-range--index-at-the-end": with_proof(
            text.replace("index 3", f"index {2**64 - 1}")),
        "proof-length--hash-missing": with_proof(tlog_proof(3, path[:-1], sample.note)),
        "root-mismatch--hashes-reversed": with_proof(tlog_proof(3, path[::-1], sample.note)),
        "root-mismatch--another-leaf": compact(bundle(sample.leaves[2], text)),
        "root-mismatch--leaf-never-logged": compact(bundle(forged, text)),
        "proof-length--signed-with-another-size": with_proof(tlog_proof(3, path, resized)),
    }


def stranger_bundle(sample):
    """A leaf that is in the log, under the right checkpoint, but signed by another key."""
    leaf = envelope(sample.generation, STRANGER)
    tree = Tree([compact(leaf)])
    checkpoint = note(head(1, tree.root(1)), CHECKPOINT)
    return compact(bundle(leaf, tlog_proof(0, [], checkpoint)))


def refused_public_keys():
    entries, checkpoint = ENTRIES.line(), CHECKPOINT.line()
    name, identifier, key = checkpoint.split("+", 2)
    stranger_entries = Key("stranger.test/log/entries", ENTRY_SEED)

    def pair(second):
        return f"{entries}\n{second}\n"

    return {
        "malformed--empty": "",
        "malformed--one-line": f"{entries}\n",
        "malformed--three-lines": f"{entries}\n{checkpoint}\n{checkpoint}\n",
        "malformed--no-final-newline": f"{entries}\n{checkpoint}",
        "malformed--carriage-returns": f"{entries}\r\n{checkpoint}\r\n",
        "malformed--swapped": f"{checkpoint}\n{entries}\n",
        "malformed--names-of-two-logs": f"{stranger_entries.line()}\n{checkpoint}\n",
        "malformed--one-key-for-both": pair(Key(ORIGIN, ENTRY_SEED).line()),
        "malformed--id-of-another": pair(f"{name}+00000000+{key}"),
        "malformed--id-in-upper-case": pair(f"{name}+{identifier.upper()}+{key}"),
        "malformed--no-key": pair(f"{name}+{identifier}"),
        "malformed--key-type-4": pair(verifier_key(ORIGIN, CHECKPOINT.public, 4)),
        "malformed--key-of-31-bytes": pair(verifier_key(ORIGIN, CHECKPOINT.public[:31])),
        "malformed--not-a-point": pair(verifier_key(ORIGIN, bytes([2] + [0] * 31))),
        "invalid-public-key--small-order": pair(verifier_key(ORIGIN, IDENTITY_POINT)),
        "invalid-public-key--non-canonical": pair(verifier_key(ORIGIN, NON_CANONICAL_POINT)),
        "invalid-key-name--with-space": pair(verifier_key("retrace test", CHECKPOINT.public)),
        "invalid-key-name--empty": pair(verifier_key("", CHECKPOINT.public)),
        "too-long--name": pair(verifier_key("n" * 1000, CHECKPOINT.public)),
    }

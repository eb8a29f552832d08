#!/usr/bin/env python3
"""Writes the golden vectors of the provenance formats. See README.md beside this file."""

import json
import shutil
from pathlib import Path

import refused
from formats import (
    CHECKPOINT,
    CHECKPOINT_SEED,
    CT_LEAVES,
    ENTRIES,
    ENTRY_SEED,
    STRANGER,
    Sample,
    Tree,
    bundle,
    compact,
    consistency,
    envelope,
    head,
    hexes,
    inclusion,
    note,
    sha256,
    tlog_proof,
)

HERE = Path(__file__).resolve().parent


def merkle_vectors():
    ct = Tree([bytes.fromhex(leaf) for leaf in CT_LEAVES])
    own = Tree([f"leaf {i}".encode() for i in range(130)])
    same = Tree(None)
    top = 2**64 - 1
    large = [(0, top), (top - 1, top), (2**63 - 1, top), (2**63, top), (2**63, 2**63 + 1),
             (12345678901234567890, top), (2**32, 2**33 - 1)]
    pairs = [(1, top), (2**63, top), (2**63 - 1, top), (2**63 + 1, top), (top - 1, top), (top, top),
             (12345678901234567890, top), (6, 2**40 + 7)]
    return {
        "ct_leaves": CT_LEAVES,
        "ct_roots": hexes(ct.root(n) for n in range(9)),
        "own_leaf_count": 130,
        "own_roots": hexes(own.root(n) for n in range(131)),
        "inclusion": [inclusion(ct, i, n) for n in range(1, 9) for i in range(n)]
        + [inclusion(own, i, n) for n in (33, 100, 127, 128, 129, 130) for i in range(0, n, 13)]
        + [inclusion(same, i, n) for i, n in large],
        "consistency": [consistency(ct, m, n) for n in range(1, 9) for m in range(1, n + 1)]
        + [consistency(own, m, n) for n in (33, 100, 127, 128, 129, 130) for m in range(1, n + 1, 9)]
        + [consistency(same, m, n) for m, n in pairs]
        + [consistency(ct, 0, 0)],
    }


def lone_bundle(leaf):
    """A leaf alone in its log."""
    lone = Tree([compact(leaf)])
    return compact(bundle(leaf, tlog_proof(0, [], note(head(1, lone.root(1)), CHECKPOINT))))


def accepted_files(sample):
    inpainting = envelope(sample.inpainting)
    return {
        "entries.seed": ENTRY_SEED.hex() + "\n",
        "checkpoint.seed": CHECKPOINT_SEED.hex() + "\n",
        "retrace.pub": f"{ENTRIES.line()}\n{CHECKPOINT.line()}\n",
        "generation.entry.json": sample.generation,
        "score.entry.json": sample.score,
        "generation.envelope.json": compact(sample.leaves[3]),
        "score.envelope.json": compact(sample.leaves[2]),
        "checkpoint.txt": sample.note,
        "empty.checkpoint.txt": note(head(0, sha256(b"")), CHECKPOINT),
        "cosigned.checkpoint.txt": note(sample.head, STRANGER, CHECKPOINT),
        "generation.tlog-proof": sample.proof,
        "extra.tlog-proof": tlog_proof(3, sample.tree.path(3, 5), sample.note, b"extra"),
        "generation.bundle.json": sample.bundle_of(3),
        "score.bundle.json": sample.bundle_of(2),
        "last.bundle.json": sample.bundle_of(4),
        "lone.bundle.json": lone_bundle(sample.leaves[0]),
        "generation2.entry.json": sample.generation2,
        "generation2.envelope.json": compact(envelope(sample.generation2)),
        "generation2.bundle.json": lone_bundle(envelope(sample.generation2)),
        "inpainting.entry.json": sample.inpainting,
        "inpainting.envelope.json": compact(inpainting),
        "inpainting.bundle.json": lone_bundle(inpainting),
    }


def write(folder, files):
    folder.mkdir(parents=True)
    for name, content in files.items():
        data = content if isinstance(content, bytes) else content.encode()
        (folder / name).write_bytes(data)


def main():
    sample = Sample()
    for folder in ("accepted", "refused"):
        shutil.rmtree(HERE / folder, ignore_errors=True)
    write(HERE / "accepted", accepted_files(sample))
    write(HERE / "refused" / "entry", refused.refused_entries(sample))
    write(HERE / "refused" / "envelope", refused.refused_envelopes(sample))
    write(HERE / "refused" / "checkpoint", refused.refused_checkpoints(sample))
    write(HERE / "refused" / "tlog-proof", refused.refused_tlog_proofs(sample))
    write(HERE / "refused" / "bundle", refused.refused_bundles(sample))
    write(HERE / "refused" / "public-keys", refused.refused_public_keys())
    tree = Tree([bytes.fromhex(leaf) for leaf in CT_LEAVES])
    proofs = {"inclusion": refused.refused_inclusion(tree), "consistency": refused.refused_consistency(tree)}
    for name, value in (("merkle.json", merkle_vectors()), ("proofs_refused.json", proofs)):
        (HERE / name).write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    main()

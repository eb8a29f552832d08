"""The formats in Python, from their specifications: RFC 6962, RFC 8032, DSSE, C2SP notes and proofs."""

import base64
import hashlib
import json
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ORIGIN = "retrace.test/log"
ENTRY_SEED = bytes(range(32))
CHECKPOINT_SEED = bytes(range(32, 64))
STRANGER_SEED = bytes(range(64, 96))
PAYLOAD_TYPE = "application/vnd.retrace.entry+json"
# Eight leaves that many Certificate Transparency implementations test with, in hexadecimal.
CT_LEAVES = [
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
]


def sha256(data):
    return hashlib.sha256(data).digest()


def leaf_hash(data):
    return sha256(b"\x00" + data)


def node_hash(left, right):
    return sha256(b"\x01" + left + right)


def largest_power_of_two_below(n):
    k = 1
    while 2 * k < n:
        k *= 2
    return k


class Tree:
    """Leaves by number, so that a tree may be far larger than memory when all leaves are equal."""

    def __init__(self, leaf_data):
        self.leaf_data = leaf_data  # None: every leaf is the same
        self.mth = lru_cache(maxsize=None)(self._mth)

    def root(self, size):
        return self.mth(0, size)

    def _mth(self, begin, end):
        if self.leaf_data is None and begin != 0:
            return self.mth(0, end - begin)
        n = end - begin
        if n == 0:
            return sha256(b"")
        if n == 1:
            return leaf_hash(b"same" if self.leaf_data is None else self.leaf_data[begin])
        k = largest_power_of_two_below(n)
        return node_hash(self.mth(begin, begin + k), self.mth(begin + k, end))

    def leaf(self, index):
        return self.mth(index, index + 1)

    def path(self, m, size, begin=0):
        if size == 1:
            return []
        k = largest_power_of_two_below(size)
        if m < k:
            return self.path(m, k, begin) + [self.mth(begin + k, begin + size)]
        return self.path(m - k, size - k, begin + k) + [self.mth(begin, begin + k)]

    def proof(self, m, size, begin=0, whole=True):
        if m == size:
            return [] if whole else [self.mth(begin, begin + size)]
        k = largest_power_of_two_below(size)
        if m <= k:
            return self.proof(m, k, begin, whole) + [self.mth(begin + k, begin + size)]
        return self.proof(m - k, size - k, begin + k, False) + [self.mth(begin, begin + k)]


def b64(data):
    return base64.b64encode(data).decode()


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


class Key:
    def __init__(self, name, seed):
        self.name = name
        self.seed = seed
        self.private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.id = key_id(name, self.public)

    def sign(self, message):
        return self.private.sign(message)

    def label(self):
        return f"{self.name}+{self.id.hex()}"

    def line(self):
        return verifier_key(self.name, self.public)


def key_id(name, public, kind=1):
    return sha256(name.encode() + b"\n" + bytes([kind]) + public)[:4]


def verifier_key(name, public, kind=1):
    return f"{name}+{key_id(name, public, kind).hex()}+{b64(bytes([kind]) + public)}"


ENTRIES = Key(f"{ORIGIN}/entries", ENTRY_SEED)
CHECKPOINT = Key(ORIGIN, CHECKPOINT_SEED)
STRANGER = Key("stranger.test/log", STRANGER_SEED)


def digest_of(text):
    return sha256(text.encode()).hex()


def generation_body():
    return {
        "request_id": "0190a5f2-0000-7000-8000-000000000001",
        "image_index": 0,
        "created_at_ms": 1767225600123,
        "client": "studio",
        "image": {
            "sha256": digest_of("file"),
            "pixel_sha256": digest_of("pixels"),
            "width": 64,
            "height": 64,
            "media_type": "image/png",
        },
        "model": {
            "name": "emoji-64",
            "digest": digest_of("model"),
            "parts": {
                "text_encoder/model.onnx": digest_of("text encoder"),
                "unet/model.onnx": digest_of("unet"),
                "vae_decoder/model.onnx": digest_of("decoder"),
            },
        },
        "scheduler": "ddim",
        "steps": 30,
        "seed": "18446744073709551615",
        "guidance_scale": "7.5",
        "prompt_commitment": digest_of("commitment"),
    }


def details():
    """What version 2 states besides, in its order."""
    return {
        "noise_source": "torch-cpu",
        "initial_latents_sha256": None,
        "task": "text-to-image",
        "strength": None,
        "sources": [],
        "watermark": "none",
        "settings": {"eta": "0.5", "timesteps": "999,749.5,500,250"},
    }


def inpainting_details():
    return {
        **details(),
        "noise_source": "latents",
        "initial_latents_sha256": digest_of("latents"),
        "task": "inpainting",
        "strength": "0.75",
        "sources": [digest_of("initial image"), digest_of("mask")],
        "settings": {},
    }


def generation2_body(details_of=details):
    """The body of version 2: version 1 with the details after the seed."""
    first = generation_body()
    last = {name: first.pop(name) for name in ("guidance_scale", "prompt_commitment")}
    return {**first, **details_of(), **last}


def score_body():
    return {
        "request_id": "0190a5f2-0000-7000-8000-000000000002",
        "created_at_ms": 1767225601000,
        "client": "Prüfstelle \"Süd\"",
        "upload_commitment": digest_of("upload"),
        "detector": {"name": "photo-prior", "version": "1", "digest": digest_of("detector")},
        "calibration_version": "1",
        "thresholds_version": "1",
        "verdict": "likely_not_generated",
        "probability": "0.0625",
    }


def statement(kind, body, version=1):
    return {"version": version, "kind": kind, "body": body}


def pae(payload, payload_type=PAYLOAD_TYPE):
    head = f"DSSEv1 {len(payload_type)} {payload_type} {len(payload)} "
    return head.encode() + payload


def envelope(payload, key=ENTRIES, signature=None, payload_type=PAYLOAD_TYPE):
    signature = signature or key.sign(pae(payload, payload_type))
    return {
        "payload": b64(payload),
        "payloadType": payload_type,
        "signatures": [{"keyid": key.label(), "sig": b64(signature)}],
    }


def note(text, *keys):
    lines = [f"— {key.name} {b64(key.id + key.sign(text.encode()))}\n" for key in keys]
    return text + "\n" + "".join(lines)


def head(size, root, origin=ORIGIN):
    return f"{origin}\n{size}\n{b64(root)}\n"


def tlog_proof(index, hashes, checkpoint, extra=None):
    extra_line = "" if extra is None else f"extra {b64(extra)}\n"
    lines = "".join(b64(h) + "\n" for h in hashes)
    return f"c2sp.org/tlog-proof@v1\n{extra_line}index {index}\n{lines}\n{checkpoint}"


def bundle(leaf, proof):
    return {"format": "retrace-bundle@v1", "envelope": leaf, "proof": proof}


class Sample:
    """A log of five envelopes and the parts of a bundle of its fourth leaf."""

    def __init__(self):
        self.generation = compact(statement("generation", generation_body()))
        self.score = compact(statement("score", score_body()))
        self.generation2 = compact(statement("generation", generation2_body(), 2))
        self.inpainting = compact(statement("generation", generation2_body(inpainting_details), 2))
        self.leaves = []
        for number in range(5):
            body = generation_body()
            body["image_index"] = number
            self.leaves.append(envelope(compact(statement("generation", body))))
        self.leaves[2] = envelope(self.score)
        self.leaves[3] = envelope(self.generation)
        self.tree = Tree([compact(leaf) for leaf in self.leaves])
        self.head = head(5, self.tree.root(5))
        self.note = note(self.head, CHECKPOINT)
        self.proof = self.proof_of(3)

    def proof_of(self, index, checkpoint=None):
        return tlog_proof(index, self.tree.path(index, 5), checkpoint or self.note)

    def bundle_of(self, index, **parts):
        leaf = parts.get("leaf", self.leaves[index])
        return compact(bundle(leaf, parts.get("proof", self.proof_of(index))))


def hexes(hashes):
    return [h.hex() for h in hashes]


def inclusion(tree, index, size):
    return {
        "leaf_hash": tree.leaf(index).hex(),
        "leaf_index": index,
        "tree_size": size,
        "root_hash": tree.root(size).hex(),
        "proof": hexes(tree.path(index, size)),
    }


def consistency(tree, old, new):
    return {
        "old_size": old,
        "old_root": tree.root(old).hex(),
        "new_size": new,
        "new_root": tree.root(new).hex(),
        "proof": hexes(tree.proof(old, new)),
    }

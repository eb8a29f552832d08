"""The watermark in the starting noise, in NumPy: a second, independent reading of `services/diffusion/src/watermark.rs`.

A key is 32 bytes, an id five: the first names a carrier, a ChaCha20 stream (RFC 8439's block function, 64-bit
counter, the carrier's number as 64-bit nonce) turned into normals by Box and Muller; the other four name the
Walsh functions whose signs multiply the carrier on every fourth position.
"""

import math

import numpy as np

BLOCKS, PLACES = 4, 256
FALSE_POSITIVE_RATE = 1e-6


def _rotate(x: np.ndarray, bits: int) -> np.ndarray:
    return (x << np.uint32(bits)) | (x >> np.uint32(32 - bits))


def chacha20(key: bytes, nonce: int, size: int) -> bytes:
    """The first bytes of a ChaCha20 stream."""
    blocks = -(-size // 64)
    state = np.zeros((16, blocks), np.uint32)
    state[:4] = np.frombuffer(b"expand 32-byte k", "<u4")[:, None]
    state[4:12] = np.frombuffer(key, "<u4")[:, None]
    state[12] = np.arange(blocks, dtype=np.uint32)
    state[14], state[15] = nonce & 0xFFFFFFFF, nonce >> 32
    x = state.copy()

    def quarter(a: int, b: int, c: int, d: int) -> None:
        for target, source, mixed, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            x[target] += x[source]
            x[mixed] = _rotate(x[mixed] ^ x[target], bits)

    for _ in range(10):
        for column in range(4):
            quarter(column, 4 + column, 8 + column, 12 + column)
        for column in range(4):
            quarter(column, 4 + (column + 1) % 4, 8 + (column + 2) % 4, 12 + (column + 3) % 4)
    return (x + state).T.astype("<u4").tobytes()[:size]


def carrier(key: bytes, number: int, values: int) -> np.ndarray:
    """Standard normals [values] of one carrier."""
    words = np.frombuffer(chacha20(key, number, 16 * -(-values // 2)), "<u8") >> np.uint64(11)
    u, v = (words[0::2] + 1.0) / 2.0**53, words[1::2] / 2.0**53
    radius = np.sqrt(-2.0 * np.log(u))
    pairs = np.stack([radius * np.cos(math.tau * v), radius * np.sin(math.tau * v)], axis=1)
    return pairs.reshape(-1)[:values].astype(np.float32)


def walsh() -> np.ndarray:
    """Walsh functions [row, place] of 1 and -1, in the order of Hadamard."""
    matrix = np.ones((1, 1))
    while len(matrix) < PLACES:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


WALSH = walsh()


def noise(key: bytes, identifier: bytes, values: int) -> np.ndarray:
    """The marked starting noise [values] of one image."""
    position = np.arange(values)
    rows = np.frombuffer(identifier[1:], np.uint8)[position % BLOCKS]
    return carrier(key, identifier[0], values) * WALSH[rows, position // BLOCKS % PLACES].astype(np.float32)


class Reader:
    """Reads marks of one key in noises of one size."""

    def __init__(self, key: bytes, values: int):
        self.carriers = np.stack([carrier(key, number, values) for number in range(256)]).astype(np.float64)
        position = np.arange(values)
        self.seat = position % BLOCKS * PLACES + position // BLOCKS % PLACES

    def read(self, z: np.ndarray) -> tuple[float, float, list[bytes]]:
        """Score, false-positive rate at most, and the ids that may be meant, of a noise [values]."""
        sums = np.stack([np.bincount(self.seat, z * row, BLOCKS * PLACES) for row in self.carriers])
        correlations = sums.reshape(256, BLOCKS, PLACES) @ WALSH / np.linalg.norm(z)
        number = int(correlations.max(axis=2).sum(axis=1).argmax())
        rows = np.argsort(-correlations[number], axis=1, kind="stable")[:, :2]
        found = []
        for choice in range(2**BLOCKS):
            chosen = [int(rows[block, choice >> block & 1]) for block in range(BLOCKS)]
            score = sum(correlations[number, block, row] for block, row in enumerate(chosen))
            found.append((score, bytes([number, *chosen])))
        found.sort(key=lambda pair: -pair[0])
        likely = [identifier for score, identifier in found if chance(score) <= FALSE_POSITIVE_RATE]
        return found[0][0], chance(found[0][0]), likely


def chance(score: float) -> float:
    """How often an unmarked picture has this score, at most."""
    return min(1.0, 2.0**40 * 0.5 * math.erfc(score / math.sqrt(2.0)))

"""Writes small colour profiles, pictures that carry them, and what Little CMS makes of their colours.

    python -m pip install -r ../requirements.txt
    python make_vectors.py

The profiles are written here byte by byte (ICC.1:2001-04 and ICC.1:2022), from published primaries and curves;
the printing profile is made up. Little CMS, through Pillow, converts to its own sRGB with the relative
colorimetric intent, which compensates no black point, and without its optimisations.
"""

import io
import json
import platform
import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, features

HERE = Path(__file__).resolve().parent
D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
D65 = (0.3127, 0.3290)
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
DISPLAY_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE_RGB = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
# Type 3 of the parametric curves with the constants of IEC 61966-2-1.
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
NO_OPTIMISATION = 0x0100


def xyz_of(chromaticity: tuple[float, float]) -> np.ndarray:
    x, y = chromaticity
    return np.array([x / y, 1.0, (1 - x - y) / y])


def colorants(primaries: tuple, white: tuple[float, float]) -> np.ndarray:
    """Columns are the XYZ of red, green and blue, adapted to D50."""
    matrix = np.stack([xyz_of(p) for p in primaries], axis=1)
    matrix = matrix * np.linalg.solve(matrix, xyz_of(white))
    scale = np.diag((BRADFORD @ D50) / (BRADFORD @ xyz_of(white)))
    return np.linalg.inv(BRADFORD) @ scale @ BRADFORD @ matrix


def srgb_to_linear(value: np.ndarray) -> np.ndarray:
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def s15(value: float) -> bytes:
    return struct.pack(">i", round(float(value) * 65536))


def xyz_tag(value: np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(s15(part) for part in value)


def parametric(parameters: tuple[float, ...]) -> bytes:
    return b"para\0\0\0\0\0\x03\0\0" + b"".join(s15(part) for part in parameters)


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def table(values: np.ndarray) -> bytes:
    whole = np.round(np.clip(values, 0, 1) * 65535).astype(">u2")
    return b"curv\0\0\0\0" + struct.pack(">I", len(whole)) + whole.tobytes()


def described(name: str, version: int) -> bytes:
    if version >= 4:
        text = name.encode("utf-16-be")
        return b"mluc\0\0\0\0" + struct.pack(">II", 1, 12) + b"enUS" + struct.pack(">II", len(text), 28) + text
    text = name.encode("ascii") + b"\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(4 + 4 + 2 + 1 + 67)


def profile(name: str, kind: bytes, space: bytes, pcs: bytes, version: int, tags: dict[bytes, bytes]) -> bytes:
    tags = {b"desc": described(name, version), b"wtpt": xyz_tag(D50), **tags}
    body, entries, place = b"", b"", 128 + 4 + 12 * len(tags)
    for signature, data in tags.items():
        entries += signature + struct.pack(">II", place + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s", place + len(body), b"\0" * 4, version << 24, kind, space, pcs)
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(24) + struct.pack(">I", 0)
    head += b"".join(s15(part) for part in D50) + bytes(48)
    return head + struct.pack(">I", len(tags)) + entries + body


def matrix_profile(name: str, version: int, primaries: tuple, curve: bytes) -> bytes:
    columns = colorants(primaries, D65)
    tags = {b"rgb"[n : n + 1] + b"XYZ": xyz_tag(columns[:, n]) for n in range(3)}
    tags |= {b"rgb"[n : n + 1] + b"TRC": curve for n in range(3)}
    return profile(name, b"mntr", b"RGB ", b"XYZ ", version, tags)


def lab_of(xyz: np.ndarray) -> np.ndarray:
    ratio = xyz / D50
    root = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def lut16(points: int, channels: int, lab: np.ndarray) -> bytes:
    """`mft2` with straight curves; Lab as ICC.1:2001-04 encodes it in 16 bits: 65,280 is L* of 100."""
    encoded = np.stack([lab[..., 0] * 652.8, (lab[..., 1] + 128) * 256, (lab[..., 2] + 128) * 256], axis=-1)
    grid = np.round(np.clip(encoded, 0, 65535)).astype(">u2").reshape(-1, 3)
    head = b"mft2\0\0\0\0" + bytes([channels, 3, points, 0])
    head += b"".join(s15(part) for part in np.eye(3).reshape(-1)) + struct.pack(">HH", 2, 2)
    straight = struct.pack(">HH", 0, 65535)
    return head + straight * channels + grid.tobytes() + straight * 3


def nodes(points: int, channels: int) -> np.ndarray:
    steps = np.linspace(0, 1, points)
    return np.stack(np.meshgrid(*[steps] * channels, indexing="ij"), axis=-1).reshape(-1, channels)


def scanner_profile() -> bytes:
    """RGB by a table: Adobe RGB's primaries, each node's Lab."""
    lab = lab_of(nodes(17, 3) ** 2.2 @ colorants(ADOBE_RGB, D65).T)
    return profile("A scanner by table", b"scnr", b"RGB ", b"Lab ", 2, {b"A2B0": lut16(17, 3, lab)})


def press_profile() -> bytes:
    """Four made-up inks on paper, each letting through a share of linear red, green and blue."""
    passes = np.array([[0.02, 0.35, 0.75], [0.60, 0.03, 0.25], [0.90, 0.75, 0.05], [0.03, 0.03, 0.03]])
    covered = nodes(7, 4)[:, :, None] ** 0.8
    light = np.prod(1 - covered * (1 - passes[None]), axis=1)
    lab = lab_of(light @ colorants(SRGB, D65).T)
    return profile("A press of four inks", b"prtr", b"CMYK", b"Lab ", 2, {b"A2B0": lut16(7, 4, lab)})


def profiles() -> dict[str, bytes]:
    srgb = parametric(SRGB_CURVE)
    return {
        "display_p3": matrix_profile("Display P3", 4, DISPLAY_P3, srgb),
        "adobe_rgb": matrix_profile("Compatible with Adobe RGB (1998)", 2, ADOBE_RGB, gamma(2.19921875)),
        "linear": matrix_profile("Linear light, primaries of sRGB", 2, SRGB, gamma(1.0)),
        "srgb_by_formula": matrix_profile("sRGB by formula", 4, SRGB, srgb),
        "srgb_by_table": matrix_profile("sRGB by table", 2, SRGB, table(srgb_to_linear(np.linspace(0, 1, 1024)))),
        "grey_gamma_1_8": profile("Grey, gamma 1.8", b"mntr", b"GRAY", b"XYZ ", 2, {b"kTRC": gamma(1.8)}),
        "scanner": scanner_profile(),
        "press": press_profile(),
    }


def samples(channels: int) -> np.ndarray:
    """Equal parts of everything, corners and a spread of others, uint8 of (colours, channels)."""
    ramp = np.repeat(np.arange(256)[:, None], channels, axis=1)
    if channels == 1:
        return ramp.astype(np.uint8)
    corners = nodes(2, channels) * 255
    spread = np.random.default_rng(7).integers(0, 256, (400, channels))
    return np.concatenate([ramp, corners, spread]).astype(np.uint8)


def converted(icc: bytes, picture: Image.Image) -> Image.Image:
    source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    transform = ImageCms.buildTransform(
        source, target, picture.mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC, NO_OPTIMISATION
    )
    return ImageCms.applyTransform(picture, transform)


def view(channels: int) -> np.ndarray:
    """Soft colours, 48 x 32, that JPEG keeps well."""
    y, x = np.mgrid[0:32, 0:48].astype(float)
    waves = [128 + 100 * np.sin(x / (9 + n) + n) * np.cos(y / (7 + 2 * n)) for n in range(channels)]
    return np.round(np.stack(waves, axis=-1)).astype(np.uint8)


def pictures(made: dict[str, bytes]) -> list[dict]:
    """Files by other people's encoders, with what they show."""
    cases = []
    for name, mode, ending, options in [
        ("display_p3", "RGB", "jpg", {"quality": 95, "subsampling": 0}),
        ("display_p3", "RGB", "png", {}),
        ("display_p3", "RGB", "webp", {"lossless": True}),
        ("press", "CMYK", "jpg", {"quality": 95, "subsampling": 0}),
    ]:
        raw = view(len(mode))
        picture = Image.frombytes(mode, (raw.shape[1], raw.shape[0]), raw.tobytes())
        file = f"{name}.{ending}"
        picture.save(HERE / file, icc_profile=made[name], **options)
        with Image.open(HERE / file) as stored:
            stored.load()
            shown = converted(made[name], stored.copy())
        cases.append({"file": file, "width": shown.width, "height": shown.height, "rgb": shown.tobytes().hex()})
    return cases


def main() -> None:
    made = profiles()
    cases = []
    for name, icc in made.items():
        (HERE / f"{name}.icc").write_bytes(icc)
        mode = {b"GRAY": "L", b"RGB ": "RGB", b"CMYK": "CMYK"}[icc[16:20]]
        colours = samples(len(mode))
        rgb = converted(icc, Image.frombytes(mode, (len(colours), 1), colours.tobytes()))
        cases.append({"profile": name, "space": mode, "samples": colours.tobytes().hex(), "rgb": rgb.tobytes().hex()})
    vectors = {
        "made_with": {
            "python": platform.python_version(),
            "pillow": Image.__version__,
            "littlecms": features.version("littlecms2"),
            "numpy": np.__version__,
        },
        "profiles": cases,
        "pictures": pictures(made),
    }
    (HERE / "vectors.json").write_text(json.dumps(vectors, indent=1) + "\n")


if __name__ == "__main__":
    main()

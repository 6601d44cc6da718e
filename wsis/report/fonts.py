"""Letters of any script on pictures: a font that has them, else the number of the class."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@cache
def font_for(text: str, size: int) -> Font | None:
    """Pillow's own font where it has all letters of a text, else DejaVu Sans, else the first font of this machine that
    has them; None where none does.

    Args:
        text: one line, see :func:`composed`.
        size: in pixels.
    """
    letters = {ord(letter) for letter in text if not letter.isspace()}
    if all(letter < 0x7F for letter in letters):
        return ImageFont.load_default(size=size)
    for path in _fonts():
        if letters <= _letters_of(path):
            return ImageFont.truetype(path, size=size)
    return None


def composed(text: str) -> str:
    """A text in one line, whose accented letters are one letter each."""
    return unicodedata.normalize("NFC", " ".join(text.split()))


def drawable_names(categories: Sequence[dict[str, Any]]) -> dict[int, str]:
    """What stands for each class on a picture, by its id: its name, or #id where no font has the letters."""
    return {
        c["id"]: c["name"] if font_for(composed(c["name"]), 11) else f"#{c['id']}"
        for c in categories
    }


def _fonts() -> Iterator[str]:
    """Font files, the readable one that comes with Matplotlib first."""
    from matplotlib import font_manager  # takes its time

    yield font_manager.findfont("DejaVu Sans")
    yield from sorted(font_manager.findSystemFonts())


@cache
def _letters_of(path: str) -> frozenset[int]:
    from matplotlib import ft2font

    try:
        return frozenset(ft2font.FT2Font(path).get_charmap())
    except (OSError, RuntimeError):  # no font that FreeType can read
        return frozenset()

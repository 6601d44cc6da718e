"""Which files of a folder are images, and which files a command line names."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from wsis.errors import DataError, counted

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in [
        "jpg",
        "jpeg",
        "jpe",
        "jfif",
        "png",
        "apng",
        "bmp",
        "dib",
        "tif",
        "tiff",
        "webp",
        "gif",
        "avif",
        "jp2",
        "j2k",
        "jpx",
        "ppm",
        "pgm",
        "pbm",
        "pnm",
        "tga",
        "mpo",
        "ico",
    ]
)
"""What makes a file in a folder count as an image; a file that is named is opened whatever its suffix."""


def walk_files(root: Path) -> Iterator[Path]:
    """The files of a folder and of its subfolders, linked ones too, by name; none twice through a link. What macOS puts
    beside each file, "._" and its name, is none.
    """
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        place = os.path.realpath(folder)
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        folders.sort()
        yield from (Path(folder, n) for n in sorted(files) if not n.startswith("._"))


def images_of(root: Path) -> tuple[list[Path], list[Path]]:
    """The images of a folder and its subfolders, and the other files, hidden ones aside; sorted."""
    images: list[Path] = []
    others: list[Path] = []
    for path in walk_files(root):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            images.append(path)
        elif not path.name.startswith("."):
            others.append(path)
    return sorted(images), sorted(others)


def left_out(others: Sequence[Path]) -> str:
    """How many files are no images, and by which suffixes, in one line; "" where there is none."""
    if not others:
        return ""
    suffixes = sorted({path.suffix.lower() or "none" for path in others})
    more = ", ..." if len(suffixes) > 8 else ""
    return (
        f"{counted(len(others), 'file is', 'files are')} left out, by the suffix no image: {', '.join(suffixes[:8])}"
        f"{more}; name a file to read it all the same"
    )


def expand_patterns(patterns: Sequence[str]) -> list[Path]:
    """The files that names, patterns and folders stand for, each once.

    Args:
        patterns: paths, ``*`` and ``**`` allowed; a folder stands for the images in it and in its subfolders, and a
            line says which other files it has.

    Raises:
        DataError: a pattern stands for nothing.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        if not pattern:  # of a shell's variable that is not set; the folder of work would be meant
            raise DataError("found an empty name, expected a file, a pattern or a folder of images")
        named = Path(pattern)
        others: list[Path] = []
        if named.is_dir():
            paths, others = images_of(named)
        elif named.is_file():
            paths = [named]
        else:
            paths = [Path(path) for path in sorted(glob.glob(pattern, recursive=True))]
            paths = [path for path in paths if not path.is_dir()]
        if not paths:
            what = "no image in this folder; name another" if named.is_dir() else "no such file"
            raise DataError(f"{pattern}: {what}" + (f"; {left_out(others)}" if others else ""))
        if others:
            logger.warning("%s: %s", pattern, left_out(others))
        found.update(dict.fromkeys(paths))
    return list(found)


def find_images(patterns: Sequence[str]) -> list[Path]:
    """The files that :func:`expand_patterns` finds, no two of them of one name.

    Raises:
        DataError: a pattern stands for nothing, or two files differ in folder or suffix only, so that what is made of
            them would have one name.
    """
    found: dict[str, Path] = {}
    for path in expand_patterns(patterns):
        if found.setdefault(path.stem, path) != path:
            raise DataError(
                f"{found[path.stem]} and {path}: two images of one name; name the files or a pattern such as '*.jpg'"
            )
    return list(found.values())

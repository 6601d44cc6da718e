"""Image files whose names an annotation file spells otherwise than the folder does."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, unquote_plus

from wsis.data.folders import IMAGE_SUFFIXES, images_of
from wsis.data.values import is_file_name, is_image_id, leaves_root
from wsis.errors import counted


class FolderIndex:
    """The images of a folder and of its subfolders; looked at when the first name is asked for.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def names(self) -> list[str]:
        """Relative to the folder."""
        return [path.relative_to(self.root).as_posix() for path in images_of(self.root)[0]]

    @cached_property
    def _ends(self) -> dict[str, list[str]]:
        """The names by themselves; after a slash by their last part; after two by that without suffix."""
        found: dict[str, list[str]] = defaultdict(list)
        for name in self.names:
            found[_same(name)].append(name)
            last = _same(name.rpartition("/")[2])
            found[f"/{last}"].append(name)
            found[f"//{_stem(last)}"].append(name)
        return found

    def find(self, stated: str, any_suffix: bool = True) -> str | None:
        """The image that a name stands for, if it is one only: of the same name in another spelling (backslashes, %20,
        the case of letters, the form of accented ones), without the first of its folders, else of the same last part
        in any subfolder, at last with another suffix.

        Args:
            stated: the name.
            any_suffix: an image with another suffix will do, where no other one is meant.
        """
        for text in _spellings(stated):
            parts = [part for part in text.split("/") if part not in ("", ".", "..")]
            keys = ["/".join(parts[start:]) for start in range(len(parts))]
            if parts:
                keys += [f"/{parts[-1]}", f"//{_stem(parts[-1])}"][: 1 + any_suffix]
            for key in keys:
                alike = self._ends.get(_same(key), [])
                exact = [name for name in alike if name == key]
                if len(exact or alike) == 1:
                    return (exact or alike)[0]
                if alike:
                    return None
        return None


def _stem(name: str) -> str:
    """The name without a suffix of images."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in IMAGE_SUFFIXES else name


def _same(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _spellings(stated: str) -> list[str]:
    """What a name may mean: Windows paths, percent codes, web addresses, links of labelling tools to local files."""
    stated = stated.strip()
    local = stated.partition("?d=")[2] or stated
    address = local.partition("?")[0] if "://" in local else local
    forms = (address, unquote(address), unquote_plus(address))
    return list(dict.fromkeys(f for text in forms for f in (text, text.replace("\\", "/"))))


def find_names(
    images: list[dict[str, Any]], image_root: str, remarks: list[str]
) -> list[dict[str, Any]]:
    """The images with the names that their files have. A file that two entries would stand for is no one's.

    Args:
        images: of a COCO file; a name that leaves the folder is looked for in it, too.
        image_root: their folder.
        remarks: gets a line about the names that were spelt otherwise.
    """
    index = FolderIndex(Path(image_root))
    found: dict[int, str] = {}
    owners: dict[str, set[str]] = defaultdict(set)
    for position, image in enumerate(images):
        name: Any = image.get("file_name")
        if not is_file_name(name):
            continue
        if not leaves_root(name) and os.path.exists(os.path.join(image_root, name)):
            owners[name].add(name)
            continue
        other = index.find(name)
        if other is not None and other != name:
            found[position] = other
            owners[other].add(name)
    found = {i: name for i, name in found.items() if len(owners[name]) == 1}
    if not found:
        return images
    first, name = next(iter(found.items()))
    names = counted(len(found), "image name is", "image names are")
    remarks.append(
        f"{names} spelt otherwise than in {image_root}, the first: {images[first]['file_name']!r} is {name!r}"
    )
    return [
        {**image, "file_name": found[i]} if i in found else image for i, image in enumerate(images)
    ]


def unique_names(images: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Image id by everything that names one image only: its file name, the last part of it, and that without suffix.

    Args:
        images: with ``file_name`` and ``id``.
    """
    found: dict[str, Any] = {}
    forms: tuple[Callable[[PurePosixPath], str], ...] = (
        str,
        lambda path: path.name,
        lambda path: path.stem,
    )
    paths = [
        (PurePosixPath(image["file_name"].replace("\\", "/")), image["id"])
        for image in images
        if is_file_name(image.get("file_name")) and is_image_id(image.get("id"))
    ]
    for form in forms:  # a full name goes before the end of another one
        owners: dict[str, set[Any]] = defaultdict(set)
        for path, image_id in paths:
            owners[form(path)].add(image_id)
        for text, ids in owners.items():
            if len(ids) == 1:
                found.setdefault(text, *ids)
    return found

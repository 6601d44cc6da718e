"""A folder per class, as CUB, ILSVRC and torchvision's ImageFolder have it, to one COCO document with image tags."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from wsis.data.folders import expand_patterns, walk_files
from wsis.data.images import UnreadableImageError, read_header
from wsis.errors import DataError, counted

logger = logging.getLogger(__name__)


def class_folders(root: Path) -> list[Path]:
    """The folders in a folder, by name; hidden ones are no classes.

    Raises:
        DataError: there is no such folder, or none in it.
    """
    if not root.is_dir():
        raise DataError(
            f"{root}: no such folder, expected one with a folder for each class; name it by --images"
        )
    folders = sorted(each for each in root.iterdir() if each.is_dir() and each.name[0] != ".")
    if not folders:
        raise DataError(
            f"{root}: no folder in it, expected one for each class; move the images of a class into one"
        )
    return folders


def to_tag_document(root: Path) -> dict[str, Any]:
    """COCO JSON without annotations, whose images have ``image_labels``: the class of their folder.

    Args:
        root: of the class folders; their images may lie in folders of their own. ``file_name`` is relative to it.

    Returns:
        Classes by name with ids from 1, images by path with ids from 1.

    Raises:
        DataError: a class without an image, or no image that can be read; some that cannot be are left out.
    """
    images: list[dict[str, Any]] = []
    unreadable: list[str] = []
    folders = class_folders(root)
    for number, folder in enumerate(folders, start=1):
        for path in expand_patterns([str(folder)]):
            try:
                header = read_header(path)
            except UnreadableImageError as error:
                unreadable.append(str(error))
                continue
            images.append(
                {
                    "id": len(images) + 1,
                    "file_name": path.relative_to(root).as_posix(),
                    "height": header.height,
                    "width": header.width,
                    "image_labels": [number],
                }
            )
    if unreadable:
        text = f"{counted(len(unreadable), 'image')} cannot be read, the first: {unreadable[0]}"
        if not images:
            raise DataError(f"{root}: {text}; no other is left: save them anew")
        logger.warning("%s: %s; left out", root, text)
    categories = [{"id": i, "name": each.name} for i, each in enumerate(folders, start=1)]
    return {"images": images, "annotations": [], "categories": categories}


def left_out(root: Path, document: dict[str, Any]) -> int:
    """The number of files below a folder that are no image of a class; hidden ones do not count."""
    files = list(walk_files(root))
    shown = [p for p in files if not any(part[0] == "." for part in p.relative_to(root).parts)]
    return len(shown) - len(document["images"])

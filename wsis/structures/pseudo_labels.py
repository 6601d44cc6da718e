"""Semantic pseudo labels on disk: one 8-bit palette PNG per image, beside one ``manifest.json``.

``<folder>/<label name>/<file name without suffix>.png``, subfolders kept; 0 = background, 255 = ignore.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from PIL import Image

from wsis.errors import DataError
from wsis.structures.proxy_file import atomic_writer, write_json_atomic

IGNORE = 255
MANIFEST = "manifest.json"


@cache
def voc_palette() -> bytes:
    """The colours of PASCAL VOC: 256 times red, green, blue. Bit 3 k + c of a label is bit 7 - k of channel c."""
    labels = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for k in range(8):
        for channel in range(3):
            colours[:, channel] |= ((labels >> (3 * k + channel) & 1) << (7 - k)).astype(np.uint8)
    return colours.tobytes()


def label_path(
    folder: str | os.PathLike[str], name: str, file_name: str, suffix: str = ".png"
) -> Path:
    """Where the label of an image lies, or, with the suffix .npz, its score maps.

    Args:
        folder: of the dataset's pseudo labels or score maps.
        name: of the label or map.
        file_name: the image's, as in the source; of an absolute one the root is left out.
        suffix: of the file.

    Raises:
        DataError: the name leads out of the folder.
    """
    path = PurePath(os.path.normpath(file_name))
    parts = path.parts[1:] if path.is_absolute() else path.parts
    if not parts or parts[0] == "..":
        raise DataError(f"image {file_name!r}: what is made of it would not lie inside {folder}")
    return Path(folder, name, *parts).with_suffix(suffix)


def name_in_source(path: str, image_root: str) -> str:
    """The name that an image has in its data set.

    Args:
        path: of the image, the root included.
        image_root: folder that names are relative to; "" = names are paths.
    """
    return os.path.relpath(path, image_root) if image_root else path


def write_label(path: str | os.PathLike[str], label: np.ndarray) -> None:
    """Writes one label; a reader sees the whole file or none.

    Args:
        path: of the PNG; folders are made.
        label: (H, W) uint8.
    """
    image = Image.fromarray(np.ascontiguousarray(label, dtype=np.uint8))
    image.putpalette(voc_palette())
    with atomic_writer(path, "wb") as stream:
        image.save(stream, format="PNG", optimize=False)


def write_manifest(
    folder: str | os.PathLike[str],
    provenance: dict[str, Any],
    names: Sequence[str],
    class_names: Sequence[str],
    kind: str = "labels",
) -> None:
    """Writes ``manifest.json``: ``wsis`` (what the labels or maps were made with), ``labels`` or ``score_maps``, as
    ``kind`` says (their names), ``classes`` (by value, background first) and, of labels, ``ignore``.
    """
    classes = ["background", *class_names]
    manifest: dict[str, Any] = {"wsis": provenance, kind: list(names), "classes": classes}
    if kind == "labels":
        manifest["ignore"] = IGNORE
    write_json_atomic(Path(folder, MANIFEST), manifest, indent=2)

"""How good folders of semantic labels are, against another folder or against instance masks."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wsis.data.semantic import instances_to_label, read_label, read_manifest
from wsis.data.source import CocoSource
from wsis.errors import DataError
from wsis.evaluation.semantic_quality import count_pixels, semantic_quality
from wsis.structures.pseudo_labels import label_path

Truth = Callable[[Path], np.ndarray]
"""The true label map of a label, given by its path inside the folder."""


def truth_of_folder(folder: str | os.PathLike[str]) -> Truth:
    """True labels that lie in a folder under the same names."""
    if not os.path.isdir(folder):
        raise DataError(f"{folder}: no such folder of label maps")
    return lambda name: read_label(Path(folder, name))


def truth_of_instances(source: CocoSource) -> Truth:
    """True labels from the masks of a COCO file, see :func:`wsis.data.semantic.instances_to_label`.

    Raises:
        DataError: it has no masks.
    """
    if not source.has_masks:
        raise DataError(f"{source.json_file}: no masks, expected true labels")
    images = {label_path(".", "", image["file_name"]): image for image in source.images}

    def read(name: Path) -> np.ndarray:
        if name not in images:
            raise DataError(f"{source.json_file}: no image of the label {name}")
        return instances_to_label(source, images[name])

    return read


def class_names_of(folders: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Names of the classes, background first, from the first manifest beside one of the folders.

    Raises:
        DataError: there is none.
    """
    for folder in folders:
        manifest = read_manifest(folder)
        if manifest is not None:
            return list(manifest["classes"])
    raise DataError(
        f"{folders[0]}: no manifest.json beside this folder names its classes; give the true masks as COCO JSON"
    )


def label_folder_quality(
    folder: str | os.PathLike[str], truth: Truth, class_names: Sequence[str]
) -> dict[str, Any]:
    """Scores of all labels in a folder.

    Args:
        folder: of PNG files, subfolders too.
        truth: of each.
        class_names: C, background first.

    Returns:
        As :func:`wsis.evaluation.semantic_quality.semantic_quality`, and ``images``, their number.

    Raises:
        DataError: no label, one that cannot be read or does not fit its truth, or one without truth.
    """
    paths = sorted(Path(folder).rglob("*.png"))
    if not paths:
        raise DataError(f"{folder}: found no PNG file, expected label maps")
    num_classes = len(class_names)
    counts = np.zeros((num_classes, num_classes + 1), dtype=np.int64)
    for path in paths:
        label = read_label(path, num_classes=num_classes)
        counts += count_pixels(label, truth(path.relative_to(folder)), num_classes, os.fspath(path))
    return {"images": len(paths), **semantic_quality(counts, class_names)}

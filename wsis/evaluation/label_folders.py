"""How good folders of semantic labels are, against another folder or against instance masks."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsis.data.labels import (
    check_label_classes,
    instances_to_label,
    read_label,
    read_manifest,
)
from wsis.data.source import CocoSource
from wsis.errors import DataError
from wsis.evaluation.semantic_quality import Counts, count_labels, semantic_quality
from wsis.structures.pseudo_labels import label_path


@dataclass(frozen=True)
class Truth:
    """True label maps.

    Attributes:
        names: of the labels, as paths inside their folder.
        read: the true label map of a name.
    """

    names: frozenset[Path]
    read: Callable[[Path], np.ndarray]


def truth_of_folder(folder: str | os.PathLike[str]) -> Truth:
    """True labels that lie in a folder under the same names.

    Raises:
        DataError: there is no such folder.
    """
    if not os.path.isdir(folder):
        raise DataError(f"{folder}: no such folder of label maps")
    return Truth(frozenset(_labels_in(folder)), lambda name: read_label(Path(folder, name)))


def _labels_in(folder: str | os.PathLike[str]) -> list[Path]:
    """Paths of the PNG files below a folder, relative to it, sorted."""
    return sorted(path.relative_to(folder) for path in Path(folder).rglob("*.png"))


def truth_of_instances(source: CocoSource) -> Truth:
    """True labels from the masks of a COCO file, see :func:`wsis.data.labels.instances_to_label`.

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

    return Truth(frozenset(images), read)


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
        As :func:`wsis.evaluation.semantic_quality.semantic_quality`, and ``images``, the number of labels, and
        ``missing``, the number of images that have a truth and no label: they are not scored.

    Raises:
        DataError: no label, one that cannot be read or does not fit its truth, one without truth, or labels of other
            classes.
    """
    check_label_classes(folder, class_names)
    names = _labels_in(folder)
    if not names:
        raise DataError(f"{folder}: found no PNG file, expected label maps")
    num_classes = len(class_names)
    counts = Counts.of_nothing(num_classes)
    for name in names:
        path = Path(folder, name)
        label = read_label(path, num_classes=num_classes)
        counts += count_labels(label, truth.read(name), num_classes, os.fspath(path))
    missing = len(truth.names.difference(names))
    return {"images": len(names), "missing": missing, **semantic_quality(counts, class_names)}

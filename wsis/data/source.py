"""A COCO JSON file, read strictly: either everything in it can be relied upon, or one line says what is wrong."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from wsis.data.source_checks import LISTS, document_problems
from wsis.errors import DataError, counted

logger = logging.getLogger(__name__)

Annotation = dict[str, Any]
Image = dict[str, Any]

BAD_BOX_HINT = "; set DATASETS.BAD_BOX skip to leave such boxes out"


@dataclass(frozen=True, eq=False)
class CocoSource:
    """A validated COCO JSON file.

    Args:
        json_file: its path (or the dataset's name, if it was registered from Python).
        image_root: folder that the images' ``file_name`` is relative to; "" = names are paths as they stand.
        images, annotations, categories: the file's own lists, unchanged.
        sha256: of the file's bytes, in hex.
        info: the file's ``info``.
        bad_boxes: ids of annotations whose box has no area or lies wholly outside its image.
        bad_box: one line about the first of them.
        no_box: one line about the first annotation without a box, "" = all have one.
    """

    json_file: str
    image_root: str
    images: list[Image]
    annotations: list[Annotation]
    categories: list[dict[str, Any]]
    sha256: str
    info: dict[str, Any] = field(default_factory=dict)
    bad_boxes: frozenset[int] = frozenset()
    bad_box: str = ""
    no_box: str = ""

    def check_boxes(self, bad_box: str = "error", need_boxes: bool = True) -> CocoSource:
        """The source itself, if its boxes are as wanted.

        Args:
            bad_box: "error" or "skip", for boxes wholly outside their image or without area; "later" lets them be.
            need_boxes: every annotation must have a ``bbox``.

        Raises:
            DataError: the first box that is not as wanted.
        """
        if need_boxes and self.no_box:
            raise DataError(self.no_box)
        if self.bad_boxes and bad_box == "error":
            raise DataError(self.bad_box + BAD_BOX_HINT)
        if self.bad_boxes and bad_box == "skip" and not self._told:
            boxes = counted(len(self.bad_boxes), "box", "boxes")
            text = "%s: %s without area or wholly outside their image will not be used"
            logger.warning(text, self.json_file, boxes)
            self._told.append(boxes)
        return self

    @cached_property
    def _told(self) -> list[str]:
        """What the log has about the boxes, so that it has it once."""
        return []

    @cached_property
    def has_masks(self) -> bool:
        """Whether any annotation (crowds aside) carries a ``segmentation``."""
        return any(a.get("segmentation") and not a.get("iscrowd") for a in self.annotations)

    @property
    def class_names(self) -> list[str]:
        """Names of the classes in the order of the contiguous index (by ascending category id)."""
        return [c["name"] for c in sorted(self.categories, key=lambda c: c["id"])]

    @cached_property
    def id_to_contiguous(self) -> dict[int, int]:
        """Category id of the file to contiguous index, 0-based."""
        return {c: i for i, c in enumerate(sorted(c["id"] for c in self.categories))}

    @cached_property
    def _by_image(self) -> dict[Any, list[Annotation]]:
        grouped: dict[Any, list[Annotation]] = {image["id"]: [] for image in self.images}
        for annotation in self.annotations:
            grouped[annotation["image_id"]].append(annotation)
        return grouped

    def annotations_of(self, image_id: int | str) -> list[Annotation]:
        """The annotations of one image, in the file's order."""
        return self._by_image[image_id]

    def path_of(self, image: Image) -> str:
        """Where the image lies on disk."""
        return os.path.join(self.image_root, image["file_name"])


def load_source(
    json_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str] = "",
    *,
    bad_box: str = "error",
    need_boxes: bool = True,
) -> CocoSource:
    """Reads and checks a COCO JSON file.

    Args:
        json_file: path of the file.
        image_root: folder of the images; "" = the names in the file are paths as they stand.
        bad_box, need_boxes: see :meth:`CocoSource.check_boxes`.

    Raises:
        DataError: the first thing that is wrong, with file, key or id, what was found and what was expected.
    """
    path, root = os.fspath(json_file), os.fspath(image_root)
    document, sha256 = read_document(path, root)
    return check_document(document, path, root, sha256, bad_box=bad_box, need_boxes=need_boxes)


def read_document(json_file: str, image_root: str) -> tuple[Any, str]:
    """What the JSON parser makes of a file, and the SHA-256 of its bytes in hex.

    Raises:
        DataError: the file cannot be read or is not JSON, or there is no such image folder.
    """
    if not json_file:  # of a shell's variable that is not set
        raise DataError("found an empty name, expected a JSON file")
    try:
        content = Path(json_file).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{json_file}: cannot be read ({reason})") from error
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{json_file}: not valid JSON ({error})") from error
    if image_root and not os.path.isdir(image_root):
        raise DataError(f"{image_root}: no such image folder (for {json_file})")
    return document, hashlib.sha256(content).hexdigest()


def check_document(
    document: Any,
    name: str,
    image_root: str,
    sha256: str,
    *,
    bad_box: str = "error",
    need_boxes: bool = True,
) -> CocoSource:
    """The checks of :func:`load_source` on a parsed document; ``name`` is what errors call it."""
    bad: dict[int, str] = {}
    without = ""
    for problem in document_problems(document, name, image_root):
        if problem.no_box and not need_boxes:
            without = without or problem.text
        elif problem.bad_box is None:
            raise DataError(problem.text)
        else:
            bad[problem.bad_box] = problem.text
    info = document.get("info")
    source = CocoSource(
        name,
        image_root,
        **{key: document[key] for key in LISTS},
        sha256=sha256,
        info=info if isinstance(info, dict) else {},
        bad_boxes=frozenset(bad),
        bad_box=next(iter(bad.values()), ""),
        no_box=without,
    )
    return source.check_boxes(bad_box, need_boxes)

"""A COCO JSON file, read as generously as other readers do, but not in silence: either everything in the result can be
relied upon, or one line says what is wrong.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import itertools
import logging
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from wsis.data.foreign import recognised_text
from wsis.data.json_objects import UnfitError, parse, parse_lazily, without_collector
from wsis.data.source_checks import LISTS, Problem, document_problems, told
from wsis.data.table import Annotation, AnnotationTable
from wsis.data.table_builder import table_of
from wsis.data.tidy import tidy
from wsis.errors import DataError, counted

logger = logging.getLogger(__name__)

Image = dict[str, Any]


@dataclass(frozen=True, eq=False)
class CocoSource:
    """A validated COCO JSON file.

    Args:
        json_file: its path (or the dataset's name, if it was registered from Python).
        image_root: folder that the images' ``file_name`` is relative to; "" = names are paths as they stand.
        images, annotations, categories: the file's own lists, see :func:`wsis.data.tidy.tidy`.
        sha256: of the file's bytes, in hex.
        info: the file's ``info``.
        bad_boxes: ids of annotations whose box has no area or lies wholly outside its image.
        bad_box: one line about them.
        no_box: one line about the annotations without a box, "" = all have one.
        remarks: what was left out or guessed when the file was read, one line each.
        classes: those of the run by name, in the order of its contiguous index, all of the file among them; empty =
            the file's own.
        has_told: what the log has about the file.
    """

    json_file: str
    image_root: str
    images: list[Image]
    annotations: Sequence[Annotation]
    categories: list[dict[str, Any]]
    sha256: str
    info: dict[str, Any] = field(default_factory=dict)
    bad_boxes: frozenset[int] = frozenset()
    bad_box: str = ""
    no_box: str = ""
    remarks: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    has_told: list[str] = field(default_factory=list, repr=False)

    def check_boxes(self, bad_box: str = "error", need_boxes: bool = True) -> CocoSource:
        """The source itself, if its boxes are as wanted. The log gets the remarks, once.

        Args:
            bad_box: "error" or "skip", for boxes wholly outside their image or without area; "later" lets them be.
            need_boxes: every annotation must have a ``bbox``.

        Raises:
            DataError: the first box that is not as wanted.
        """
        if need_boxes and self.no_box:
            raise DataError(self.no_box)
        if self.bad_boxes and bad_box == "error":
            raise DataError(self.bad_box)
        lines = list(self.remarks) if bad_box != "later" else []
        if self.bad_boxes and bad_box == "skip":
            boxes = counted(len(self.bad_boxes), "box", "boxes")
            lines.append(f"{boxes} without area or wholly outside their image will not be used")
        for line in lines:
            self.tell(line)
        return self

    def tell(self, line: str) -> None:
        """A warning about the file, once."""
        if line not in self.has_told:
            self.has_told.append(line)
            logger.warning("%s: %s", self.json_file, line)

    def without_images(self, image_ids: Collection[int | str]) -> CocoSource:
        """The source without some images and their annotations."""
        images = [image for image in self.images if image["id"] not in image_ids]
        annotations = self.table.without_images(image_ids)
        return replace(self, images=images, annotations=annotations)

    @cached_property
    def table(self) -> AnnotationTable:
        """The annotations as columns."""
        if isinstance(self.annotations, AnnotationTable):
            return self.annotations
        return table_of(self.annotations, [image["id"] for image in self.images])

    @cached_property
    def has_masks(self) -> bool:
        """Whether any annotation (crowds aside) carries a ``segmentation``."""
        masked = self.table.where(self.table.has("segmentation") & ~self.table.crowds)
        return any(a.get("segmentation") for a in masked)

    @cached_property
    def run_categories(self) -> list[dict[str, Any]]:
        """``id`` and ``name`` of the classes of the run, in the order of the contiguous index, by default that of the
        ids. Ids are the file's; those of classes that it lacks are counted on.
        """
        own = sorted(self.categories, key=lambda category: category["id"])
        if not self.classes:
            return [{"id": category["id"], "name": category["name"]} for category in own]
        ids = {category["name"]: category["id"] for category in own}
        further = itertools.count(own[-1]["id"] + 1)
        return [{"id": ids[n] if n in ids else next(further), "name": n} for n in self.classes]

    @property
    def class_names(self) -> list[str]:
        """Names of the classes in the order of the contiguous index."""
        return [category["name"] for category in self.run_categories]

    @cached_property
    def id_to_contiguous(self) -> dict[int, int]:
        """Category id to contiguous index, 0-based."""
        return {category["id"]: index for index, category in enumerate(self.run_categories)}

    @cached_property
    def own_values(self) -> tuple[int, ...]:
        """Values of label maps by those of the run: the file's own classes count 1, 2, ... by their ids; -1 for one
        that the file lacks.
        """
        values = {c: value for value, c in enumerate(sorted(c["id"] for c in self.categories), 1)}
        return 0, *(values.get(category["id"], -1) for category in self.run_categories)

    def annotations_of(self, image_id: int | str) -> list[Annotation]:
        """The annotations of one image, in the file's order."""
        return self.table.of_image(image_id)

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
    for lazily in (True, False):
        document, sha256 = read_document(path, root, lazily)
        with contextlib.suppress(UnfitError), without_collector():
            return check_document(
                document, path, root, sha256, bad_box=bad_box, need_boxes=need_boxes
            )
    raise AssertionError("a document that is read at once fits")


def read_document(json_file: str, image_root: str, lazily: bool = False) -> tuple[Any, str]:
    """What the JSON parser makes of a file, and the SHA-256 of its bytes in hex.

    Args:
        json_file, image_root: see :func:`load_source`.
        lazily: the annotations may be :class:`wsis.data.json_objects.JsonObjects`.

    Raises:
        DataError: the file cannot be read or is not JSON, or there is no such image folder.
    """
    if not json_file:  # of a shell's variable that is not set
        raise DataError("found an empty name, expected a JSON file")
    try:
        content = Path(json_file).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        reason = getattr(error, "strerror", None) or error
        cure = _reading_cure(json_file, image_root)
        raise DataError(f"{json_file}: cannot be read ({reason}); {cure}") from error
    document = None
    if lazily:
        with contextlib.suppress(UnfitError):
            document = parse_lazily(content, "annotations")
    try:
        document = parse(content) if document is None else document
    except (ValueError, RecursionError) as error:
        foreign = recognised_text(content)
        is_text = not isinstance(error, UnicodeDecodeError)
        cure = "write or download the file again" if is_text else "save it as UTF-8"
        text = foreign or f"not valid JSON ({error}); {cure}"
        raise DataError(f"{json_file}: {text}") from error
    if image_root and not os.path.isdir(image_root):
        what = "a file, no image folder" if os.path.exists(image_root) else "no such image folder"
        raise DataError(
            f"{image_root}: {what} (for {json_file}); name the folder that its file names are relative to"
        )
    return document, hashlib.sha256(content).hexdigest()


def _reading_cure(json_file: str, image_root: str) -> str:
    if os.path.isdir(json_file):
        swapped = os.path.isfile(image_root)
        return "swap JSON file and image folder" if swapped else "name the JSON file in it"
    if any(sign in json_file for sign in "*?["):
        return "a pattern stands for no file here; name one file"
    path = Path(json_file)
    there = sorted(each.name for each in path.parent.glob("*.json"))
    alike = difflib.get_close_matches(path.name, there, 1) or there
    hint = f"; {path.parent} has {alike[0]}" if alike else ""
    return f"name it as it is called from {os.getcwd()}{hint}"


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
    document, remarks = tidy(document, image_root)
    bad: list[Problem] = []
    without: list[Problem] = []
    wrong: list[Problem] = []
    for problem in document_problems(document, name, image_root):
        if problem.no_box and not need_boxes:
            without.append(problem)
        else:
            (wrong if problem.bad_box is None else bad).append(problem)
    if wrong:
        raise DataError(told(wrong)[0])
    info = document.get("info")
    source = CocoSource(
        name,
        image_root,
        **{key: document[key] for key in LISTS},
        sha256=sha256,
        info=info if isinstance(info, dict) else {},
        bad_boxes=frozenset(problem.bad_box for problem in bad if problem.bad_box is not None),
        bad_box="".join(told(bad)),
        no_box="".join(told(without)),
        remarks=tuple(remarks),
    )
    return source.check_boxes(bad_box, need_boxes)

"""What other readers of COCO JSON take without a word, brought into the one form that the rules know: 1.0 for 1, names
that are numbers, sizes that stand in the image files only, polygons without area. What has one meaning only is put
right in silence; what leaves something out, or was guessed, is counted in one line.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sized
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from wsis.data.image_names import find_names
from wsis.data.images import read_header
from wsis.data.source_checks import (
    LISTS,
    all_have_sizes,
    are_objects,
    has_size,
    is_file_name,
    is_image_id,
    is_integer,
    is_number,
    plain,
)
from wsis.data.table import AnnotationTable, Columns, Layout
from wsis.data.table_builder import TableBuilder, Values, chunks, table_of
from wsis.errors import DataError, counted

Item = dict[str, Any]
_NO_SIZE = (None, 0, "", "0")
_IGNORE = "ignore_segmentation"


def tidy(document: Any, image_root: str) -> tuple[Any, list[str]]:
    """A parsed COCO JSON file with every value in the form that the rules know, its annotations as a table, and what
    was done in counted lines.

    Args:
        document: what the JSON parser made of the file; left as it is. A file without the three lists comes back as it
            is.
        image_root: folder of the images; "" = the names in the file are paths as they stand.
    """
    if not isinstance(document, dict) or not all(are_objects(document.get(key)) for key in LISTS):
        return document, []
    remarks: list[str] = []
    categories = [_changed(category, _of_category(category)) for category in document["categories"]]
    images = [
        image if _is_fine_image(image) else _changed(image, _of_image(image))
        for image in document["images"]
    ]
    images = _without_twins(images, remarks)
    if image_root:
        images = find_names(images, image_root, remarks)
    images, unsized = _with_sizes(images, image_root, remarks)
    annotations = document["annotations"]
    if unsized:
        found = ((a, a.get("image_id")) for a in annotations)
        annotations = (a for a, of in found if not (is_image_id(of) and of in unsized))
    mender = _AnnotationMender(images, categories)
    table = mender.mend(annotations)
    remarks += mender.remarks()
    return {
        **document,
        "images": images,
        "categories": categories,
        "annotations": table,
    }, remarks


def _changed(item: Item, changes: Item) -> Item:
    return {**item, **changes} if changes else item


def whole(value: Any) -> Any:
    """1.0 and "1" as 1; anything else as it is."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    if isinstance(value, str) and value.isascii() and len(value) < 19:
        return int(value) if value.removeprefix("-").isdigit() else value
    return value


def _of_category(category: Item) -> Item:
    changes: Item = {}
    if isinstance(category.get("id"), float):
        changes["id"] = whole(category["id"])
    if is_number(category.get("name")):
        changes["name"] = str(category["name"])
    return changes


def _is_fine_image(image: Item) -> bool:
    """Whether nothing has to be done, in few steps."""
    get = image.get
    kinds = type(get("height")), type(get("width")), type(get("file_name"))
    return kinds == (int, int, str) and type(get("id")) is not float


def _of_image(image: Item) -> Item:
    changes: Item = {}
    if isinstance(image.get("id"), float):
        changes["id"] = whole(image["id"])
    for side in ("height", "width"):
        value = image.get(side)
        if value != value:  # the NaN of a table's gap
            changes[side] = None
        elif type(value) is not int and whole(value) is not value:
            changes[side] = whole(value)
    url = image.get("coco_url")
    if image.get("file_name") is None and is_file_name(url):  # LVIS
        changes["file_name"] = "/".join(str(url).split("/")[-2:])
    return changes


def _without_twins(images: list[Item], remarks: list[str]) -> list[Item]:
    """Each image once, where an entry is there again with the same id and file."""
    with contextlib.suppress(TypeError):  # an id that is a list
        if len({image.get("id") for image in images}) == len(images):
            return images
    seen = set()
    kept = []
    for image in images:
        key = repr(image.get("id")), repr(image.get("file_name"))
        if key not in seen:
            kept.append(image)
        seen.add(key)
    if len(kept) < len(images):
        number = counted(len(images) - len(kept), "image is", "images are")
        remarks.append(f"{number} listed again with the same id and file; each counts once")
    return kept


def _with_sizes(
    images: list[Item], image_root: str, remarks: list[str]
) -> tuple[list[Item], set[Any]]:
    """The images, those without height or width with the size of their file, and the ids of those left out since their
    file cannot be read either. Where that are all of them they are kept, for the rules to refuse.
    """
    without = [
        i
        for i, image in enumerate(images)
        if (image.get("height") in _NO_SIZE or image.get("width") in _NO_SIZE)
        and is_file_name(image.get("file_name"))
    ]
    if not without:
        return images, set()

    def size(position: int) -> Item | DataError:
        try:
            header = read_header(os.path.join(image_root, images[position]["file_name"]))
        except DataError as error:
            return error
        return {"height": header.height, "width": header.width}

    with ThreadPoolExecutor(max_workers=8) as pool:
        found = dict(zip(without, pool.map(size, without), strict=True))
    failed = {i: error for i, error in found.items() if isinstance(error, DataError)}
    sizes = {i: each for i, each in found.items() if not isinstance(each, DataError)}
    if len(failed) == len(images):
        return images, set()
    if sizes:
        number = counted(len(sizes), "image has", "images have")
        remarks.append(f"{number} no height and width here: taken from the image files")
    if failed:
        error = next(iter(failed.values()))
        remarks.append(
            f"{counted(len(failed), 'image has', 'images have')} no height and width here and cannot be read: left "
            f"out with all annotations, the first: {error}"
        )
    kept = [_changed(image, sizes.get(i, {})) for i, image in enumerate(images) if i not in failed]
    return kept, {images[i]["id"] for i in failed if is_image_id(images[i].get("id"))}


class _AnnotationMender:
    """Brings annotations into form and counts what that left out.

    Args:
        images, categories: in form already.
    """

    def __init__(self, images: list[Item], categories: list[Item]) -> None:
        self.images = images
        sized = all_have_sizes(images)
        self.sizes = {
            i["id"]: (i["height"], i["width"]) if sized or has_size(i) else (0, 0)
            for i in images
            if is_image_id(i.get("id"))
        }
        self._size_column = np.array(list(self.sizes.values()), dtype=np.int64).reshape(-1, 2)
        self.category_ids = {c["id"] for c in categories if is_integer(c.get("id"))}
        self.counts: Counter[str] = Counter()
        self.first: dict[str, Any] = {}
        self._names: dict[str, Any] | None = None

    def mend(self, annotations: Iterable[Item]) -> AnnotationTable:
        """The annotations in form, without those of images that are not listed, unless that are all of them."""
        number = len(annotations) if isinstance(annotations, Sized) else 0
        builder = TableBuilder(self.sizes, number)
        for chunk in chunks(annotations):
            if not builder.add_regular(chunk, self._vouch):
                builder.add([a if self._is_fine(a) else self._mended(a) for a in chunk])
        table = builder.table()
        if 0 < self.counts["orphan"] < len(table):
            keep = np.ones(len(table), dtype=bool)
            lost = np.flatnonzero(table.columns.images < 0)
            keep[lost] = [not self._is_orphan(a.get("image_id")) for a in table.rows(lost)]
            table = table.take(keep)
        else:
            del self.counts["orphan"]
        if not table.is_odd.all():
            return table
        kinds = {type(a.get("id")) for a in table}
        if kinds == {str} or (kinds == {type(None)} and not any("id" in a for a in table)):
            self.counts["numbered"] = len(table)
            self.first["numbered"] = table[0].get("id")
            numbered = ({**a, "id": number} for number, a in enumerate(table, start=1))
            return table_of(numbered, list(self.sizes))
        return table

    def _vouch(self, values: Values, layouts: list[Layout], columns: Columns) -> np.ndarray | None:
        """Which annotations the rules need not look at; None if something has to be mended, see :meth:`_is_fine`."""
        if (
            not np.isfinite(columns.areas).all()
            or not {type(score) for score in values.get("score", ())} <= {int, float}
            or not {type(mask) for mask in values.get(_IGNORE, ())} <= {dict}
            or not all(map(_is_mask, values.get("segmentation", ())))
        ):
            return None
        sizes = self._size_column[columns.images]
        return plain(columns, layouts, values.get("score", ()), sizes, self.category_ids)

    def remarks(self) -> list[str]:
        """What was left out or guessed, one line each."""

        def line(key: str, noun: str, plural: str, text: str) -> str:
            number = counted(self.counts[key], noun, plural)
            return f"{number} {text}, the first is annotation {self.first[key]!r}"

        text = "of images that the file does not list: left out"
        forms = {
            "orphan": ("annotation is", "annotations are", text),
            "name": ("annotation names", "annotations name", "the file of its image for image_id"),
            "numbered": (
                "annotation has",
                "annotations have",
                "no number for an id: counted from 1",
            ),
            "part": (
                "polygon has",
                "polygons have",
                "less than three points: left out of their masks",
            ),
            "no part": ("annotation has", "annotations have", "no other polygon and so no mask"),
            "area": ("annotation has", "annotations have", "an area that is no number: computed"),
        }
        return [line(key, *form) for key, form in forms.items() if self.counts[key]]

    def _is_orphan(self, image_id: Any) -> bool:
        return is_image_id(image_id) and image_id not in self.sizes

    def _is_fine(self, annotation: Item) -> bool:
        """Whether nothing has to be done, in as few steps as possible: files have millions of annotations."""
        get = annotation.get
        image_id, area = get("image_id"), get("area", 0)
        return (
            type(get("id")) is int
            and (type(image_id) is int or type(image_id) is str)
            and image_id in self.sizes
            and type(get("category_id")) is int
            and type(get("iscrowd", 0)) is int
            and (type(area) is int or (type(area) is float and area - area == 0))
            and _is_mask(get("segmentation"))
            and get("bbox", 0) is not None
            and type(get("score", 1)) in (int, float)
            and type(get(_IGNORE, {})) is dict
        )

    def _mended(self, annotation: Item) -> Item:
        out = dict(annotation)
        out["image_id"] = self._image_id(annotation)
        self._count("orphan", annotation, self._is_orphan(out["image_id"]))
        if "id" in out:
            out["id"] = whole(out["id"])
        category = whole(out.get("category_id"))
        if is_integer(category) and category in self.category_ids:
            out["category_id"] = category
        crowd = out.get("iscrowd", 0)
        empty = crowd is None or crowd != crowd  # null, and the NaN of a table's gap
        out["iscrowd"] = 0 if empty else int(crowd) if isinstance(crowd, bool) else whole(crowd)
        if "area" in out and not (is_number(out["area"]) and out["area"] >= 0):
            del out["area"]
            self._count("area", annotation)
        for key in ("score", "bbox"):
            if key in out and out[key] is None:
                del out[key]
        for key in ("segmentation", _IGNORE):
            if key in out:
                out[key] = self._mask(out[key], annotation)
        return {k: v for k, v in out.items() if k in annotation or v not in (None, 0)}

    def _image_id(self, annotation: Item) -> Any:
        """The id that the image has in this file: as a number or as text, else by a name that is given for it."""
        given = annotation.get("image_id")
        other = str(given) if is_integer(given) else whole(given)
        for image_id in (given, other, str(other)):
            if type(image_id) in (int, str) and image_id in self.sizes:
                return image_id
        if not isinstance(given, str):
            return given
        if self._names is None:
            self._names = unique_names(self.images)
        if given in self._names:
            self._count("name", annotation)
        return self._names.get(given, given)

    def _mask(self, mask: Any, annotation: Item) -> Any:
        out, lost = usable_mask(mask)
        self._count("part", annotation, lost)
        self._count("no part", annotation, lost > 0 and out is None)
        return out

    def _count(self, key: str, annotation: Item, number: int = 1) -> None:
        if number:
            self.counts[key] += number
            self.first.setdefault(key, annotation.get("id"))


def usable_mask(mask: Any) -> tuple[Any, int]:
    """A mask with its polygons in a list, those of three points or more, None where none is left; and how many others
    there were. What is no mask comes back for the rules to refuse.
    """
    if mask in ("", {}):
        return None, 0
    if not isinstance(mask, list) or not mask or _are_polygons(mask):
        return mask, 0
    parts = [mask] if all(map(is_number, mask)) else mask
    if not all(isinstance(part, list) for part in parts):
        return mask, 0
    kept = [part for part in parts if len(part) >= 6 and not len(part) % 2]
    return kept or None, len(parts) - len(kept)


def _is_mask(mask: Any) -> bool:
    """Whether there is nothing to mend."""
    return mask is None or type(mask) is dict or (type(mask) is list and _are_polygons(mask))


def _are_polygons(mask: list[Any]) -> bool:
    """Whether each part is a list of three points or more."""
    for part in mask:
        if type(part) is not list or len(part) < 6 or len(part) % 2:
            return False
    return bool(mask)


def unique_names(images: Iterable[Item]) -> dict[str, Any]:
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
        if is_file_name(image.get("file_name"))
    ]
    for form in forms:  # a full name goes before the end of another one
        owners: dict[str, set[Any]] = defaultdict(set)
        for path, image_id in paths:
            owners[form(path)].add(image_id)
        for text, ids in owners.items():
            if len(ids) == 1:
                found.setdefault(text, *ids)
    return found

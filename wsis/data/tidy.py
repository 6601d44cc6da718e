"""What other readers of COCO JSON take without a word, brought into the one form that the rules know: 1.0 for 1, names
that are numbers, sizes that stand in the image files only, polygons without area. What has one meaning only is put
right in silence; what leaves something out, or was guessed, is counted in one line.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from wsis.data.image_names import find_names, unique_names
from wsis.data.images import read_header
from wsis.data.source_checks import LISTS, are_objects, plain
from wsis.data.table import AnnotationTable, Columns, Layout
from wsis.data.table_builder import NO_BOX, TableBuilder, Values, chunks, table_of
from wsis.data.values import (
    NUMBERS,
    all_have_sizes,
    as_number,
    column,
    has_size,
    in_numbers,
    is_file_name,
    is_image_id,
    is_integer,
    is_mask,
    is_number,
    rotation,
    usable_mask,
    whole,
)
from wsis.errors import DataError, counted
from wsis.structures.boxes import box_around_rotated, xywh_to_xyxy
from wsis.structures.rle import tight_box

Item = dict[str, Any]
_NO_SIZE = (None, 0, "", "0")
_NO_AREA = [0, 0, 0, 0]
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
    categories = _without_twins(categories, "name", ("class is", "classes are"), remarks)
    images = document["images"]
    if not _are_fine_images(images):
        images = [_changed(image, _of_image(image)) for image in images]
    images = _without_twins(images, "file_name", ("image is", "images are"), remarks)
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


def _of_category(category: Item) -> Item:
    changes: Item = {}
    if isinstance(category.get("id"), float | str):
        changes["id"] = whole(category["id"])
    if is_number(category.get("name")):
        changes["name"] = str(category["name"])
    return changes


def _are_fine_images(images: list[Item]) -> bool:
    """Whether :func:`_of_image` changes none, in few steps."""
    kinds = ("height", int), ("width", int), ("file_name", str)
    fine = all(set(map(type, column(images, key))) == {kind} for key, kind in kinds)
    return fine and float not in map(type, column(images, "id"))


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
    url, name = image.get("coco_url"), image.get("file_name")
    if is_number(name):
        changes["file_name"] = str(whole(name))
    if name is None and is_file_name(url):  # LVIS
        changes["file_name"] = "/".join(str(url).split("/")[-2:])
    return changes


def _without_twins(
    items: list[Item], key: str, nouns: tuple[str, str], remarks: list[str]
) -> list[Item]:
    """Each image or class once, where an entry is there again with the same id and the same file or name."""
    with contextlib.suppress(TypeError):  # an id that is a list
        if len(set(column(items, "id"))) == len(items):
            return items
    seen = set()
    kept = []
    for item in items:
        twin = repr(item.get("id")), repr(item.get(key))
        if twin not in seen:
            kept.append(item)
        seen.add(twin)
    if len(kept) < len(items):
        number = counted(len(items) - len(kept), *nouns)
        what = "name" if key == "name" else "file"
        remarks.append(f"{number} listed again with the same id and {what}; each counts once")
    return kept


def _with_sizes(
    images: list[Item], image_root: str, remarks: list[str]
) -> tuple[list[Item], set[Any]]:
    """The images, those without height or width with the size of their file, and the ids of those left out since their
    file cannot be read either. Where that are all of them they are kept, for the rules to refuse.
    """
    if all_have_sizes(images):
        return images, set()
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
        sides: Iterable[Any] = zip(column(images, "height"), column(images, "width"), strict=True)
        if not all_have_sizes(images):
            sides = [side if has_size(i) else (0, 0) for side, i in zip(sides, images, strict=True)]
        ids = column(images, "id")
        self.sizes = {i: side for i, side in zip(ids, sides, strict=True) if is_image_id(i)}
        self._size_column = np.array(list(self.sizes.values()), dtype=np.int64).reshape(-1, 2)
        self.category_ids = {c["id"] for c in categories if is_integer(c.get("id"))}
        names = Counter(repr(c.get("name")) for c in categories)
        self.class_ids = {
            c["name"]: c.get("id")
            for c in categories
            if isinstance(c.get("name"), str) and names[repr(c["name"])] == 1
        }
        self.counts: Counter[str] = Counter()
        self.first: dict[str, Any] = {}
        self._names: dict[str, Any] | None = None

    def mend(self, annotations: Iterable[Item]) -> AnnotationTable:
        """The annotations in form, without those of images that are not listed, unless that are all of them."""
        builder = TableBuilder(self.sizes)
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
        if kinds in ({str}, {type(None)}):
            self.counts["numbered"] = len(table)
            self.first["numbered"] = table[0].get("id")
            numbered = ({**a, "id": number} for number, a in enumerate(table, start=1))
            return table_of(numbered, list(self.sizes))
        return table

    def _vouch(self, values: Values, layouts: list[Layout], columns: Columns) -> np.ndarray | None:
        """Which annotations the rules need not look at; None if something has to be mended, see :meth:`_is_fine`."""
        if (
            not ((columns.areas >= 0) & (columns.areas < np.inf)).all()
            or np.isnan(columns.boxes).any()
            or not {type(score) for score in values.get("score", ())} <= {int, float}
            or not {type(mask) for mask in values.get(_IGNORE, ())} <= {dict}
            or not all(map(is_mask, values.get("segmentation", ())))
            or any(rotation({"attributes": each}) for each in values.get("attributes", ()))
            or any(values.get("ignore", ()))
        ):
            return None
        boxes = values.get("bbox", [NO_BOX])
        if "segmentation" in values and any(box is NO_BOX for box in boxes):
            return None
        sizes = self._size_column[columns.images]
        return plain(columns, layouts, values.get("score", ()), sizes, self.category_ids)

    def remarks(self) -> list[str]:
        """What was left out or guessed, one line each."""

        def line(key: str, noun: str, plural: str, text: str) -> str:
            number = counted(self.counts[key], noun, plural)
            return f"{number} {text}, the first is annotation {self.first[key]!r}"

        has = "annotation has", "annotations have"
        forms = {
            "orphan": (
                "annotation is",
                "annotations are",
                "of images that the file does not list: left out",
            ),
            "name": ("annotation names", "annotations name", "the file of its image for image_id"),
            "class": ("annotation names", "annotations name", "a class for category_id"),
            "no box": (*has, "no box: the one around the mask is taken"),
            "box": (*has, "an empty box, which is one without area"),
            "rotated": (*has, "a rotated box: the upright box around it is taken"),
            "ignored": (*has, "the mark 'ignore': taken as crowds"),
            "numbered": (*has, "no number for an id: counted from 1"),
            "part": (
                "polygon has",
                "polygons have",
                "less than three points, or a number too few: left out of their masks",
            ),
            "no part": (*has, "no other polygon and so no mask"),
            "area": (*has, "an area that is no number: computed"),
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
            and type(area) in NUMBERS
            and 0 <= area < math.inf
            and is_mask(get("segmentation"))
            and _is_box(get("bbox", None if get("segmentation") else _NO_AREA))
            and type(get("score", 1)) in (int, float)
            and type(get(_IGNORE, {})) is dict
            and not rotation(annotation)
            and not (get("ignore") and not get("iscrowd"))
        )

    def _mended(self, annotation: Item) -> Item:
        out = dict(annotation)
        out["image_id"] = self._image_id(annotation)
        self._count("orphan", annotation, self._is_orphan(out["image_id"]))
        if "id" in out:
            out["id"] = whole(out["id"])
        category = whole(out.get("category_id"))
        if isinstance(category, str) and category in self.class_ids:
            category = self.class_ids[category]
            self._count("class", annotation)
        if is_integer(category) and category in self.category_ids:
            out["category_id"] = category
        crowd = out.get("iscrowd", 0)
        empty = crowd is None or crowd != crowd  # null, and the NaN of a table's gap
        out["iscrowd"] = 0 if empty else int(crowd) if isinstance(crowd, bool) else whole(crowd)
        if as_number(out.get("ignore")) and out["iscrowd"] == 0:
            out["iscrowd"] = 1
            self._count("ignored", annotation)
        for key in ("area", "score"):
            if key in out:
                out[key] = as_number(out[key])
        if "area" in out and not (is_number(out["area"]) and out["area"] >= 0):
            del out["area"]
            self._count("area", annotation)
        for key in ("score", "bbox"):
            if key in out and out[key] is None:
                del out[key]
        self._mend_geometry(out, annotation)
        return {k: v for k, v in out.items() if k in annotation or v not in (None, 0)}

    def _mend_geometry(self, out: Item, annotation: Item) -> None:
        """Brings masks and box of ``out`` into form; a box that is missing is the one around the mask."""
        for key in ("segmentation", _IGNORE):
            if key in out:
                out[key] = self._mask(out[key], annotation)
        if "bbox" in out:
            out["bbox"] = self._box(out["bbox"], annotation)
        elif out.get("segmentation"):
            size = self.sizes.get(out["image_id"], (0, 0))
            tight = tight_box(out["segmentation"], *size)
            if tight is not None and np.isfinite(tight).all():
                out["bbox"] = [*tight[:2].tolist(), *(tight[2:] - tight[:2]).tolist()]
                self._count("no box", annotation)

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

    def _box(self, box: Any, annotation: Item) -> Any:
        box = in_numbers(box)
        if isinstance(box, list) and any(value != value for value in box or (math.nan,)):
            self._count("box", annotation)
            return _NO_AREA
        degrees = rotation(annotation)
        if degrees and _is_box(box) and len(box) == 4:
            self._count("rotated", annotation)
            x0, y0, x1, y1 = box_around_rotated(xywh_to_xyxy(box), degrees).tolist()
            return [x0, y0, x1 - x0, y1 - y0]
        return box

    def _mask(self, mask: Any, annotation: Item) -> Any:
        out, lost = usable_mask(mask)
        self._count("part", annotation, lost)
        self._count("no part", annotation, lost > 0 and out is None)
        return out

    def _count(self, key: str, annotation: Item, number: int = 1) -> None:
        if number:
            self.counts[key] += number
            self.first.setdefault(key, annotation.get("id"))


def _is_box(box: Any) -> bool:
    """Whether there is nothing to mend; whether it is a box the rules decide."""
    return type(box) is list and bool(box) and all(type(v) in NUMBERS and v == v for v in box)

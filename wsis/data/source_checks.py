"""Every rule that a COCO JSON file must keep. Each breach is a :class:`Problem`; who reads a file raises the first kind
of them, who checks one collects them all. :mod:`wsis.data.tidy` comes first and mends what has one meaning only.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsis.data.foreign import recognised
from wsis.data.json_objects import JsonObjects
from wsis.data.table import AnnotationTable, Columns, Layout
from wsis.data.values import (
    all_have_sizes,
    column,
    has_size,
    is_file_name,
    is_image_id,
    is_integer,
    is_number,
    is_side,
    leaves_root,
    show,
)
from wsis.errors import counted

LISTS = ("images", "annotations", "categories")
SINGULAR = {"images": "image", "annotations": "annotation", "categories": "category"}
BAD_BOX_CURE = "set DATASETS.BAD_BOX skip to leave such boxes out"
_CURES = {
    "list": "write the three lists images, annotations and categories, as COCO's instances_*.json has them",
    "item": "remove it, or write it as COCO does",
    "no category": "write each class as {id, name} into 'categories'",
    "id": "write ids as whole numbers without quotes, each once",
    "twice": "number them 1, 2, ... anew",
    "name": "write the name of the class as text",
    "file_name": "write the name of the image file relative to the image folder",
    "leaves": "write names relative to the image folder, or name the folder that they are relative to",
    "side": "write the image's height and width in pixels, or name the image folder: sizes that are missing come from "
    "the files",
    "image_labels": "write a list of ids that 'categories' has",
    "image_id": "write the id that 'images' gives the image",
    "category_id": "add the class to 'categories', or remove these annotations",
    "iscrowd": "write 0 for one object, 1 for a group",
    "score": "write a number from 0 to 1, or leave the key out",
    "bbox": "write [x, y, width, height] in pixels for each annotation",
    "bad box": BAD_BOX_CURE,
}
"""What to do, by cause."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Args:
        text: one line: file, key or id, what was found, what was expected.
        cause: its kind; of one kind the first is told, with a count.
        where: list and position of the item that it is wrong with; None where it is the file.
        bad_box: id of the annotation where this is a box that ``DATASETS.BAD_BOX`` decides about.
        no_box: this is a box that is not there, which image tags do without.
    """

    text: str
    cause: str = ""
    where: tuple[str, int] | None = None
    bad_box: int | None = None
    no_box: bool = False


def told(problems: Iterable[Problem]) -> list[str]:
    """One line for each cause, in the order of the file: the first problem, how many more there are, and the cure."""
    kinds: dict[str, list[Problem]] = {}
    for problem in problems:
        kinds.setdefault(problem.cause or problem.text, []).append(problem)
    lines = []
    for cause, (first, *more) in kinds.items():
        number = f" (and {counted(len(more), 'more like it', 'more like it')})" if more else ""
        cure = f"; {_CURES[cause]}" if cause in _CURES else ""
        lines.append(f"{first.text}{number}{cure}")
    return lines


def document_problems(document: Any, name: str, image_root: str) -> Iterator[Problem]:
    """Everything that is wrong with a parsed COCO JSON file, bad and missing boxes among the rest.

    What only follows from an earlier problem is not told again: without the lists nothing in them is looked at, a box
    of an image without size is not compared with it, and a category that is refused is not missed.

    Args:
        document: what the JSON parser made of the file, see :func:`wsis.data.tidy.tidy`.
        name: what the texts call the file.
        image_root: folder of the images; "" = the names in the file are paths as they stand.
    """
    foreign = recognised(document)
    if foreign:
        yield Problem(f"{name}: {foreign}")
        return
    if not isinstance(document, dict):
        yield Problem(
            f"{name}: found a {type(document).__name__}, expected an object with images, annotations",
            "list",
        )
        return
    whole = True
    for key in LISTS:
        value = document.get(key)
        if not are_objects(value):
            whole = False
            text = f"{name}: key '{key}': expected a list of objects, found {show(value)}"
            if isinstance(value, list):
                place = next(i for i, item in enumerate(value) if not isinstance(item, dict))
                text = f"{name}: key '{key}': expected a list of objects, found {show(value[place])} at place {place}"
            yield Problem(text, "item" if isinstance(value, list) else "list")
    if not whole:
        return
    images, annotations, categories = (document[key] for key in LISTS)
    if not categories:
        yield Problem(
            f"{name}: key 'categories': the list is empty, expected at least one category",
            "no category",
        )
    ids = {c["id"] for c in categories if is_integer(c.get("id"))}
    whole = bool(categories) and all(is_integer(c.get("id")) for c in categories)
    yield from _category_problems(categories, name)
    yield from _image_problems(images, name, image_root, ids if whole else None)
    yield from _annotation_problems(annotations, images, ids if whole else None, name)


def are_objects(value: Any) -> bool:
    """Whether it is a list of objects."""
    if isinstance(value, AnnotationTable | JsonObjects):
        return True
    return isinstance(value, list) and all(issubclass(kind, dict) for kind in set(map(type, value)))


def _id_problems(items: Sequence[dict[str, Any]], key: str, name: str) -> Iterator[Problem]:
    """Ids that are missing, of another type, or there twice; mostly none, which takes few steps to see."""
    values = column(items, "id")
    unique = set(map(type, values)) == {int} and len(set(values)) == len(values)
    if unique and is_integer(min(values)) and is_integer(max(values)):
        return
    kind, valid, expected = SINGULAR[key], is_integer, "an integer of 64 bits"
    if key == "images":
        valid, expected = is_image_id, "an integer of 64 bits or text"
    seen = set()
    for position, value in enumerate(values):
        if not valid(value):
            text = f"{kind} number {position}: key 'id': found {show(value)}, expected {expected}"
            yield Problem(f"{name}: {text}", "id", (key, position))
        elif value in seen:
            text = f"{name}: {kind} id {show(value)} occurs twice"
            yield Problem(text, "twice", (key, position))
        else:
            seen.add(value)


def _alike(item: dict[str, Any], key: str) -> str:
    """A key that an item has in the place of one that is missing, in brackets; "" for none."""
    texts = [each for each in item if isinstance(each, str)]
    found = [] if key in item else difflib.get_close_matches(key, texts, 1, 0.75)
    return f" (but there is a key {found[0]!r})" if found else ""


def _label(item: dict[str, Any], where: tuple[str, int], name: str) -> str:
    key, position = where
    if is_image_id(item.get("id")):
        return f"{name}: {SINGULAR[key]} {show(item['id'])}"
    return f"{name}: {SINGULAR[key]} number {position}"


def _category_problems(categories: list[dict[str, Any]], name: str) -> Iterator[Problem]:
    yield from _id_problems(categories, "categories", name)
    for position, category in enumerate(categories):
        text = category.get("name")
        if not isinstance(text, str) or not text:
            where = "categories", position
            found = f"key 'name': found {show(text)}, expected text"
            yield Problem(f"{_label(category, where, name)}: {found}", "name", where)


def _image_problems(
    images: list[dict[str, Any]], name: str, image_root: str, category_ids: set[Any] | None
) -> Iterator[Problem]:
    yield from _id_problems(images, "images", name)
    sized, named = all_have_sizes(images), not image_root and _all_have_names(images)
    for position, image in enumerate(images):
        if (
            (sized or has_size(image))
            and "image_labels" not in image
            and (named or not _is_wrong_name(image, image_root))
        ):
            continue
        where = "images", position
        for cause, text in _image_breaches(image, image_root, category_ids):
            yield Problem(f"{_label(image, where, name)}: {text}", cause, where)


def _all_have_names(images: Sequence[dict[str, Any]]) -> bool:
    """Whether :func:`is_file_name` says yes to all, in few steps."""
    names = column(images, "file_name")
    return set(map(type, names)) == {str} and all(names) and "\0" not in "".join(names)


def _is_wrong_name(image: dict[str, Any], image_root: str) -> bool:
    name: Any = image.get("file_name")
    return not is_file_name(name) or bool(image_root and leaves_root(name))


def _image_breaches(
    image: dict[str, Any], image_root: str, category_ids: set[Any] | None
) -> Iterator[tuple[str, str]]:
    """Cause and text of what is wrong with an image but its id."""
    file_name: Any = image.get("file_name")
    if not is_file_name(file_name):
        yield (
            "file_name",
            f"key 'file_name': found {show(file_name)}, expected a path{_alike(image, 'file_name')}",
        )
    elif image_root and leaves_root(file_name):
        text = f"key 'file_name': {show(file_name)} leaves the image folder {image_root}"
        yield "leaves", f"{text}, which has no image of this name"
    for side in ("height", "width"):
        if not is_side(image.get(side)):
            found = f"found {show(image.get(side))}, expected a positive integer"
            yield "side", f"key '{side}': {found}{_alike(image, side)}"
    tags = image.get("image_labels", [])
    if not isinstance(tags, list):
        found = f"found {show(tags)}, expected a list of category ids"
        yield "image_labels", f"key 'image_labels': {found}"
        return
    for tag in tags:
        if category_ids is not None and not (is_integer(tag) and tag in category_ids):
            found = f"{show(tag)} is not among the categories"
            yield "image_labels", f"key 'image_labels': {found}"


def _annotation_problems(
    annotations: Sequence[dict[str, Any]],
    images: list[dict[str, Any]],
    category_ids: set[Any] | None,
    name: str,
) -> Iterator[Problem]:
    suspects: Sequence[int] | np.ndarray = range(len(annotations))
    ids_are_fine = False
    if isinstance(annotations, AnnotationTable):
        ids_are_fine = annotations.has_unique_ids
        suspects = np.flatnonzero(~annotations.columns.vouched)
    if not ids_are_fine:
        yield from _id_problems(annotations, "annotations", name)
    if not len(suspects):
        return
    sizes: dict[Any, tuple[int, int] | None] = {
        image["id"]: (image["height"], image["width"]) if has_size(image) else None
        for image in images
        if is_image_id(image.get("id"))
    }
    for position in map(int, suspects):
        annotation = annotations[position]
        where = "annotations", position
        for cause, text in _breaches(annotation, sizes, category_ids):
            bad_box = annotation.get("id") if cause == "bad box" else None
            no_box = cause == "bbox" and "bbox" not in annotation
            label = _label(annotation, where, name)
            yield Problem(f"{label}: {text}", cause, where, bad_box, no_box)


def plain(
    columns: Columns,
    layouts: list[Layout],
    scores: Sequence[float],
    sizes: np.ndarray,
    category_ids: set[int],
) -> np.ndarray:
    """Annotations with which nothing is wrong, found at once: files have millions. Of others :func:`_breaches` decides.

    Args:
        columns: of N annotations.
        layouts: those that the columns name.
        scores: N numbers, or nothing where no annotation has one.
        sizes: (N, 2) height and width of their images, 0 where they are wrong.
        category_ids: those there are.

    Returns:
        (N,) bool.
    """
    whole = ["bbox" in k and ("iscrowd" not in k or crowd in (0, 1)) for k, crowd, _ in layouts]
    near, sides = columns.boxes[:, :2], columns.boxes[:, 2:]
    fits = (sides > 0) & (near > -sides) & (near < sizes[:, ::-1])
    out = np.array(whole, dtype=bool)[columns.layouts] & fits.all(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        out &= sides.prod(axis=1) < 1e300
    out &= np.isin(columns.categories, list(category_ids))
    if len(scores):
        out &= np.array([0 <= score <= 1 for score in scores])
    return np.asarray(out)


def _breaches(
    annotation: dict[str, Any],
    sizes: dict[Any, tuple[int, int] | None],
    category_ids: set[Any] | None,
) -> Iterator[tuple[str, str]]:
    """Cause and text of what is wrong with an annotation but its id.

    Args:
        annotation: the file's.
        sizes: height and width of the images by id; None where they are wrong.
        category_ids: those there are; None where there is no category.
    """
    image_id = annotation.get("image_id")
    known_image = is_image_id(image_id) and image_id in sizes
    if not known_image:
        text = f"key 'image_id': {show(image_id)} is not among the images"
        yield "image_id", text + _alike(annotation, "image_id")
    category_id = annotation.get("category_id")
    if category_ids is not None and not (is_integer(category_id) and category_id in category_ids):
        text = f"key 'category_id': {show(category_id)} is not among the categories"
        yield "category_id", text + _alike(annotation, "category_id")
    crowd = annotation.get("iscrowd", 0)
    if not isinstance(crowd, int) or crowd not in (0, 1):
        yield "iscrowd", f"key 'iscrowd': found {show(crowd)}, expected 0 or 1"
    score = annotation.get("score", 1.0)
    if not is_number(score) or not 0 <= score <= 1:
        yield "score", f"key 'score': found {show(score)}, expected a number from 0 to 1"
    cause, text = _box_problem(annotation.get("bbox"), sizes[image_id] if known_image else None)
    if text:
        yield cause, f"key 'bbox': {text}{_alike(annotation, 'bbox')}"


def _box_problem(box: Any, size: tuple[int, int] | None) -> tuple[str, str]:
    """Cause and text of what is wrong with a box, "" for nothing."""
    if not isinstance(box, list) or len(box) != 4 or not all(is_number(v) for v in box):
        return "bbox", f"found {show(box)}, expected four finite numbers x, y, width, height"
    x, y, w, h = box
    if not all(is_number(v) for v in (x + w, y + h, w * h)):
        return "bbox", f"found {show(box)}, expected a finite far corner and area"
    if w <= 0 or h <= 0:
        return "bad box", f"{show(box)} has no area, expected width and height above 0"
    if size is not None:
        height, width = size
        if x >= width or y >= height or x + w <= 0 or y + h <= 0:
            return "bad box", f"{show(box)} lies wholly outside its {width}x{height} image"
    return "", ""

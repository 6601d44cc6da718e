"""CUB-200-2011, ILSVRC and OpenImages30k, as localisation by tags reads them, to COCO documents.

Images have a tag each; boxes and masks, where the lists have some, are there to judge by.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from wsis.data.builtin_paths import BUILTIN
from wsis.data.prepare import (
    IMAGE_ERRORS,
    converter_parser,
    image_size,
    mask_annotation,
    number_annotations,
    parallel_map,
    require_folder,
)
from wsis.errors import ConfigError, DataError, counted
from wsis.structures.proxy_file import write_json_atomic
from wsis.structures.rle import encode_mask

SPLITS = ("train", "val", "test")
FOREGROUND = 128
"""The least grey value of a mask's pixel."""


@dataclass(frozen=True)
class Entry:
    """One image.

    Attributes:
        name: of the image, from the root of the images.
        label: 0-based class.
        boxes: XYXY of its objects.
        masks: files of its objects.
        ignored: file of the pixels that are not judged.
    """

    name: str
    label: int
    boxes: tuple[tuple[float, ...], ...] = ()
    masks: tuple[Path, ...] = ()
    ignored: Path | None = None


class LocalisationSet(NamedTuple):
    """A data set.

    Attributes:
        images: root of the images' names.
        classes: names.
        splits: those of :data:`SPLITS` that its lists have.
    """

    images: Path
    classes: list[str]
    splits: dict[str, list[Entry]]


def _lines(path: Path, pattern: str, form: str) -> Iterator[tuple[str, re.Match[str]]]:
    """Where each line stands, and what matches of it; empty lines are passed over.

    Raises:
        DataError: no such file, or a line of another form.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such list (see datasets/README.md)") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a list ({error})") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            found = re.fullmatch(pattern, line.strip())
            if found is None:
                raise DataError(f"{path}: line {number}: found {line.strip()!r}, expected {form}")
            yield f"{path}: line {number}", found


def _label(text: str, classes: list[str], where: str) -> int:
    if int(text) >= len(classes):
        raise DataError(f"{where}: found label {text}, expected 0 to {len(classes) - 1}")
    return int(text)


def _of_folders(images: Path, split: str, classes: list[str]) -> list[Entry]:
    """The images of ``split/<class>/``, by name."""
    return [
        Entry(f"{split}/{name}/{path.name}", label)
        for label, name in enumerate(classes)
        for path in sorted(require_folder(images / split / name, "a class's images").iterdir())
    ]


def _classes_of(folder: Path) -> list[str]:
    names = sorted(path.name for path in require_folder(folder, "a folder per class").iterdir())
    if not names:
        raise DataError(f"{folder}: found no folder, expected one per class")
    return names


_NUMBER = r"(?:-?\d+(?:\.\d+)?)"


def _coordinates(text: str) -> tuple[tuple[float, ...], ...]:
    values = [float(each) for each in text.split()]
    return tuple(tuple(values[i : i + 4]) for i in range(0, len(values), 4))


def read_cub(root: Path) -> LocalisationSet:
    """CUB-200-2011: folders ``train`` and ``test``, ``test_list.txt`` (``path;label``) and ``test_bounding_box.txt``
    (``x0 y0 x1 y1 height width``), line by line; the same two lists of ``train`` if there are boxes for it, and
    ``<split>_mask.txt`` if there are masks.

    Raises:
        DataError: something is missing or not of this form.
    """
    images = root / "CUB_200_2011"
    classes = _classes_of(images / "train")
    splits = {"train": _of_folders(images, "train", classes)}
    for split in ("train", "test"):
        boxes = images / f"{split}_bounding_box.txt"
        if split == "train" and not boxes.is_file():
            continue
        listed = list(_lines(images / f"{split}_list.txt", r"(.+);(\d+)", "'path;label'"))
        form = rf"((?:{_NUMBER}\s+){{3}}{_NUMBER})(?:\s+{_NUMBER}){{2}}"
        found = list(_lines(boxes, form, "'x0 y0 x1 y1 height width'"))
        if len(found) != len(listed):
            raise DataError(
                f"{boxes}: found {len(found)} boxes, expected one for each of {len(listed)} images"
            )
        splits[split] = [
            Entry(f"{split}/{m[1]}", _label(m[2], classes, where), _coordinates(box[1]))
            for (where, m), (_, box) in zip(listed, found, strict=True)
        ]
        if (images / f"{split}_mask.txt").is_file():
            # their paths have the split's folder in front
            splits[split] = _with_masks(splits[split], images / f"{split}_mask.txt", f"{split}/")
    return LocalisationSet(images, classes, splits)


def read_ilsvrc(root: Path) -> LocalisationSet:
    r"""ILSVRC 2012: folders ``train/<wnid>`` and ``val/<wnid>``, and ``val_gt.txt``, lines
    ``wnid\file w h ; x0 y0 x1 y1`` with further boxes behind; its ``val`` is our test split. With a ``train_gt.txt`` of
    this form images of ``train`` have boxes, too.

    Raises:
        DataError: something is missing or not of this form.
    """
    images = root / "ILSVRC"
    classes = _classes_of(images / "train")
    numbers = {name: label for label, name in enumerate(classes)}
    box = rf"{_NUMBER}(?:\s+{_NUMBER}){{3}}"
    form = rf"(\w+)[\\/]+(\S+)\s+\d+\s+\d+\s*;\s*({box}(?:\s+{box})*)"

    def of(split: str) -> list[Entry]:
        entries = []
        for where, m in _lines(images / f"{split}_gt.txt", form, r"'wnid\file w h ; x0 y0 x1 y1'"):
            if m[1] not in numbers:
                raise DataError(
                    f"{where}: found class {m[1]}, expected a folder of {images / 'train'}"
                )
            file = m[2] if "." in m[2] else f"{m[2]}.JPEG"
            entries.append(Entry(f"{split}/{m[1]}/{file}", numbers[m[1]], _coordinates(m[3])))
        return entries

    train = _of_folders(images, "train", classes)
    if (images / "train_gt.txt").is_file():
        boxed = {entry.name: entry for entry in of("train")}
        train = [boxed.get(entry.name, entry) for entry in train]
    return LocalisationSet(images, classes, {"train": train, "test": of("val")})


def read_openimages(root: Path) -> LocalisationSet:
    """OpenImages30k: ``classes.txt``, ``<split>_images.txt`` (``path,label``) and, but for training,
    ``<split>_mask.txt`` (``image path,mask path,ignore path``, a line per object).

    Raises:
        DataError: something is missing or not of this form.
    """
    images = root / "OpenImages30k"
    classes = [m[0] for _, m in _lines(images / "classes.txt", r".+", "a name")]
    splits = {}
    for split in SPLITS:
        path = images / f"{split}_images.txt"
        if split == "val" and not path.is_file():
            continue
        entries = [
            Entry(m[1], _label(m[2], classes, where))
            for where, m in _lines(path, r"(.+?),\s*(\d+)", "'path,label'")
        ]
        if split != "train":
            entries = _with_masks(entries, images / f"{split}_mask.txt", "")
        splits[split] = entries
    return LocalisationSet(images, classes, splits)


def _with_masks(entries: list[Entry], path: Path, prefix: str) -> list[Entry]:
    """The entries with the masks that a list names; an image's first line may name what is ignored."""
    masks: dict[str, list[Path]] = {}
    ignored: dict[str, Path] = {}
    for _, m in _lines(path, r"([^,]+),([^,]+),?([^,]*)", "'image,mask,ignore'"):
        name = Path(m[1].strip()).with_suffix("").as_posix().removeprefix(prefix)
        masks.setdefault(name, []).append(path.parent / m[2].strip())
        if m[3].strip():
            ignored.setdefault(name, path.parent / m[3].strip())
    found = []
    for entry in entries:
        name = Path(entry.name).with_suffix("").as_posix().removeprefix(prefix)
        if name not in masks:
            raise DataError(f"{path}: no mask of the image {entry.name}")
        found.append(replace(entry, masks=tuple(masks[name]), ignored=ignored.get(name)))
    return found


def hold_out(entries: list[Entry], number: int) -> tuple[list[Entry], list[Entry]]:
    """The images of a split without the last ones of each class, by name, and these, which choices are made on.

    Args:
        entries: of a split.
        number: of each class, but at most half of it.
    """
    of_class: dict[int, list[Entry]] = {}
    for entry in sorted(entries, key=lambda each: each.name):
        of_class.setdefault(entry.label, []).append(entry)
    held = {
        entry.name
        for each in of_class.values()
        for entry in each[len(each) - min(number, len(each) // 2) :]
    }
    return [e for e in entries if e.name not in held], [e for e in entries if e.name in held]


def convert(entry: Entry, images: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The COCO image, without ``id``, and its annotations, without ``id`` and ``image_id``.

    Raises:
        DataError: the image or a mask is missing or cannot be read.
    """
    height, width = image_size(images / entry.name)
    image: dict[str, Any] = {"file_name": entry.name, "height": height, "width": width}
    category = entry.label + 1
    image["image_labels"] = [category]
    masks = [_mask(path, (height, width)) for path in entry.masks]
    annotations = [made for mask in masks if (made := mask_annotation(mask, category))]
    if not masks:
        sides = [(x0, y0, x1 - x0, y1 - y0) for x0, y0, x1, y1 in entry.boxes]
        common = {"category_id": category, "iscrowd": 0}
        annotations = [common | {"bbox": [*box], "area": box[2] * box[3]} for box in sides]
    if entry.ignored is not None:
        ignored = _mask(entry.ignored, (height, width))
        image["void"] = encode_mask(ignored & ~np.any(masks, axis=0))
    return image, annotations


def _mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """The object's pixels, by the nearest one where the mask has another size than its image."""
    try:
        with Image.open(path) as image:
            grey = image.convert("L").resize(size[::-1], Image.Resampling.NEAREST)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such mask") from error
    except IMAGE_ERRORS as error:
        raise DataError(f"{path}: not a readable mask") from error
    return np.asarray(grey) >= FOREGROUND


def documents(
    read: Callable[[Path], LocalisationSet], root: Path, held_out: int, workers: int, title: str
) -> dict[str, dict[str, Any]]:
    """The COCO documents of a data set's splits by their names; without a list of its own, ``val`` is held out of
    ``train``.

    Args:
        read: one of the readers here.
        root: of the data sets.
        held_out: images of each class.
        workers: processes.
        title: for the documents and the bar.

    Raises:
        DataError: something is missing or not of its form.
    """
    found = read(root)
    splits = dict(found.splits)
    if "val" not in splits:
        splits["train"], splits["val"] = hold_out(splits["train"], held_out)
    categories = [{"id": i, "name": name} for i, name in enumerate(found.classes, start=1)]
    out = {}
    for split in (each for each in SPLITS if splits[each]):
        convert_one = partial(convert, images=found.images)
        records = parallel_map(convert_one, splits[split], workers, f"{title}, {split}")
        images, annotations = number_annotations(
            ({"id": number} | image, members)
            for number, (image, members) in enumerate(records, start=1)
        )
        info = {"description": f"{title}, {split}"}
        out[split] = {"info": info, "images": images, "annotations": annotations}
        out[split]["categories"] = categories
    return out


def prepare(
    argv: list[str] | None,
    doc: str | None,
    read: Callable[[Path], LocalisationSet],
    name: str,
    title: str,
) -> Iterator[str]:
    """A converter's work: writes ``<name>/annotations/<name>_<split>.json`` below the root.

    Args:
        argv: command line without the program.
        doc: the converter's docstring.
        read: one of the readers here.
        name: of the data set.
        title: name of its folder.

    Yields:
        A line about each file.

    Raises:
        ConfigError, DataError: an option out of its range; see :func:`documents`.
    """
    parser = converter_parser(doc, title)
    parser.add_argument(
        "--held-out",
        type=int,
        default=5,
        help="images of each class that are taken out of train, for choices (default: 5)",
    )
    args = parser.parse_args(argv)
    if args.held_out < 0:
        raise ConfigError(f"--held-out: found {args.held_out}, expected at least 0")
    made = documents(read, args.root, args.held_out, args.workers, title)
    for split, document in made.items():
        path = args.root / BUILTIN[f"{name}_{split}"][0]
        write_json_atomic(path, document)
        counts = counted(len(document["images"]), "image"), len(document["annotations"])
        yield f"{path}: {counts[0]}, {counts[1]} objects"

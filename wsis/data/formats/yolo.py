"""Boxes and polygons as YOLO's trainers read them: ``data.yaml``, images, and a text file beside each.

A line of a text file is ``class cx cy w h`` or ``class x y x y x y ...``, all but the class as shares of the image's
sides. A text file without a line, or none, says that the image shows no object.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from wsis.data.folders import expand_patterns
from wsis.data.formats.records import Imported, Item, Size, Tally, ring_item
from wsis.data.image_names import FolderIndex
from wsis.data.voc_folder import read_class_names
from wsis.errors import ConfigError, DataError, counted

BEYOND = 0.01
"""By how much a share may lie outside of 0 to 1: rounding, and boxes that stick out a little."""
NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels")


def read_yolo(
    source: Path, images: Path | None, split: str = "train", names: list[str] | None = None
) -> Imported:
    """Reads one split of a dataset.

    Args:
        source: ``data.yaml``, the folder that it is in, or a folder of text files without one.
        images: folder that the names of the images are to be relative to; without ``data.yaml`` the images. By default
            the dataset's folder, and without ``data.yaml`` its folder ``images``, else ``source``.
        split: the key of ``data.yaml``: train, val or test.
        names: of the classes, in the order of their numbers; None = those of ``data.yaml``, else of a list of classes
            beside the text files.

    Raises:
        ConfigError: ``data.yaml`` has no such split, or an image does not lie below ``images``.
        DataError: there are no images, labels or names.
    """
    found = _yaml_of(source)
    document: dict[str, Any] = {}
    if found is None:
        pairs, root, names, keypoints = _without_yaml(source, images, names)
    else:
        document = _read_yaml(found)
        names = names or _names_of(document, found)
        base, paths = _images_of(document, found, split)
        root = images or base
        keypoints = "kpt_shape" in document
        pairs = [(path, label_of(path)) for path in paths]
    dataset = Imported("YOLO text files", root, names)
    if document.get("nc", len(names)) != len(names):
        told = f"{found}: nc {document['nc']}, {counted(len(names), 'name')}"
        dataset.notes.add("numbers of classes that contradict the names, which decide", told)
    used = set()
    for path, label in pairs:
        name = _name_below(path, root)
        used.add(label)
        if not label.is_file():
            dataset.notes.add("images without a text file, which show no object", name)
        if dataset.open(name) and label.is_file():
            size = dataset.sizes[name]
            for where, item in parse_labels(label, size, names, dataset.left_out, keypoints):
                dataset.add(name, item, where)
    folders = {label.parent for label in used}
    lonely = {path for folder in folders if folder.is_dir() for path in folder.glob("*.txt")} - used
    for path in sorted(path for path in lonely if path.name not in NAME_FILES):
        dataset.left_out.add("text files without an image", path)
    return dataset


def parse_labels(
    path: Path, size: Size, names: list[str], left_out: Tally, keypoints: bool = False
) -> Iterable[tuple[str, Item]]:
    """The objects of one text file, each with the place that it stands at.

    Args:
        path: the text file.
        size: of its image.
        names: of the classes.
        left_out: counts the lines that cannot be used.
        keypoints: boxes are followed by the points of a pose.

    Raises:
        DataError: it cannot be read as text.
    """
    height, width = size
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read as YOLO's text file, expected lines of numbers"
        ) from error
    for number, line in enumerate(lines, start=1):
        where = f"{path} line {number}"
        try:
            values = np.array(line.split(), dtype=np.float64)
        except ValueError:
            left_out.add("lines with something else than numbers", where)
            continue
        if keypoints or len(values) == 6:  # six: the confidence of a prediction
            values = values[:5]
        if len(values) == 0:
            continue
        if len(values) < 5 or len(values) % 2 == 0:
            left_out.add(
                "lines that are neither a box (5 numbers) nor a polygon (7, 9, ...)", where
            )
        elif not (values[0].is_integer() and 0 <= values[0] < len(names)):
            left_out.add("lines whose class number has no name", where)
        elif not ((values[1:] >= -BEYOND) & (values[1:] <= 1 + BEYOND)).all():
            left_out.add("lines with numbers outside of 0 to 1 (pixels instead of shares?)", where)
        else:
            ring = values[1:].reshape(-1, 2) * (width, height)
            name = names[int(values[0])]
            if len(values) > 5:
                yield where, ring_item(name, ring)
            else:
                centre, half = ring[0], ring[1] / 2
                yield where, Item(name, np.concatenate([centre - half, centre + half]))


def label_of(image: Path) -> Path:
    """The text file of an image: below ``labels`` in the place of the last ``images`` of its path, else beside it."""
    parts = list(image.with_suffix(".txt").parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts)


def _name_below(path: Path, root: Path) -> str:
    """The name of an image relative to a folder, which either may reach through links."""
    for image, folder in ((path, root), (path.resolve(), root.resolve())):
        if image.is_relative_to(folder):
            return image.relative_to(folder).as_posix()
    raise ConfigError(
        f"--images: image {path} does not lie below {root}; name a folder that all images are below"
    )


def _yaml_of(source: Path) -> Path | None:
    """The dataset's YAML file, None where there is none."""
    if source.is_file():
        if source.suffix.lower() in (".yaml", ".yml"):
            return source
        raise DataError(f"{source}: expected YOLO's data.yaml or a folder of its text files")
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder, expected YOLO's data.yaml")
    found = sorted([*source.glob("*.yaml"), *source.glob("*.yml")])
    named = [path for path in found if path.stem in ("data", "dataset")] or found
    if len(named) > 1:
        raise DataError(f"{named[0]} and {named[1]}: two YAML files; name the dataset's by --input")
    return named[0] if named else None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        document = yaml.safe_load(text)
        if isinstance(document, dict):  # names may be "no" or 007: all as text
            document["names"] = yaml.load(text, yaml.BaseLoader).get("names")  # noqa: S506
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read as YAML ({reason}); correct it") from error
    if not isinstance(document, dict):
        raise DataError(
            f"{path}: found no keys, expected train, val and names as YOLO's data.yaml has"
        )
    return document


def _names_of(document: dict[str, Any], path: Path) -> list[str]:
    """The names of the classes by number."""
    names = document.get("names")
    if isinstance(names, dict) and set(names) == set(map(str, range(len(names)))):
        names = [names[str(number)] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DataError(
            f"{path}: key 'names': expected a list of the classes, or names by number 0, 1, ...; "
            "--classes FILE names them, too"
        )
    texts = [str(name) for name in names]
    for name in texts:
        if texts.count(name) > 1:
            raise DataError(
                f"{path}: key 'names': class {name!r} occurs twice; name each class once"
            )
    return texts


def _images_of(document: dict[str, Any], path: Path, split: str) -> tuple[Path, list[Path]]:
    """The dataset's folder and the images of one split."""
    entries = document.get(split)
    entries = [entries] if isinstance(entries, str) else entries
    if not isinstance(entries, list) or not all(isinstance(e, str) for e in entries) or not entries:
        there = [key for key in ("train", "val", "test") if document.get(key)]
        raise ConfigError(
            f"{path}: key '{split}': expected a folder or a list of them; --split names another "
            f"(there: {', '.join(there) or 'none'})"
        )
    stated = str(document.get("path") or "")
    bases = [path.parent / stated, Path(stated), path.parent]
    for base in bases:
        # exports of Roboflow say ../train/images for what is train/images
        tries = [[base / e, base / e.removeprefix("../")] for e in entries]
        there_is = [next((each for each in both if each.exists()), None) for both in tries]
        if all(there_is):
            paths: list[Path] = []
            for each in filter(None, there_is):
                paths += _listed(each, base) if each.is_file() else expand_patterns([str(each)])
            return base, list(dict.fromkeys(paths))
    raise DataError(
        f"{path}: key '{split}': {bases[0] / entries[0]}: no such folder or list of images"
    )


def _listed(path: Path, base: Path) -> list[Path]:
    """The images that a text file lists, one per line."""
    index = FolderIndex(base)
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    paths = []
    for line in lines:
        stated = (path.parent if line.startswith("./") else base) / line
        paths.append(stated if stated.exists() else base / (index.find(line) or line))
    return paths


def _without_yaml(
    source: Path, images: Path | None, names: list[str] | None
) -> tuple[list[tuple[Path, Path]], Path, list[str], bool]:
    """Images with their text files, the images' folder and the classes of a folder that has no YAML file."""
    labels = source / "labels" if (source / "labels").is_dir() else source
    root = images or (source / "images" if (source / "images").is_dir() else source)
    if not any(labels.rglob("*.txt")):
        raise DataError(f"{source}: found neither data.yaml nor text files of YOLO in it")
    lists = [folder / name for folder in (source, labels) for name in NAME_FILES]
    found = next((path for path in lists if path.is_file()), None)
    if names is None and found is None:
        raise ConfigError(
            f"{source}: neither data.yaml nor classes.txt says the classes; name them by --classes FILE"
        )
    paths = expand_patterns([str(root)])
    pairs = [(p, labels / p.relative_to(root).with_suffix(".txt")) for p in paths]
    return pairs, root, names or read_class_names(found or source), False

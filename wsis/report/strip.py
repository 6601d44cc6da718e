"""One strip per image: the image, its boxes, maps and labels made of it, where labels differ, a prediction."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from wsis.data.images import UnreadableImageError, read_image
from wsis.data.labels import check_label_files, read_label
from wsis.data.score_maps import ScoreMapReader, open_score_maps
from wsis.data.source import CocoSource
from wsis.errors import ConfigError, DataError
from wsis.report.class_pictures import letter_size, scores_picture, with_names
from wsis.report.comparison import pick_images
from wsis.report.fonts import drawable_names
from wsis.report.overlay import contact_sheet, overlay
from wsis.structures import ScoreMaps
from wsis.structures.boxes import xywh_to_xyxy
from wsis.structures.proxy_file import atomic_writer, remove_torn
from wsis.structures.pseudo_labels import IGNORE, label_path, voc_palette

HATCH = (255, 255, 255)
"""Colour of what is ignored."""
LONGEST = 512
"""Pixels of a picture's longer side at most; what is larger is made smaller."""
TITLES = "Description"
"""Key of a strip's PNG text that names its columns."""


def label_picture(
    image: np.ndarray, label: np.ndarray, opacity: float = 0.6, where: np.ndarray | None = None
) -> np.ndarray:
    """A label map in VOC's colours over its image; 255 is hatched.

    Args:
        image: (H, W, 3) uint8 RGB.
        label: (H, W) uint8.
        opacity: of the colours, 0 to 1.
        where: (H, W) bool, the only pixels that are coloured; None = all but background.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    colours = np.frombuffer(voc_palette(), dtype=np.uint8).reshape(256, 3)[label]
    shown = label != 0 if where is None else where
    ignored = shown & (label == IGNORE)
    mixed = (image * (1 - opacity) + colours * opacity).astype(np.uint8)
    out = np.where((shown & ~ignored)[..., None], mixed, image)
    rows, columns = np.indices(label.shape)
    out[ignored & ((rows + columns) % 6 < 2)] = HATCH
    return out


def difference_picture(image: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Where two labels differ, in the colours of the first, white where that is background; the rest of the image is
    grey. Arguments as :func:`label_picture`.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    faint = np.repeat((128 + grey // 4)[..., None], 3, axis=2)
    differs = first != second
    out = label_picture(faint, first, opacity=1.0, where=differs)
    out[differs & (first == 0)] = HATCH
    return out


def heat_picture(values: np.ndarray) -> np.ndarray:
    """A map (H, W) of values in [0, 1] in colours from blue, 0, to yellow, 1; (H, W, 3) uint8 RGB."""
    levels = np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)


OWN_TITLES = IMAGE, BOXES, DISAGREEMENT = ("image", "boxes", "disagreement")
"""Of the columns that every strip may have."""
MapMaker = Callable[[dict[str, Any], np.ndarray], np.ndarray | ScoreMaps]
"""A map of an image entry of a source and its pixels: (H, W) in [0, 1], or scores of classes."""


def strip_columns(
    image: np.ndarray,
    boxes: Sequence[Sequence[float]] | None,
    labels: Mapping[str, np.ndarray],
    maps: Mapping[str, np.ndarray | ScoreMaps] | None = None,
    height: int = 200,
    class_names: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """The pictures of a strip by title: image, boxes, maps, labels, and, after the first two labels, where these
    differ. Without boxes there are neither them nor the differences, and score maps and labels name their classes.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: XYXY in pixels, or None.
        labels: title to (H, W) uint8, in the order of the columns.
        maps: title to (H, W) values in [0, 1] or score maps.
        height: pictures are enlarged by a whole number towards this many pixels; one of more than :data:`LONGEST` is
            made smaller.
        class_names: of the data set, without background.

    Returns:
        Title to picture, uint8 RGB, all of one size.
    """
    small, labels, given = _at_most_longest(image, labels, maps or {})
    scale = max(1, round(height / small.shape[0]))

    def column(picture: np.ndarray, values: Iterable[int] = ()) -> np.ndarray:
        large = np.kron(picture, np.ones((scale, scale, 1), np.uint8))
        return with_names(large, values, class_names) if boxes is None else large

    columns = {IMAGE: column(small)}
    if boxes is not None:
        share = small.shape[1] / image.shape[1], small.shape[0] / image.shape[0]
        scaled = np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * (*share, *share)
        columns[BOXES] = column(overlay(small, boxes=scaled.tolist()))
    for name, found in given.items():
        if isinstance(found, ScoreMaps):
            columns[name] = column(scores_picture(small, found), found.classes)
        else:
            columns[name] = column(heat_picture(found))
    names = list(labels)
    for number, name in enumerate(names, start=1):
        columns[name] = column(label_picture(small, labels[name]), np.unique(labels[name]))
        if number == 2 and boxes is not None:
            pair = labels[names[0]], labels[names[1]]
            columns[DISAGREEMENT] = column(difference_picture(small, *pair))
    return columns


def _at_most_longest(
    image: np.ndarray,
    labels: Mapping[str, np.ndarray],
    maps: Mapping[str, np.ndarray | ScoreMaps],
) -> tuple[np.ndarray, Mapping[str, np.ndarray], Mapping[str, np.ndarray | ScoreMaps]]:
    """The same with sides of at most :data:`LONGEST`; score maps fit every size."""
    share = LONGEST / max(image.shape[:2])
    if share >= 1:
        return image, labels, maps
    size = max(1, round(image.shape[1] * share)), max(1, round(image.shape[0] * share))
    return (
        cv2.resize(image, size, interpolation=cv2.INTER_AREA),
        {k: cv2.resize(v, size, interpolation=cv2.INTER_NEAREST) for k, v in labels.items()},
        {
            k: v if isinstance(v, ScoreMaps) else cv2.resize(v, size, interpolation=cv2.INTER_AREA)
            for k, v in maps.items()
        },
    )


@dataclass(frozen=True)
class StripMaker:
    """Draws the strips of a source's images.

    Args:
        source: the images and their boxes.
        labels: title to folder of label maps.
        maps: title to folder of score maps, or to what makes a map; they stand before the labels, in this order. With a
            folder among them the strips are of classes: without boxes, with names.

    Raises:
        ConfigError: two columns have one title.
    """

    source: CocoSource
    labels: Mapping[str, str | os.PathLike[str]]
    maps: Mapping[str, str | os.PathLike[str] | MapMaker]

    def __post_init__(self) -> None:
        seen = set(OWN_TITLES)
        for title in (*self.maps, *self.labels):
            if title in seen:
                raise ConfigError(f"{title!r} names two columns of a strip; name each otherwise")
            seen.add(title)

    @cached_property
    def _readers(self) -> dict[str, ScoreMapReader]:
        """Of the folders of score maps."""
        names = self.source.class_names
        return {
            title: open_score_maps(self.source, found, names, same_source=False)
            for title, found in self.maps.items()
            if not callable(found)
        }

    def check(self, entries: Sequence[dict[str, Any]]) -> None:
        """Checks that everything but pixels is there for some images.

        Raises:
            ConfigError, DataError: a label or a score map is missing, cannot be read or has not its image's size.
        """
        part = replace(self.source, images=list(entries))
        for folder in self.labels.values():
            check_label_files(part, folder)
        for reader in self._readers.values():
            reader.check(part)

    def __call__(self, entry: dict[str, Any], image: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """The strip of an image, uint8 RGB, and the titles of its columns."""
        size = entry["height"], entry["width"]
        labels = {
            title: read_label(label_path(folder, "", entry["file_name"]), *size)
            for title, folder in self.labels.items()
        }
        record = {**entry, "file_name": self.source.path_of(entry)}
        maps = {
            title: make(entry, image) if callable(make) else self._readers[title](record)
            for title, make in self.maps.items()
        }
        boxes = None
        if not self._readers:
            annotations = [a for a in self.source.annotations_of(entry["id"]) if "bbox" in a]
            boxes = [xywh_to_xyxy(a["bbox"]).tolist() for a in annotations]
        names = [name for _, name in sorted(drawable_names(self.source.categories).items())]
        columns = strip_columns(image, boxes, labels, maps, class_names=names)
        letters = letter_size(columns[IMAGE], 15)
        sheet = contact_sheet([list(columns.values())], list(columns), font_size=letters)
        return sheet, list(columns)


@dataclass(frozen=True)
class WrittenStrips:
    """What :func:`write_strips` wrote.

    Args:
        paths: the files.
        unreadable: what was wrong with images, a line each; they have no strip.
    """

    paths: list[Path]
    unreadable: list[str]


def write_strips(
    maker: StripMaker, output: str | os.PathLike[str], count: int = 0
) -> WrittenStrips:
    """Writes the strips of some images of a source as PNG files. Everything but pixels is checked first.

    Args:
        maker: of the strips.
        output: folder that the files go to, under the images' names.
        count: number of images, spread evenly over the source; 0 = all.

    Raises:
        ConfigError, DataError: see :meth:`StripMaker.check`; two strips would have one name, or one would take the
            place of an image or a label.
    """
    source = maker.source
    entries = pick_images(source, count) if count else source.images
    maker.check(entries)
    places = _places(replace(source, images=entries), maker.labels, output)
    remove_torn(*places)
    written = WrittenStrips([], [])
    for path, entry in zip(places, entries, strict=True):
        try:
            image = read_image(source.path_of(entry), entry["height"], entry["width"])
        except UnreadableImageError as error:
            written.unreadable.append(str(error))
            continue
        strip, titles = maker(entry, image)
        text = PngInfo()
        text.add_text(TITLES, ", ".join(titles))
        with atomic_writer(path, "wb") as stream:
            Image.fromarray(strip).save(stream, format="PNG", pnginfo=text)
        written.paths.append(path)
    return written


def _places(
    source: CocoSource,
    folders: Mapping[str, str | os.PathLike[str]],
    output: str | os.PathLike[str],
) -> list[Path]:
    """Where the strips of all images of a source go.

    Raises:
        DataError: two would have one name, or one that of an image or a label of the source.
    """
    owners: dict[Path, str] = {}
    given: set[str] = set()
    for entry in source.images:
        name = entry["file_name"]
        path = label_path(output, "", name)
        if path in owners:
            raise DataError(
                f"{source.json_file}: images {owners[path]!r} and {name!r} would have the same strip; their names must "
                "differ in more than the suffix"
            )
        owners[path] = name
        labels = (label_path(folder, "", name) for folder in folders.values())
        given.update(map(os.path.realpath, (source.path_of(entry), *map(str, labels))))
    for path, name in owners.items():
        if os.path.realpath(path) in given:
            raise DataError(
                f"{path}: the strip of image {name!r} would take the place of an image or a label; write the strips "
                "into another folder"
            )
    return list(owners)

"""What every reader of a foreign format returns: images with objects, and a count of all that it had to leave out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
from numpy.typing import ArrayLike

from wsis.data.images import UnreadableImageError, read_header
from wsis.data.prepare import number_annotations, require_folder
from wsis.data.voc_folder import ImageIndex
from wsis.errors import DataError, counted
from wsis.structures.polygons import flat
from wsis.structures.rle import RLE, rle_area, segmentation_to_rle

Part = np.ndarray | RLE
"""A piece of an object: a ring (N, 2) of x, y in continuous pixel coordinates, or a code of the full image."""
Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class Item:
    """One object.

    Args:
        name: of its class.
        box: (4,) XYXY in continuous pixel coordinates.
        parts: what it is made of, where the format says more than the box.
        crowd: a box around a group of objects.
        group: pieces of one group and one class in an image are one object; None = an object of its own.
        annotation_id: the annotation that it was exported from, where the file says so.
    """

    name: str
    box: np.ndarray
    parts: tuple[Part, ...] = ()
    crowd: bool = False
    group: Any = None
    annotation_id: int | None = None


@dataclass
class Tally:
    """What was left out or changed: how often for each cause, and where it was first."""

    causes: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add(self, cause: str, where: object, number: int = 1) -> None:
        """Counts one more; ``where`` is kept of the first."""
        before, first = self.causes.get(cause, (0, str(where)))
        self.causes[cause] = before + number, first

    def lines(self) -> list[str]:
        """One line per cause."""
        return [f"{cause}: {n}, the first is {first}" for cause, (n, first) in self.causes.items()]


@dataclass
class Imported:
    """A dataset of a foreign format.

    Args:
        what: the format, for the description.
        root: folder that the names of the images are relative to.
        names: of the classes, in order; None = those found, sorted.
        left_out: what is not in it, by cause.
        notes: what is in it, but not as it stands in the files, by cause.
        unreadable: images with annotations that cannot be opened, or are not of the size that the annotations say.
        sizes: of the images, by name.
        items: their objects.
    """

    what: str
    root: Path
    names: list[str] | None = None
    left_out: Tally = field(default_factory=Tally)
    notes: Tally = field(default_factory=Tally)
    unreadable: Tally = field(default_factory=Tally)
    sizes: dict[str, Size] = field(default_factory=dict)
    items: dict[str, list[Item]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.index = ImageIndex(require_folder(self.root, "images"))
        self.named: set[str] = set()

    def locate(self, near: PurePosixPath, stated: str, size: Size | None = None) -> str | None:
        """The image that an annotation file is about, taken up into the dataset; None where it cannot be used, which is
        counted.

        Args:
            near: the annotation file, relative to the folder of such files; may only stand for the image's own name.
            stated: the name of the image in it.
            size: the size that it says.
        """
        try:
            name = self.index.find(near if near.name else PurePosixPath("unnamed"), stated)
        except DataError:
            self.left_out.add("annotated images that are not there", stated or near)
            return None
        self.named.add(name)
        return name if self.open(name, size) else None

    def count_unnamed(self) -> None:
        """Counts the images of the folder that no annotation has named."""
        unnamed = sorted(self.index.names - self.named)
        if unnamed:
            self.left_out.add("images without annotations", unnamed[0], len(unnamed))

    def open(self, name: str, size: Size | None = None) -> bool:
        """Takes up an image by its name; False where it cannot be used, which is counted."""
        if name not in self.sizes:
            try:
                header = read_header(self.root / name, *(size or (None, None)))
            except UnreadableImageError as error:
                self.unreadable.add("images that cannot be read", error)
                return False
            except DataError as error:
                self.unreadable.add("images of another size than the annotations say", error)
                return False
            self.sizes[name] = header.height, header.width
            self.items[name] = []
        return True

    def add(self, image: str, item: Item, where: str) -> None:
        """Takes up an object, unless its box covers nothing of the image."""
        height, width = self.sizes[image]
        x0, y0, x1, y1 = (float(v) for v in item.box)
        if not item.name:
            self.left_out.add("objects without a class", where)
        elif self.names is not None and item.name not in self.names:
            self.left_out.add(
                "objects of classes that are not in the list", f"{item.name}, {where}"
            )
        elif not all(map(math.isfinite, (x0, y0, x1, y1))) or x1 <= x0 or y1 <= y0:
            self.left_out.add("boxes without area", where)
        elif x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0:
            self.left_out.add("boxes wholly outside their image", where)
        else:
            self.items[image].append(item)

    def to_document(self, masks: bool = False) -> dict[str, Any]:
        """The COCO document, images by name and ids from 1.

        Args:
            masks: write what objects are made of as their ``segmentation``.

        Raises:
            DataError: no class, or no object at all.
        """
        objects = {name: grouped(self.items[name]) for name in sorted(self.items)}
        if not any(objects.values()):
            causes = [*self.left_out.lines(), *self.notes.lines(), *self.unreadable.lines()]
            found = f"; {'; '.join(causes)}" if causes else ""
            raise DataError(
                f"{self.root}: found no object in {counted(len(objects), 'image')}, "
                f"expected {self.what} with boxes{found}"
            )
        names = self.names
        if names is None:
            names = sorted({item.name for items in objects.values() for item in items})
        numbers = {name: number for number, name in enumerate(names, start=1)}

        exported: set[int] = set()

        def annotation(item: Item, size: Size) -> dict[str, Any]:
            x, y, x1, y1 = (round(float(v), 6) for v in item.box)
            box = [x, y, round(x1 - x, 6), round(y1 - y, 6)]
            made: dict[str, Any] = {
                "category_id": numbers[item.name],
                "bbox": box,
                "area": box[2] * box[3],
            }
            if masks and item.parts:
                segmentation = segmentation_of(item.parts, size)
                made["area"] = rle_area(segmentation_to_rle(segmentation, *size))
                made["segmentation"] = segmentation
                if item.annotation_id in exported:
                    text = "objects that were copied from another one, with its id"
                    self.notes.add(text, f"id {item.annotation_id}")
                elif item.annotation_id is not None:
                    exported.add(item.annotation_id)
                    made["annotation_id"] = item.annotation_id
            return {**made, "iscrowd": int(item.crowd)}

        images, annotations = number_annotations(
            (
                {"id": number, "file_name": name, "height": size[0], "width": size[1]},
                [annotation(item, size) for item in objects[name]],
            )
            for number, (name, size) in enumerate(sorted(self.sizes.items()), start=1)
        )
        return {
            "info": {"description": f"Boxes of {self.what}"},
            "images": images,
            "categories": [{"id": number, "name": name} for name, number in numbers.items()],
            "annotations": annotations,
        }


def ring_item(name: str, ring: np.ndarray, group: Any = None) -> Item:
    """An object that a ring (N, 2) outlines."""
    box = np.concatenate([ring.min(axis=0), ring.max(axis=0)])
    return Item(name, box, (ring,), group=group)


def ellipse(centre: ArrayLike, radii: ArrayLike, degrees: float = 0.0) -> np.ndarray:
    """An ellipse as a ring of 64 points.

    Args:
        centre: x, y.
        radii: along x and y before it is turned.
        degrees: by which it is turned, clockwise as one sees it.
    """
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    unit = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return turned(unit * np.asarray(radii) + np.asarray(centre), degrees, centre)


def turned(ring: np.ndarray, degrees: float, centre: ArrayLike) -> np.ndarray:
    """A ring (N, 2) turned about a point, clockwise as one sees it; to a millionth of a pixel."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    middle = np.asarray(centre)
    return np.round((ring - middle) @ np.array([[cos, sin], [-sin, cos]]) + middle, 6)


def points(value: Any, least: int) -> np.ndarray | None:
    """Pairs x, y as a ring (N, 2); None where they are not finite numbers, or too few."""
    try:
        ring = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < least or not np.isfinite(ring).all():
        return None
    return ring if np.abs(ring).max() < 1e7 else None


def grouped(items: list[Item]) -> list[Item]:
    """Pieces of one group and one class as one object, in the place of the first."""
    whole: dict[Any, Item] = {}
    for position, item in enumerate(items):
        key = (position,) if item.group is None else (str(item.group), item.name)
        other = whole.get(key)
        if other is not None:
            low = np.minimum(item.box[:2], other.box[:2])
            box = np.concatenate([low, np.maximum(item.box[2:], other.box[2:])])
            item = replace(other, box=box, parts=other.parts + item.parts)
        whole[key] = item
    return list(whole.values())


def segmentation_of(parts: tuple[Part, ...], size: Size) -> list[list[float]] | RLE:
    """Polygons where all parts are rings, else one code."""
    rings = [flat(part) for part in parts if isinstance(part, np.ndarray)]
    codes = [part for part in parts if not isinstance(part, np.ndarray)]
    if not codes:
        return rings
    if rings:
        codes.append(segmentation_to_rle(rings, *size))
    merged = coco_mask.merge(codes)
    return {"size": list(size), "counts": merged["counts"].decode("ascii")}

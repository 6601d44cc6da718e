"""The annotations of a file as columns: numbers in arrays, which forked processes share, and the rest as bytes. Read as
a list, it makes the dictionaries of the file anew.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple, overload

import numpy as np

Annotation = dict[str, Any]
CHUNK = 4096
"""Annotations that are dictionaries at a time."""


class Layout(NamedTuple):
    """What many annotations have in common.

    Attributes:
        keys: in order; without any, the whole annotation stands in the bytes.
        crowd: ``iscrowd``, -1 = not given.
        integers: bits 0 to 3: that number of ``bbox`` is an integer; bit 4: so is ``area``.
    """

    keys: tuple[str, ...]
    crowd: int
    integers: int


class Columns(NamedTuple):
    """Of N annotations.

    Attributes:
        ids, categories: (N,) integers.
        images: (N,) integers, place in :attr:`AnnotationTable.image_ids`, -1 = it is not there.
        boxes: (N, 4) float64 as they stand, 0 = not given.
        areas: (N,) float64, 0 = not given.
        layouts: (N,) integers, place in :attr:`AnnotationTable.layouts`.
        vouched: (N,) bool, no rule needs to look at it again.
        sizes: (N,) integers, bytes of all else.
        rest: (sum of sizes,) uint8.
    """

    ids: np.ndarray
    images: np.ndarray
    categories: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    layouts: np.ndarray
    vouched: np.ndarray
    sizes: np.ndarray
    rest: np.ndarray


class AnnotationTable(Sequence[Annotation]):
    """Annotations in the order of their file.

    Args:
        columns: their values.
        image_ids: ids of images.
        layouts: see :class:`Layout`.
    """

    def __init__(
        self, columns: Columns, image_ids: Sequence[int | str], layouts: Sequence[Layout]
    ) -> None:
        self.columns, self.image_ids, self.layouts = columns, image_ids, layouts

    def __len__(self) -> int:
        return len(self.columns.ids)

    @overload
    def __getitem__(self, item: int) -> Annotation: ...

    @overload
    def __getitem__(self, item: slice) -> list[Annotation]: ...

    def __getitem__(self, item: int | slice) -> Annotation | list[Annotation]:
        places = range(len(self))[item]
        return self.rows([places])[0] if isinstance(places, int) else self.rows(places)

    def __iter__(self) -> Iterator[Annotation]:
        for start in range(0, len(self), CHUNK):
            yield from self.rows(range(start, min(start + CHUNK, len(self))))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def rows(self, places: Sequence[int] | np.ndarray) -> list[Annotation]:
        """Some annotations."""
        at = np.asarray(places, dtype=np.int64)
        numbers = [column[at].tolist() for column in self.columns[:6]]
        rest = self.columns.rest
        out = []
        for start, size, *row in zip(
            self._starts[at].tolist(), self.columns.sizes[at].tolist(), *numbers, strict=True
        ):
            out.append(self._row(row, rest[start : start + size].tobytes()))
        return out

    def _row(self, numbers: list[Any], rest: bytes) -> Annotation:
        own_id, image, category, box, area, layout = numbers
        keys, crowd, integers = self.layouts[layout]
        if not keys:
            return dict(pickle.loads(rest))  # noqa: S301  # our own bytes
        if integers & 15:
            box = [int(v) if integers >> i & 1 else v for i, v in enumerate(box)]
        known = {
            "id": own_id,
            "image_id": self.image_ids[image],
            "category_id": category,
            "bbox": box,
            "area": int(area) if integers & 16 else area,
            "iscrowd": crowd,
        }
        if rest:
            known |= pickle.loads(rest)  # noqa: S301  # our own bytes
        return {key: known[key] for key in keys}

    @cached_property
    def _starts(self) -> np.ndarray:
        """(N,) int64, where the bytes of an annotation begin."""
        if not len(self.columns.rest):
            return np.broadcast_to(np.int64(0), len(self))
        sizes = self.columns.sizes.astype(np.int64)
        return sizes.cumsum() - sizes

    @cached_property
    def _groups(self) -> tuple[dict[int | str, int], np.ndarray, np.ndarray]:
        """Place of an image by its id; places of annotations, image by image; where each image's begin."""
        images = self.columns.images
        order = images.argsort(kind="stable")
        begins = np.searchsorted(images[order], np.arange(len(self.image_ids) + 1))
        return {key: i for i, key in enumerate(self.image_ids)}, order, begins

    def of_image(self, image_id: int | str) -> list[Annotation]:
        """The annotations of one image."""
        places, order, begins = self._groups
        place = places[image_id]
        return self.rows(order[begins[place] : begins[place + 1]])

    def has(self, key: str) -> np.ndarray:
        """(N,) bool, whether an annotation has a key."""
        return self._of_layout(lambda layout: key in layout.keys or not layout.keys)

    @property
    def crowds(self) -> np.ndarray:
        """(N,) bool, whether an annotation is a crowd."""
        return self._of_layout(lambda layout: layout.crowd > 0)

    @property
    def is_odd(self) -> np.ndarray:
        """(N,) bool, whether an annotation has no form that columns can hold, and so stands in the bytes as a whole."""
        return self._of_layout(lambda layout: not layout.keys)

    @property
    def has_unique_ids(self) -> bool:
        """Whether each annotation has a number of its own for an id."""
        ids = self.columns.ids
        rising = (ids[1:] > ids[:-1]).all()
        return not self.is_odd.any() and bool(rising or len(np.unique(ids)) == len(ids))

    def _of_layout(self, test: Callable[[Layout], bool]) -> np.ndarray:
        return np.array([test(layout) for layout in self.layouts], dtype=bool)[self.columns.layouts]

    def take(self, keep: np.ndarray) -> AnnotationTable:
        """Those that ``keep`` (N,) bool names."""
        if keep.all():
            return self
        *numbers, rest = self.columns
        kept = [column[keep] for column in numbers]
        kept.append(rest[np.repeat(keep, self.columns.sizes)])
        return AnnotationTable(Columns._make(kept), self.image_ids, self.layouts)

    def where(self, keep: np.ndarray) -> Iterator[Annotation]:
        """Those that ``keep`` (N,) bool names, one by one."""
        places = np.flatnonzero(keep)
        for start in range(0, len(places), CHUNK):
            yield from self.rows(places[start : start + CHUNK])

    def without_images(self, image_ids: Collection[int | str]) -> AnnotationTable:
        """Those of other images."""
        out = np.array([image_id in image_ids for image_id in self.image_ids], dtype=bool)
        return self.take(~out[self.columns.images])

    @property
    def nbytes(self) -> int:
        """Memory of the columns."""
        return sum(column.nbytes for column in self.columns)

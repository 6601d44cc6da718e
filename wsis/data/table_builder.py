"""From dictionaries to the columns of a table, many at a time."""

from __future__ import annotations

import pickle
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np

from wsis.data.table import CHUNK, Annotation, AnnotationTable, Columns, Layout

NO_BOX = [0.0, 0.0, 0.0, 0.0]
_DEFAULTS = {"bbox": NO_BOX, "area": 0.0, "iscrowd": -1, "score": 1, "ignore_segmentation": {}}
_COLUMNS = frozenset(("id", "image_id", "category_id", "bbox", "area", "iscrowd"))
_MOST = 2.0**53
"""Below this a float holds every integer."""

Values = dict[str, Sequence[Any]]
"""Of annotations, by key; where one has not the key, :data:`_DEFAULTS` or None."""
Vouch = Callable[[Values, list[Layout], Columns], np.ndarray | None]


def table_of(annotations: Iterable[Annotation], image_ids: Iterable[int | str]) -> AnnotationTable:
    """A table of annotations of whatever form, of images with these ids."""
    builder = TableBuilder(image_ids)
    for chunk in chunks(annotations):
        builder.add(chunk)
    return builder.table()


class TableBuilder:
    """Makes a table of chunks of annotations.

    Args:
        image_ids: of the file.
    """

    def __init__(self, image_ids: Iterable[int | str]) -> None:
        self.image_ids = list(image_ids)
        self.places = {key: i for i, key in enumerate(self.image_ids)}
        self.layouts: dict[Layout, int] = {}
        self.number = 0
        kinds = (np.int64, np.int32, np.int64, "4float", float, np.int32, bool, np.int32)
        self.columns = [np.empty(CHUNK, kind) for kind in kinds]
        self.rest: list[np.ndarray] = []

    def table(self) -> AnnotationTable:
        """Of all that was added; nothing can be added any more."""
        self._make_room(self.number)
        kept = [_narrow(column) for column in self.columns]
        self.columns = []
        columns = Columns._make([*kept, np.concatenate([np.zeros(0, np.uint8), *self.rest])])
        return AnnotationTable(columns, self.image_ids, list(self.layouts))

    def _make_room(self, number: int) -> None:
        for column in self.columns:
            column.resize((number, *column.shape[1:]), refcheck=False)

    def _put(self, columns: Columns) -> None:
        start, self.number = self.number, self.number + len(columns.ids)
        if self.number > len(self.columns[0]):
            self._make_room(self.number * 3 // 2)
        for column, part in zip(self.columns, columns[:-1], strict=True):
            column[start : self.number] = part
        if len(columns.rest):
            self.rest.append(columns.rest)

    def add(self, chunk: Sequence[Annotation]) -> None:
        """Adds annotations of whatever form; nobody vouches for them."""
        found = self._columns(chunk)
        if found is not None:
            self._put(found[0])
        elif len(chunk) > 1:
            self.add(chunk[: len(chunk) // 2])
            self.add(chunk[len(chunk) // 2 :])
        else:
            self._put(self._odd(chunk[0]))

    def add_regular(self, chunk: Sequence[Annotation], vouch: Vouch) -> bool:
        """Adds annotations if each fits into columns.

        Args:
            chunk: the annotations.
            vouch: is given the values under all keys, all layouts and the columns, and says which annotations (N,) bool
                no rule needs to look at again; None refuses the chunk.

        Returns:
            Whether they were added.
        """
        found = self._columns(chunk)
        vouched = found and vouch(found[1], list(self.layouts), found[0])
        if found is None or vouched is None:
            return False
        self._put(found[0]._replace(vouched=vouched))
        return True

    def _columns(self, chunk: Sequence[Annotation]) -> tuple[Columns, Values] | None:
        """Columns of annotations that have the forms that columns hold, and their values; None where one has not."""
        keys, n = list(map(tuple, chunk)), len(chunk)
        # mostly all are alike, which is seen faster than as many are hashed
        kinds = {keys[0]} if keys.count(keys[0]) == n else set(keys)
        if not all({"id", "image_id", "category_id"}.issubset(kind) for kind in kinds):
            return None
        values = _by_key(chunk, kinds)
        ids, image_ids, categories = (values.get(k, ()) for k in ("id", "image_id", "category_id"))
        boxes, areas = values.get("bbox", [NO_BOX] * n), values.get("area", [0.0] * n)
        crowds = values.get("iscrowd", [-1] * n)
        if (
            not _types(chain(ids, categories, crowds)) <= {int}
            or not _types(image_ids) <= {int, str}
            or not _types(boxes) <= {list}
            or not set(map(len, boxes)) <= {4}
        ):
            return None
        try:
            places = list(map(self.places.__getitem__, image_ids))
            id_column, category_column = np.array(ids, np.int64), np.array(categories, np.int64)
            numbers, integers = _numbers([*chain.from_iterable(boxes), *areas])
        except (KeyError, OverflowError, TypeError):
            return None
        bits = integers[: 4 * n].reshape(n, 4) @ (1 << np.arange(4)) + 16 * integers[4 * n :]
        columns = Columns(
            id_column,
            np.array(places, np.int32),
            category_column,
            numbers[: 4 * n].reshape(n, 4),
            numbers[4 * n :],
            self._layouts(keys, kinds, crowds, bits),
            np.zeros(n, dtype=bool),
            *_rest(chunk, keys, kinds),
        )
        return columns, values

    def _layouts(
        self,
        keys: list[tuple[str, ...]],
        kinds: set[tuple[str, ...]],
        crowds: Sequence[int],
        bits: np.ndarray,
    ) -> np.ndarray:
        """(N,) int32, the place of each annotation's layout among all."""
        code = bits
        of_all: list[tuple[Sequence[Any], set[Any]]] = [(keys, kinds), (crowds, set(crowds))]
        for values, different in of_all:
            if len(different) > 1:
                known = {value: i for i, value in enumerate(dict.fromkeys(values))}
                code = code * len(known) + np.array([known[value] for value in values])
        _, first, which = np.unique(code, return_index=True, return_inverse=True)
        layouts = [Layout(keys[i], crowds[i], int(bits[i])) for i in first]
        places = [self.layouts.setdefault(each, len(self.layouts)) for each in layouts]
        return np.array(places, dtype=np.int32)[which]

    def _odd(self, annotation: Annotation) -> Columns:
        """An annotation that stands in the bytes as a whole."""
        layout = self.layouts.setdefault(Layout((), -1, 0), len(self.layouts))
        text = np.frombuffer(pickle.dumps(annotation), dtype=np.uint8)
        image_id: Any = annotation.get("image_id")
        place = self.places.get(image_id, -1) if type(image_id) in (int, str) else -1
        return Columns(
            np.zeros(1, np.int64),
            np.array([place], np.int32),
            np.zeros(1, np.int64),
            np.zeros((1, 4)),
            np.zeros(1),
            np.array([layout], np.int32),
            np.zeros(1, dtype=bool),
            np.array([len(text)], np.int32),
            text,
        )


def _narrow(column: np.ndarray) -> np.ndarray:
    """Integers in the smallest type that holds them all."""
    if column.dtype.kind != "i" or not len(column):
        return column
    low, high = column.min(), column.max()
    types = (np.int8, np.int16, np.int32, np.int64)
    return column.astype(
        next(t for t in types if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
    )


def chunks(annotations: Iterable[Annotation]) -> Iterator[list[Annotation]]:
    """:data:`CHUNK` annotations at a time, or as many as ``annotations.chunks()`` gives."""
    if hasattr(annotations, "chunks"):
        yield from annotations.chunks()
        return
    iterator = iter(annotations)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


def _by_key(chunk: Sequence[Annotation], kinds: set[tuple[str, ...]]) -> Values:
    if len(kinds) == 1:
        return dict(zip(*kinds, zip(*map(dict.values, chunk), strict=True), strict=True))
    return {
        key: [annotation.get(key, _DEFAULTS.get(key)) for annotation in chunk]
        for key in dict.fromkeys(chain.from_iterable(kinds))
    }


def _types(values: Iterable[Any]) -> set[type]:
    return set(map(type, values))


def _numbers(values: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers as float64, and which of them are integers.

    Raises:
        TypeError, OverflowError: something else is among them, or an integer that a float does not hold exactly.
    """
    out = np.frombuffer(array("d", values))  # which takes truth values too
    whole = np.flatnonzero(out == np.floor(out))
    kinds = list(map(type, map(values.__getitem__, whole.tolist())))
    if not {int, float}.issuperset(kinds):
        raise TypeError(kinds)
    integers = np.zeros(len(out), dtype=bool)
    integers[whole] = [kind is int for kind in kinds]
    if (np.abs(out[integers]) >= _MOST).any():
        raise OverflowError
    return out, integers


def _rest(
    chunk: Sequence[Annotation], keys: list[tuple[str, ...]], kinds: set[tuple[str, ...]]
) -> tuple[np.ndarray, np.ndarray]:
    """Sizes and bytes of all that no column holds."""
    others = {each: [key for key in each if key not in _COLUMNS] for each in kinds}
    if not any(others.values()):
        return np.zeros(len(chunk), np.int32), np.zeros(0, np.uint8)
    texts = [
        pickle.dumps({key: annotation[key] for key in others[own]}) if others[own] else b""
        for annotation, own in zip(chunk, keys, strict=True)
    ]
    sizes = np.array([len(text) for text in texts], dtype=np.int32)
    return sizes, np.frombuffer(b"".join(texts), dtype=np.uint8)

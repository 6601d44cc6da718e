"""Proxy-mask files of the boxes of a dataset, read annotation by annotation: of each only its place is in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from wsis.data.source import Annotation, CocoSource
from wsis.data.values import is_number, show
from wsis.errors import DataError
from wsis.structures import STATUSES
from wsis.structures.rle import read_mask

_START, _END = b'"annotations": [', b"]}"


class ProxyIndex:
    """One file, checked against the source that its masks are of.

    Args:
        path: a file that :func:`wsis.structures.proxy_file.write_proxy_file` wrote.
        source: whose annotations it must have, with their images and boxes, in their order; each costs 8 bytes.

    Attributes:
        method: that made it.
        sha256: of its bytes, in hex.

    Raises:
        DataError: it cannot be read, has another form, or is of another source.
    """

    def __init__(self, path: str, source: CocoSource) -> None:
        self.path = path
        self.sizes = {image["id"]: (image["height"], image["width"]) for image in source.images}
        digest = hashlib.sha256()
        self._offsets = np.zeros(len(source.annotations), dtype=np.int64)
        try:
            with open(path, "rb") as stream:
                lines = _hashed(stream, digest)
                self.method = self._head(lines)
                self._check(lines, source)
                for _ in lines:
                    pass
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        self.sha256 = digest.hexdigest()

    def read(self, rows: Sequence[int]) -> list[Annotation]:
        """Annotations by their place in the source; each with ``segmentation`` as a code of text, and so
        ``ignore_segmentation`` where it has one.

        Raises:
            DataError: a mask is malformed, or the file has changed.
        """
        with open(self.path, "rb") as stream:
            return [self._annotation(stream, int(self._offsets[row])) for row in rows]

    def _annotation(self, stream: Any, offset: int) -> Annotation:
        stream.seek(offset)
        annotation = self._parsed(stream.readline())
        label = f"{self.path}: annotation {annotation['id']}"
        size = self.sizes[annotation["image_id"]]
        for key in ("segmentation", "ignore_segmentation"):
            if key in annotation:
                annotation[key] = read_mask(annotation, key, size, label)
        return annotation

    def _head(self, lines: Iterator[tuple[int, bytes]]) -> str:
        """The method, from the first lines up to the list of annotations.

        Raises:
            DataError: they are not as wsis writes them.
        """
        try:
            _, first = next(lines)
            method = json.loads(first.rstrip().rstrip(b",") + b"}")["info"]["wsis"]["method"]
            for _, line in lines:
                if line.startswith(_START):
                    return str(method)
        except (StopIteration, ValueError, KeyError, TypeError):
            pass
        raise DataError(
            f"{self.path}: found another form, expected a proxy-mask file as wsis writes it, with 'info.wsis' and one "
            "annotation per line; MODEL.META_ARCHITECTURE ExternalMasks makes one of any COCO JSON"
        )

    def _check(self, lines: Iterator[tuple[int, bytes]], source: CocoSource) -> None:
        """Notes the place of each annotation.

        Raises:
            DataError: the first that is not the source's.
        """
        for row, expected in enumerate(source.annotations):
            offset, line = next(lines, (0, _END))
            found = {} if line.startswith(_END) else self._parsed(line)
            for key in ("id", "image_id", "bbox"):
                if found.get(key) != expected.get(key):
                    raise DataError(
                        f"{self.path}: annotation number {row + 1}: key '{key}': found {show(found.get(key))}, "
                        f"expected {show(expected.get(key))} as in {source.json_file}; are its masks of other boxes?"
                    )
            self._offsets[row] = offset
        _, line = next(lines, (0, _END))
        if not line.startswith(_END):
            raise DataError(
                f"{self.path}: found more annotations than the {len(source.annotations)} of {source.json_file}; are "
                "its masks of other boxes?"
            )

    def _parsed(self, line: bytes) -> Annotation:
        try:
            annotation = json.loads(line.rstrip().rstrip(b","))
            score, known = annotation["score"], annotation["status"] in STATUSES
            if known and is_number(score) and 0 <= score <= 1 and annotation["segmentation"]:
                return annotation
        except (ValueError, KeyError, TypeError):
            pass
        raise DataError(
            f"{self.path}: found {show(line.decode(errors='replace'))}, expected an annotation with "
            "'segmentation', 'score' and 'status' per line; make the file again"
        )


def _hashed(stream: Any, digest: Any) -> Iterator[tuple[int, bytes]]:
    """The lines of a file with the offset of each, while its digest is made."""
    offset = 0
    for line in stream:
        digest.update(line)
        yield offset, line
        offset += len(line)

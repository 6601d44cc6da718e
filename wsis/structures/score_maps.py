"""Score maps on disk, what one stage hands the next: one ``.npz`` per image, beside one ``manifest.json``, see
``docs/score_maps.md``.

``<folder>/<map name>/<file name without suffix>.npz``, subfolders kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from wsis.errors import DataError
from wsis.structures.proxy_file import atomic_writer

KIND = "score_maps"
"""The key of a manifest that names score maps."""
SUFFIX = ".npz"
STRETCHED = 0
"""The stride of maps that are stretched over their image."""
_CURE = "make the score maps anew"
_READ_ERRORS = (
    OSError,
    EOFError,
    KeyError,
    ValueError,
    TypeError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy and zipfile raise at files that are cut, changed or not theirs."""


@dataclass
class ScoreMaps:
    """The scores of the classes that are present in one image, on a grid.

    Args:
        classes: (K,) label values, ascending: 0 = background, c + 1 = contiguous class c.
        scores: (K, h, w) float32, finite, at least 0.
        height, width: size of the image in pixels.
        stride: s >= 1: cell (0, 0) covers the s x s pixels of the image's upper left corner and (h, w) is
            (ceil(height / s), ceil(width / s)); 0: the map is stretched over the image, (h, w) is anything.

    Raises:
        ValueError: something is not of this form.
    """

    classes: np.ndarray
    scores: np.ndarray
    height: int
    width: int
    stride: int = 1

    def __post_init__(self) -> None:
        self.classes = np.asarray(self.classes, dtype=np.uint16).reshape(-1)
        self.scores = np.asarray(self.scores, dtype=np.float32)
        grid, number = self.scores.shape[1:], len(self.classes)
        if self.scores.ndim != 3 or len(self.scores) != number or not all(grid):
            raise ValueError(f"{number} classes, scores {self.scores.shape}, expected (K, h, w)")
        if not (np.diff(self.classes.astype(np.int64)) > 0).all():
            raise ValueError(f"classes {self.classes.tolist()}, expected ascending ones")
        if self.stride < 0 or min(self.height, self.width) < 1:
            raise ValueError(f"stride {self.stride} of a {self.width}x{self.height} image")
        if self.stride and grid != (-(-self.height // self.stride), -(-self.width // self.stride)):
            raise ValueError(
                f"a grid {grid} of stride {self.stride} for a {self.width}x{self.height} image"
            )
        if not (np.isfinite(self.scores).all() and (self.scores >= 0).all()):
            raise ValueError("a score that is not a finite number of at least 0")

    @classmethod
    def of_nothing(cls, height: int, width: int) -> ScoreMaps:
        """Those of an image in which no class is present."""
        return cls(np.zeros(0), np.zeros((0, 1, 1)), height, width, STRETCHED)

    @property
    def bits(self) -> int:
        """Of one score on disk: 16 where the grid has at most a quarter of the image's pixels, else 8."""
        rows, columns = self.scores.shape[1:]
        return 16 if 4 * rows * columns <= self.height * self.width else 8

    def enlarged(self) -> torch.Tensor:
        """The scores of every pixel, (K, height, width) float32: bilinear, corners not aligned; what a grid of a
        stride has beyond the image is cut off.
        """
        scores, size = torch.from_numpy(self.scores), (self.height, self.width)
        if not len(scores):
            return scores.new_zeros(0, *size)
        if self.stride == 1:
            return scores
        if self.stride:
            size = scores.shape[1] * self.stride, scores.shape[2] * self.stride
        full = functional.interpolate(scores[None], size, mode="bilinear", align_corners=False)[0]
        return full[:, : self.height, : self.width]


@dataclass
class ImageMaps:
    """What a method that makes no instances makes of one image.

    Args:
        sem_seg: label name to (H, W) uint8 semantic map, 255 = ignore.
        score_maps: map name to its scores.
    """

    sem_seg: dict[str, np.ndarray] = field(default_factory=dict)
    score_maps: dict[str, ScoreMaps] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoreMapHeader:
    """What a file says of itself.

    Args:
        image: name of the image as in its data set.
        size: its height and width.
        made_with: see :func:`provenance_digest`.
    """

    image: str
    size: tuple[int, int]
    made_with: str

    def check(self, expected: ScoreMapHeader, path: str | os.PathLike[str]) -> None:
        """Checks that the file at ``path`` is the expected one.

        Raises:
            DataError: it is of another image, size, data set, or of other weights or settings.
        """
        if _plain(self.image) != _plain(expected.image):
            raise DataError(
                f"{path}: score maps of the image {self.image!r}, expected those of {expected.image!r}; {_CURE}"
            )
        if self.size != expected.size:
            sizes = [f"{width}x{height}" for height, width in (self.size, expected.size)]
            raise DataError(
                f"{path}: score maps of an image of {sizes[0]} (width x height), the image is {sizes[1]}; {_CURE}"
            )
        if self.made_with != expected.made_with:
            raise DataError(
                f"{path}: made otherwise than the manifest beside its folder says (other weights, data set or "
                f"settings): found {self.made_with!r}, expected {expected.made_with!r}; {_CURE}"
            )


def provenance_digest(provenance: dict[str, Any]) -> str:
    """Sixteen hex digits that stand for all that maps were made with."""
    text = json.dumps(provenance, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_score_maps(
    path: str | os.PathLike[str], maps: ScoreMaps, image: str, made_with: str
) -> None:
    """Writes the maps of one image; a reader sees the whole file or none, and the same maps give the same bytes.

    A score is ``scale`` times an integer; the scale is that of its class, whose maximum is the largest integer.

    Args:
        path: of the file; folders are made.
        maps: the maps.
        image: name of the image as in its data set.
        made_with: see :func:`provenance_digest`.
    """
    levels = 2**maps.bits - 1
    top = maps.scores.max(axis=(1, 2), initial=0).astype(np.float64)
    scale = (top / levels).astype(np.float32)
    steps = np.where(scale > 0, scale, 1).astype(np.float64)[:, None, None]
    integers = np.minimum(np.rint(maps.scores / steps), levels)
    with atomic_writer(path, "wb") as stream:
        np.savez_compressed(
            stream,
            classes=maps.classes,
            scores=integers.astype(f"<u{maps.bits // 8}"),
            scale=scale,
            stride=np.int32(maps.stride),
            size=np.array([maps.height, maps.width], dtype=np.int32),
            image=np.array(_plain(image)),
            made_with=np.array(made_with),
        )


def read_score_maps(
    path: str | os.PathLike[str], expected: ScoreMapHeader | None = None
) -> ScoreMaps:
    """Reads the maps of one image.

    Args:
        path: of the file.
        expected: what it must say of itself; None = anything.

    Raises:
        DataError: it is missing, cut off, not of this form, or of another image, size, data set or weights.
    """
    with _opened(path) as archive:
        header = _header(archive)
        if expected is not None:
            header.check(expected, path)
        integers, scale, stride = (archive[key] for key in ("scores", "scale", "stride"))
        if integers.dtype not in (np.uint8, np.uint16) or scale.shape != integers.shape[:1]:
            raise ValueError(f"scores {integers.dtype} {integers.shape}, scales {scale.shape}")
        scores = integers.astype(np.float32) * scale.astype(np.float32)[:, None, None]
        return ScoreMaps(archive["classes"], scores, *header.size, int(stride))


def read_header(path: str | os.PathLike[str]) -> ScoreMapHeader:
    """What a file says of itself, without reading its scores.

    Raises:
        DataError: it is missing, cut off or not of this form.
    """
    with _opened(path) as archive:
        return _header(archive)


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            yield archive
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file of score maps") from error
    except _READ_ERRORS as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read as score maps ({reason}); {_CURE}") from error


def _header(archive: Any) -> ScoreMapHeader:
    height, width = (int(side) for side in archive["size"])
    image, made_with = archive["image"], archive["made_with"]
    if image.dtype.kind != "U" or made_with.dtype.kind != "U":
        raise ValueError("key 'image' or 'made_with' is no text")
    return ScoreMapHeader(str(image), (height, width), str(made_with))


def _plain(image: str) -> str:
    return os.path.normpath(image)

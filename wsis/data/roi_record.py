"""What a frozen detector gives its mask head, step after step of a training, kept on disk: any number of heads learn
from it, and the detector has run once.

A folder of ``index.json`` (see :class:`RoiRecord`), and for every :data:`CHUNK` iterations the RoI features,
``00000.npy``, and the regions that they are of, ``00000.json``. Masks are not in it: they come from the annotations of
the training that reads it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.structures import Boxes
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset

from wsis.data.mapper import WsisDatasetMapper
from wsis.errors import ConfigError, DataError, WsisError
from wsis.structures.proxy_file import atomic_writer, read_json, remove_torn, write_json_atomic
from wsis.structures.shared_image import SharedImage

CHUNK = 20
"""Iterations that a pair of files holds."""
INDEX = "index.json"
_VALUES = ("iterations", "images_per_batch", "seed", "weights_sha256")
_HEADER = ("keys", "objects", *_VALUES)
_GEOMETRY = (
    T.CropTransform,
    T.HFlipTransform,
    T.NoOpTransform,
    T.PadTransform,
    T.ResizeTransform,
    T.VFlipTransform,
)


@dataclass(frozen=True)
class RecordedImage:
    """The foreground regions of one image in one batch.

    Attributes:
        position: of the image among those of the training.
        size: height and width after the transforms.
        transforms: see :func:`describe`.
        ids: annotation id of each of R regions.
        boxes: (R, 4) XYXY at that size.
    """

    position: int
    size: tuple[int, int]
    transforms: list[list[Any]]
    ids: list[int]
    boxes: list[list[float]]


def describe(transforms: T.TransformList) -> list[list[Any]]:
    """Name and arguments of each transform, ready for JSON.

    Raises:
        ConfigError: one of a kind that cannot be described so.
    """
    described = []
    for each in transforms.transforms:
        if isinstance(each, T.TransformList):
            described += describe(each)
        elif isinstance(each, _GEOMETRY):
            names = inspect.signature(type(each)).parameters
            values = {name: _plain(getattr(each, name)) for name in names}
            described.append([type(each).__name__, values])
        else:
            raise ConfigError(f"INPUT: {type(each).__name__} cannot be recorded")
    return described


def _plain(value: Any) -> float | None:
    """A number of any kind, or none, as JSON knows it."""
    return value if value is None or isinstance(value, float) else int(value)


def restore(described: Iterable[Sequence[Any]]) -> T.TransformList:
    """The reverse of :func:`describe`."""
    kinds = {kind.__name__: kind for kind in _GEOMETRY}
    return T.TransformList([kinds[name](**values) for name, values in described])


def objects_of(dicts: Sequence[Mapping[str, Any]]) -> list[list[list[float]]]:
    """Per image the id, class and box of each annotation with a box, crowds aside, by which a training is known."""
    return [
        [
            [a["id"], a["category_id"], *a["bbox"]]
            for a in record["annotations"]
            if "bbox" in a and not a.get("iscrowd")
        ]
        for record in dicts
    ]


class RoiRecord:
    """A folder of recorded RoI features.

    Args:
        folder: that holds one.

    Attributes:
        header: ``iterations``, ``images_per_batch``, ``seed``, ``objects`` (see :func:`objects_of`), ``keys`` (config
            keys that the features depend on) and ``weights_sha256`` of the detector.

    Raises:
        DataError: there is none, or its index is not of this form.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.header: dict[str, Any] = read_json(folder / INDEX)
        if not isinstance(self.header, dict) or not {*_HEADER} <= self.header.keys():
            raise DataError(
                f"{folder / INDEX}: expected {', '.join(_HEADER)}; name a folder of tools/record_rois.py"
            )

    @classmethod
    def begin(cls, folder: Path, header: Mapping[str, Any], resume: bool) -> RoiRecord:
        """Starts a record, or goes on with one.

        Raises:
            WsisError: there is one already, or one that was begun otherwise.
        """
        if not (folder / INDEX).exists():
            write_json_atomic(folder / INDEX, header)
            return cls(folder)
        found = cls(folder)
        if not resume:
            raise WsisError(
                f"{folder}: holds RoI features already; go on with --resume, or set another OUTPUT_DIR"
            )
        found.check(header)
        next_one = found.recorded // CHUNK
        remove_torn(*(found._path(next_one, suffix) for suffix in ("npy", "json")))
        return found

    @property
    def recorded(self) -> int:
        """Iterations that are there, in whole chunks from the first one."""
        chunk = 0
        while self._path(chunk, "json").exists():
            chunk += 1
        return min(chunk * CHUNK, self.header["iterations"])

    def check(self, header: Mapping[str, Any]) -> None:
        """Checks that this is the record of a training.

        Args:
            header: of the training; what is not in it is not compared.

        Raises:
            WsisError: it is of another one; says what differs.
        """
        where = f"{self.folder}: RoI features of another training"
        for key, value in header.get("keys", {}).items():
            if self.header["keys"].get(key) != value:
                raise WsisError(f"{where}: {key} was {self.header['keys'].get(key)}, is {value}")
        for name in _VALUES:
            if name in header and self.header[name] != header[name]:
                raise WsisError(f"{where}: {name} was {self.header[name]}, is {header[name]}")
        if "objects" in header:
            _check_objects(where, self.header["objects"], header["objects"])

    def append(
        self,
        chunk: int,
        batches: Sequence[Sequence[RecordedImage]],
        features: np.ndarray,
        **more: Any,
    ) -> None:
        """Adds a chunk, which is there once its JSON is.

        Args:
            chunk: its number.
            batches: its iterations.
            features: (R, C, h, w) of all their regions in turn.
            more: to be kept with it.
        """
        with atomic_writer(self._path(chunk, "npy"), "wb") as stream:
            np.save(stream, features, allow_pickle=False)
        plain = [[asdict(image) for image in batch] for batch in batches]
        write_json_atomic(self._path(chunk, "json"), {"batches": plain, **more})

    def details(self, chunk: int) -> dict[str, Any]:
        """What :meth:`append` has kept with a chunk."""
        return read_json(self._path(chunk, "json"))

    def batch(self, iteration: int) -> Iterator[tuple[RecordedImage, np.ndarray]]:
        """The images of an iteration, each with its (R, C, h, w) features."""
        chunk, number = divmod(iteration, CHUNK)
        batches, starts, features = _load(self, chunk)
        for image, start in zip(batches[number], starts[number], strict=True):
            yield image, np.array(features[start : start + len(image.ids)])

    def _path(self, chunk: int, suffix: str) -> Path:
        return self.folder / f"{chunk:05d}.{suffix}"


@lru_cache(maxsize=1)
def _load(
    record: RoiRecord, chunk: int
) -> tuple[list[list[RecordedImage]], list[list[int]], np.ndarray]:
    """The iterations of a chunk, the first region of each image, and the features, which stay on disk."""
    batches: list[list[RecordedImage]] = []
    starts: list[list[int]] = []
    start = 0
    for batch in record.details(chunk)["batches"]:
        batches.append([RecordedImage(**image) for image in batch])
        starts.append([])
        for image in batches[-1]:
            starts[-1].append(start)
            start += len(image.ids)
    features = np.load(record.folder / f"{chunk:05d}.npy", mmap_mode="r", allow_pickle=False)
    return batches, starts, features


def _check_objects(where: str, recorded: Any, given: Any) -> None:
    """Boxes may differ by rounding, up to a pixel."""
    if len(recorded) != len(given):
        raise WsisError(f"{where}: it had {len(recorded)} images, found {len(given)}")
    for old, new in zip(recorded, given, strict=True):
        for was, found in zip(old, new, strict=False):
            far = max(abs(a - b) for a, b in zip(was[2:], found[2:], strict=True)) > 1
            if was[:2] != found[:2] or far:
                raise WsisError(f"{where}: annotation {was[0]} was {was}, found {found}")
        if len(old) != len(new):
            raise WsisError(f"{where}: an image had {len(old)} boxes {old}, found {len(new)}")


class _Batches(Dataset):
    """So many iterations of a record, again from its start after its end, as the inputs of a step."""

    def __init__(
        self,
        record: RoiRecord,
        dicts: Sequence[dict[str, Any]],
        mapper: WsisDatasetMapper,
        length: int,
    ) -> None:
        self.record, self.dicts, self.mapper, self.length = record, dicts, mapper, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, iteration: int) -> list[dict[str, Any]]:
        images = list(self.record.batch(iteration % self.record.header["iterations"]))
        share = len(images) // comm.get_world_size()
        first = comm.get_rank() * share
        return [self._inputs(image, found) for image, found in images[first : first + share]]

    def _inputs(self, image: RecordedImage, features: np.ndarray) -> dict[str, Any]:
        record = self.dicts[image.position]
        transforms = restore(image.transforms)
        every = self.mapper.instances(record, transforms, image.size)
        if self.mapper.use_colours:
            every.gt_image = SharedImage(self.mapper.image(record, transforms), len(every))
        row_of = {number: row for row, number in enumerate(every.gt_ids.tolist())}
        missing = [number for number in image.ids if number not in row_of]
        if missing:
            raise DataError(
                f"{record['file_name']}: annotation {missing[0]} has no box after the transforms"
            )
        instances = every[torch.tensor([row_of[number] for number in image.ids], dtype=torch.int64)]
        corners = torch.tensor(image.boxes, dtype=torch.float32).reshape(-1, 4)
        instances.proposal_boxes = Boxes(corners)
        return {"roi_features": torch.from_numpy(features), "instances": instances}


def build_record_loader(
    record: RoiRecord,
    dicts: Sequence[dict[str, Any]],
    mapper: WsisDatasetMapper,
    length: int,
    workers: int,
) -> DataLoader:
    """The batches of a record in turn, each image a dict of ``roi_features`` (R, C, h, w) float32 and ``instances``, R
    regions with what ``mapper`` knows of their objects and ``proposal_boxes``.

    Args:
        record: whole.
        dicts: of the training, in the record's order.
        mapper: in training mode.
        length: number of batches; a longer one than the record's repeats it.
        workers: processes that load.
    """
    batches = _Batches(record, dicts, mapper, length)
    return DataLoader(batches, batch_size=None, shuffle=False, num_workers=workers)

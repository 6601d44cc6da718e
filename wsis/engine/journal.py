"""The journal of a generation run: one line per finished image, on disk before the next one is.

``OUTPUT_DIR/proxy/<dataset>.rank<k>.jsonl`` starts with a header that holds the run's provenance;
each further line is what a teacher made for one image, or why the image could not be read. A process
that is killed leaves at most one incomplete line, at the end, which the next run drops.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsis.engine.provenance import differences
from wsis.errors import DataError, WsisError
from wsis.structures import STATUSES, ProxyMasks

logger = logging.getLogger(__name__)

ImageId = int | str
Entry = dict[str, Any]

_LOCK_NAME = ".lock"
_CACHED_ENTRIES = 32
"""Images whose entries stay parsed while a file is written: annotations need not be grouped."""


def _line(value: Entry) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def header_line(provenance: dict[str, Any]) -> bytes:
    """The first line of a journal."""
    return _line({"journal": 1, "wsis": provenance})


def mask_records(masks: ProxyMasks) -> list[Entry]:
    """What a journal keeps of a teacher's result: per annotation its masks, score and status.

    Raises:
        ValueError: a status is unknown, or a score is not in [0, 1].
    """
    records = []
    for i, annotation_id in enumerate(masks.annotation_ids):
        score, status, ignore = float(masks.scores[i]), masks.status[i], masks.ignore_masks[i]
        if not 0 <= score <= 1 or status not in STATUSES:
            raise ValueError(f"annotation {annotation_id}: score {score}, status {status!r}")
        record = {
            "id": annotation_id,
            "segmentation": masks.masks[i],
            "score": score,
            "status": status,
        }
        if ignore is not None:
            record["ignore_segmentation"] = ignore
        records.append(record)
    return records


def result_line(image_id: ImageId, records: list[Entry]) -> bytes:
    """The line of a finished image, see :func:`mask_records`."""
    return _line({"image_id": image_id, "masks": records})


def failure_line(image_id: ImageId, reason: str) -> bytes:
    """The line of an image that could not be read."""
    return _line({"image_id": image_id, "failed": reason})


def journal_path(folder: Path, dataset: str, rank: int) -> Path:
    """Where a rank writes."""
    return folder / f"{dataset}.rank{rank}.jsonl"


def find_journals(folder: Path, dataset: str) -> list[Path]:
    """The journals of all ranks of any number of runs, by rank."""
    pattern = re.compile(re.escape(dataset) + r"\.rank(\d+)\.jsonl")
    names = os.listdir(folder) if folder.is_dir() else []
    ranks = sorted(int(match[1]) for name in names if (match := pattern.fullmatch(name)))
    return [journal_path(folder, dataset, rank) for rank in ranks]


@contextlib.contextmanager
def locked(folder: Path, work: str = "run is writing proxy masks") -> Iterator[None]:
    """Keeps other runs out of a folder, on this machine and on others that share it.

    The lock ends with the process, however that ends.

    Args:
        folder: which must be there.
        work: what the other run does, for the error.

    Raises:
        WsisError: another run is at work there.
    """
    with open(folder / _LOCK_NAME, "ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WsisError(
                f"{folder}: another {work} here; wait for its end or set another OUTPUT_DIR"
            ) from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            logger.warning("%s: no locks on this file system: start one run at a time", folder)
        yield


class JournalWriter:
    """Appends finished images to one journal.

    Args:
        path: the journal; made if need be.
        header: see :func:`header_line`; written if the journal has none.
        end: bytes of the journal that are good; what follows is dropped.
    """

    def __init__(self, path: Path, header: bytes, end: int) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self._end = end
        try:
            os.ftruncate(self._descriptor, end)
            if end == 0:
                self.append(header)
                _sync_folder(path.parent)
        except BaseException:
            self.close()
            raise

    def append(self, *lines: bytes) -> None:
        """Writes lines; when this returns, they are on disk.

        Raises:
            OSError: it cannot be written; the journal is as it was.
        """
        try:
            content, written = b"".join(lines), 0
            while written < len(content):
                written += os.pwrite(self._descriptor, content[written:], self._end + written)
            os.fsync(self._descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._end)
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        self._end += len(content)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)

    def __enter__(self) -> JournalWriter:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()


def _sync_folder(folder: Path) -> None:
    """Makes the names of new files durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass
class JournalIndex:
    """What the journals of one dataset hold; of each image only the place is in memory.

    Attributes:
        ends: bytes of each journal that are good, by file name.
        done: finished images, each with its journal and the offset there.
        failed: images that could not be read, each with the reason.
        provenance: of the headers; None where no journal has one.
    """

    ends: dict[str, int] = field(default_factory=dict)
    done: dict[ImageId, tuple[Path, int]] = field(default_factory=dict)
    failed: dict[ImageId, str] = field(default_factory=dict)
    provenance: dict[str, Any] | None = None
    _cache: OrderedDict[ImageId, dict[int, Entry]] = field(default_factory=OrderedDict)

    @classmethod
    def read(
        cls,
        paths: Iterable[Path],
        provenance: dict[str, Any],
        expected: Callable[[ImageId], list[int] | None],
    ) -> JournalIndex:
        """Reads and checks journals.

        Args:
            paths: any number of them; those that do not exist or lack a complete header are empty.
            provenance: what their headers must hold.
            expected: image id to the ids of the annotations that its line must hold, in order;
                None for an image that the source does not have.

        Raises:
            WsisError: a journal was made with other settings; says which.
            DataError: a line before the last good one is damaged, or two lines of one image differ.
        """
        index = cls()
        for path in paths:
            index._read_one(path, provenance, expected)
        for image_id in index.done:
            index.failed.pop(image_id, None)
        return index

    def _read_one(
        self,
        path: Path,
        provenance: dict[str, Any],
        expected: Callable[[ImageId], list[int] | None],
    ) -> None:
        self.ends[path.name] = 0
        if not path.exists():
            return
        for number, (offset, length, entry) in enumerate(journal_entries(path), start=1):
            if number == 1:
                self._check_header(path, entry, provenance)
            else:
                self._add(path, number, offset, entry, expected)
            self.ends[path.name] = offset + length

    def _check_header(self, path: Path, entry: Entry, provenance: dict[str, Any]) -> None:
        if entry.get("journal") != 1:
            raise DataError(f"{path}: not a journal of proxy masks; delete it to start anew")
        self.provenance = entry.get("wsis")
        changed = differences(self.provenance, provenance)
        if changed:
            raise WsisError(
                f"{path} was made otherwise, so it cannot be continued: {'; '.join(changed)}; set "
                "another OUTPUT_DIR, or delete the journals to start anew"
            )

    def _add(
        self,
        path: Path,
        number: int,
        offset: int,
        entry: Entry,
        expected: Callable[[ImageId], list[int] | None],
    ) -> None:
        image_id = entry.get("image_id")
        ids = expected(image_id) if isinstance(image_id, int | str) else None
        masks = entry.get("masks", [])
        complete = "failed" in entry or [mask.get("id") for mask in masks] == ids
        if image_id is None or ids is None or not complete:
            raise DataError(
                f"{path}: line {number}: not what image {image_id!r} of the source needs; delete "
                "the journals to start anew"
            )
        if "failed" in entry:
            self.failed[image_id] = entry["failed"]
            return
        if image_id in self.done and self._load(image_id) != {m["id"]: m for m in masks}:
            raise DataError(
                f"{path}: line {number}: image {image_id!r} has another result in "
                f"{self.done[image_id][0]}; delete one of the two journals"
            )
        self.done.setdefault(image_id, (path, offset))

    def masks_of(self, image_id: ImageId) -> dict[int, Entry]:
        """The masks of a finished image by annotation id, read from disk."""
        if image_id in self._cache:
            self._cache.move_to_end(image_id)
            return self._cache[image_id]
        self._cache[image_id] = self._load(image_id)
        if len(self._cache) > _CACHED_ENTRIES:
            self._cache.popitem(last=False)
        return self._cache[image_id]

    def _load(self, image_id: ImageId) -> dict[int, Entry]:
        path, offset = self.done[image_id]
        with open(path, "rb") as stream:
            stream.seek(offset)
            entry = json.loads(stream.readline())
        return {mask["id"]: mask for mask in entry["masks"]}


def journal_entries(path: Path) -> Iterator[tuple[int, int, Entry]]:
    """Offset, length in bytes and content of each good line; bad lines at the end are left out: one
    after a kill, several after a failure of the machine.

    Raises:
        DataError: a damaged line is followed by a good one.
    """
    offset, damaged = 0, 0
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, start=1):
            entry = None
            if line.endswith(b"\n"):
                with contextlib.suppress(ValueError):
                    entry = json.loads(line)
            if not isinstance(entry, dict):
                damaged = damaged or number
            elif damaged:
                raise DataError(
                    f"{path}: line {damaged} is damaged; delete the journals to start anew"
                )
            else:
                yield offset, len(line), entry
            offset += len(line)

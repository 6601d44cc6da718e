"""The journal of a run: one line per finished image, on disk before the next one is.

A journal starts with a header that holds the run's provenance; each further line is what was made for
one image, or why the image could not be read. A process that is killed leaves at most one incomplete
line, at the end, which the next run drops. Masks have ``OUTPUT_DIR/proxy/<dataset>.rank<k>.jsonl``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
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


def journal_line(value: Entry) -> bytes:
    """One line of a journal."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def header_line(provenance: dict[str, Any]) -> bytes:
    """The first line of a journal."""
    return journal_line({"journal": 1, "wsis": provenance})


def mask_records(masks: ProxyMasks) -> list[Entry]:
    """What a journal keeps of a teacher's result: per annotation its masks, score and status.

    Raises:
        ValueError: a status is unknown, or a score is not in [0, 1].
    """
    records = []
    for i, annotation_id in enumerate(masks.annotation_ids):
        score, status = float(masks.scores[i]), masks.status[i]
        if not 0 <= score <= 1 or status not in STATUSES:
            raise ValueError(f"annotation {annotation_id}: score {score}, status {status!r}")
        record = {"id": annotation_id, "segmentation": masks.masks[i]}
        record |= {"score": score, "status": status}
        if masks.ignore_masks[i] is not None:
            record["ignore_segmentation"] = masks.ignore_masks[i]
        records.append(record)
    return records


def result_line(image_id: ImageId, records: list[Entry]) -> bytes:
    """The line of a finished image, see :func:`mask_records`."""
    return journal_line({"image_id": image_id, "masks": records})


def failure_line(image_id: ImageId, reason: str) -> bytes:
    """The line of an image that could not be read."""
    return journal_line({"image_id": image_id, "failed": reason})


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


@contextlib.contextmanager
def finished_is_kept(path: Path | None) -> Iterator[None]:
    """Turns an error of the file system into one line; ``path`` is named if the error names none."""
    try:
        yield
    except OSError as error:
        raise WsisError(
            f"{error.filename or path}: {error.strerror or error}; what is finished is kept: "
            "continue with --resume"
        ) from error


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


class JournalIndex:
    """What journals hold; of each image only the place is in memory.

    Args:
        paths: any number of journals; those that do not exist or lack a complete header are empty.
        provenance: what their headers must hold.
        fits: whether a line, given its image id and content, is one that the run can have written.
        advice: what to do with a journal of other settings.

    Attributes:
        ends: bytes of each journal that are good, by file name.
        done: finished images, each with its journal and the offset there.
        failed: images that could not be read, each with the reason.
        provenance: of the headers; None where no journal has one.

    Raises:
        WsisError: a journal was made with other settings; says which.
        DataError: a line before the last good one is damaged, or two lines of one image differ.
    """

    def __init__(
        self,
        paths: Iterable[Path],
        provenance: dict[str, Any],
        fits: Callable[[ImageId, Entry], bool],
        advice: str = "set another OUTPUT_DIR, or delete the journals to start anew",
    ) -> None:
        self.ends: dict[str, int] = {}
        self.done: dict[ImageId, tuple[Path, int]] = {}
        self.failed: dict[ImageId, str] = {}
        self.provenance: dict[str, Any] | None = None
        self._fits = fits
        self.masks_of = lru_cache(_CACHED_ENTRIES)(self._masks_of)
        for path in paths:
            self.ends[path.name] = 0
            for number, offset, end, entry in _entries(path) if path.exists() else ():
                if number > 1:
                    self._add(path, number, offset, entry)
                elif entry.get("journal") != 1:
                    raise DataError(f"{path}: not a journal; delete it to start anew")
                else:
                    self.provenance = entry.get("wsis")
                    changed = "; ".join(differences(self.provenance, provenance))
                    if changed:
                        raise WsisError(
                            f"{path} was made otherwise, so it cannot be continued: {changed}; {advice}"
                        )
                self.ends[path.name] = end
        for image_id in self.done:
            self.failed.pop(image_id, None)

    def _add(self, path: Path, number: int, offset: int, entry: Entry) -> None:
        image_id = entry.get("image_id")
        if not isinstance(image_id, int | str) or not self._fits(image_id, entry):
            raise DataError(
                f"{path}: line {number}: not what image {image_id!r} of the source needs; delete "
                "the journals to start anew"
            )
        if "failed" in entry:
            self.failed[image_id] = entry["failed"]
        elif image_id in self.done and self.entry_of(image_id) != entry:
            raise DataError(
                f"{path}: line {number}: image {image_id!r} has another result in "
                f"{self.done[image_id][0]}; delete one of the two journals"
            )
        else:
            self.done.setdefault(image_id, (path, offset))

    def entry_of(self, image_id: ImageId) -> Entry:
        """The line of a finished image, read from disk."""
        path, offset = self.done[image_id]
        with open(path, "rb") as stream:
            stream.seek(offset)
            return json.loads(stream.readline())

    def _masks_of(self, image_id: ImageId) -> dict[int, Entry]:
        """The masks of a finished image by annotation id; those of the last images are kept."""
        return {mask["id"]: mask for mask in self.entry_of(image_id)["masks"]}


def _entries(path: Path) -> Iterator[tuple[int, int, int, Entry]]:
    """Number, first byte, end and content of each good line; bad lines at the end are left out: one
    after a kill, several after a failure of the machine.

    Raises:
        DataError: a damaged line is followed by a good one.
    """
    end, damaged = 0, 0
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, start=1):
            start, end, entry = end, end + len(line), None
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
                yield number, start, end, entry

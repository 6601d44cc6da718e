"""The proxy-mask file: COCO JSON that carries a teacher's masks, see ``docs/proxy_file.md``."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from wsis.errors import DataError
from wsis.structures.rle import RLE, rle_area

SCORE_DIGITS = 6
_TORN = re.compile(r"\.(.+)\.[a-z0-9_]{8}")
"""Name of an unfinished file, which ``tempfile`` makes of the finished one's."""


def proxy_annotation(
    source: dict[str, Any], mask: RLE, ignore: RLE | None, score: float, status: str
) -> dict[str, Any]:
    """One annotation of the proxy-mask file.

    Args:
        source: the source's annotation: its ``id``, ``image_id``, ``category_id``, ``bbox`` and ``iscrowd`` are kept.
        mask: code of the mask at original image size.
        ignore: code of the pixels that a student's mask loss must skip, or None.
        score: confidence in [0, 1], written with six digits.
        status: one of :data:`wsis.structures.proxy_masks.STATUSES`.
    """
    annotation = {
        "id": source["id"],
        "image_id": source["image_id"],
        "category_id": source["category_id"],
        "bbox": source["bbox"],
        "iscrowd": source.get("iscrowd", 0),
        "area": rle_area(mask),
        "segmentation": mask,
        "score": round(float(score), SCORE_DIGITS),
        "status": status,
    }
    if ignore is not None:
        annotation["ignore_segmentation"] = ignore
    return annotation


@contextlib.contextmanager
def atomic_writer(path: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """A file that appears whole at ``path`` when the block ends, and not at all if the block raises.

    Args:
        path: where; folders are made.
        mode: "w" for text in UTF-8, "wb" for bytes.

    Raises:
        OSError: it cannot be written; names ``path``.
    """
    target = Path(path)
    with _errors_name(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(descriptor, mode, encoding=None if "b" in mode else "utf-8") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise


@contextlib.contextmanager
def _errors_name(target: Path) -> Iterator[None]:
    """An error of the file system that names no file, or one that stands for ``target``, names ``target``."""
    try:
        yield
    except OSError as error:
        name = os.path.basename(error.filename or "")
        if not name or name.startswith(f".{target.name}."):
            error.filename = str(target)
        raise


def remove_torn(*paths: str | os.PathLike[str]) -> None:
    """Removes what writers of these files that were killed have left beside them; nobody may be writing them."""
    names: dict[Path, set[str]] = {}
    for path in map(Path, paths):
        names.setdefault(path.parent, set()).add(path.name)
    for folder, targets in names.items():
        for found in os.listdir(folder) if folder.is_dir() else ():
            match = _TORN.fullmatch(found)
            if match and match[1] in targets:
                (folder / found).unlink(missing_ok=True)


def write_json_atomic(path: str | os.PathLike[str], value: Any, indent: int | None = None) -> None:
    """Writes ``value`` as JSON; a reader sees the whole file or none."""
    with atomic_writer(path) as stream:
        json.dump(value, stream, indent=indent)


def write_proxy_file(
    path: str | os.PathLike[str],
    info: dict[str, Any],
    images: list[dict[str, Any]],
    categories: list[dict[str, Any]],
    annotations: Iterable[dict[str, Any]],
) -> None:
    """Streams a proxy-mask file: never more than one annotation in memory beyond the source's own lists.

    Args:
        path: target, written atomically.
        info: goes under ``info``; its key ``wsis`` is the provenance.
        images, categories: as in the source.
        annotations: see :func:`proxy_annotation`, in the source's order.
    """
    with atomic_writer(path) as stream:
        stream.write('{"info": ' + json.dumps(info))
        stream.write(',\n"images": ' + json.dumps(images))
        stream.write(',\n"categories": ' + json.dumps(categories))
        stream.write(',\n"annotations": [')
        separator = "\n"
        for annotation in annotations:
            stream.write(separator + json.dumps(annotation))
            separator = ",\n"
        stream.write("\n]}\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Parses a JSON file.

    Raises:
        DataError: the file is missing, unreadable or not JSON; names it and the place.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error})") from error


def read_proxy_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a COCO JSON file and checks its outermost form.

    Raises:
        DataError: not JSON, not an object, or a list is missing.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise DataError(
            f"{path}: found a {type(document).__name__}, expected a COCO object with images, annotations"
        )
    for key in ("images", "annotations", "categories"):
        if not isinstance(document.get(key), list):
            raise DataError(
                f"{path}: key '{key}': found {type(document.get(key)).__name__}, expected a list"
            )
    return document

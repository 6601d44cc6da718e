"""A person's marks, made in the report page, applied to the proxy-mask file that they were made on."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wsis
from wsis.data.source import Annotation, CocoSource, load_source, read_document
from wsis.data.values import is_integer, show
from wsis.errors import ConfigError, DataError, counted
from wsis.evaluation.proxy_pairs import matching_annotations, status_and_mask
from wsis.structures.boxes import xywh_to_xyxy
from wsis.structures.proxy_file import proxy_annotation, remove_torn, write_proxy_file
from wsis.structures.rle import encode_box, read_mask, rle_area

ACCEPTED, REJECTED = KINDS = ("accepted", "rejected")
_CURE = "open the report page of that file and save the marks there anew"


@dataclass(frozen=True)
class Marks:
    """What a file of marks says.

    Args:
        path: of the file.
        kind_of: annotation id to one of :data:`KINDS`.
        proxy_sha256: of the proxy-mask file that they were made on, in hex.
        sha256: of the file itself, in hex.
    """

    path: str
    kind_of: dict[int, str]
    proxy_sha256: str
    sha256: str

    def check(self, proxy: CocoSource) -> None:
        """Checks that the marks are of a proxy-mask file.

        Raises:
            DataError: they are of another one, or of annotations that have no mask to judge.
        """
        if self.proxy_sha256 != proxy.sha256:
            raise DataError(
                f"{self.path}: key 'proxy_sha256': found {self.proxy_sha256}, but {proxy.json_file} has "
                f"{proxy.sha256}: the marks are of another file, or it was changed since; {_CURE}"
            )
        known = {a["id"] for a in proxy.annotations if not a.get("iscrowd")}
        unknown = sorted(self.kind_of.keys() - known)
        if unknown:
            raise DataError(
                f"{self.path}: {counted(len(unknown), 'marked id')} (first: {unknown[0]}) not among the "
                f"{counted(len(known), 'mask')} of {proxy.json_file}; {_CURE}"
            )


def read_marks(path: str | os.PathLike[str]) -> Marks:
    """Reads what the report page has saved.

    Raises:
        DataError: it cannot be read or is not of this form.
    """
    name = os.fspath(path)
    document, sha256 = read_document(name, "")
    if not isinstance(document, dict):
        raise DataError(f"{name}: found {show(document)}, expected an object of marks; {_CURE}")
    kind_of: dict[int, str] = {}
    for kind in KINDS:
        ids = document.get(kind)
        if not isinstance(ids, list) or not all(is_integer(i) for i in ids):
            raise DataError(
                f"{name}: key '{kind}': found {show(ids)}, expected a list of annotation ids; {_CURE}"
            )
        both = sorted(kind_of.keys() & set(ids))
        if both:
            raise DataError(
                f"{name}: annotation {both[0]} is accepted and rejected, expected one of them; {_CURE}"
            )
        kind_of |= dict.fromkeys(ids, kind)
    made_on = document.get("proxy_sha256")
    if not isinstance(made_on, str):
        raise DataError(
            f"{name}: key 'proxy_sha256': found {show(made_on)}, expected the SHA-256 of a proxy-mask file; {_CURE}"
        )
    return Marks(name, kind_of, made_on, sha256)


@dataclass(frozen=True)
class AppliedMarks:
    """What :func:`apply_marks` wrote.

    Args:
        path: of the new proxy-mask file.
        masks: in it, crowds aside.
        accepted: masks whose score is 1 now.
        replaced: rejected masks that the second file has another one for.
        emptied: rejected masks that are ``empty`` now.
        unchanged: marks on annotations that have no mask, and get none.
    """

    path: Path
    masks: int
    accepted: int
    replaced: int
    emptied: int
    unchanged: int


def apply_marks(
    proxy_file: str | os.PathLike[str],
    marks_file: str | os.PathLike[str],
    output: str | os.PathLike[str],
    fallback_file: str | os.PathLike[str] | None = None,
) -> AppliedMarks:
    """Writes a proxy-mask file as a person has judged it: the whole file, or nothing.

    An accepted mask has score 1. A rejected one becomes that of the second file, with its score and status, else
    ``empty``. Every marked annotation has a key ``mark``, and the provenance says what the marks and the second file
    were (under ``info.marks`` where the file has no ``info.wsis``).

    Args:
        proxy_file: that the marks were made on.
        marks_file: see :func:`read_marks`.
        output: of the new file.
        fallback_file: masks of the same annotations, or None.

    Raises:
        ConfigError: ``output`` is one of the files that are read.
        DataError: a file is wrong, the marks are not of the proxy-mask file, or the second file is not of the same
            annotations.
    """
    for given in (proxy_file, marks_file, fallback_file):
        if given is not None and os.path.realpath(given) == os.path.realpath(output):
            raise ConfigError(
                f"{output}: the output would take the place of the input; name another"
            )
    proxy = load_source(proxy_file, bad_box="skip")
    marks = read_marks(marks_file)
    marks.check(proxy)
    judge = _Judge(proxy, marks, fallback_file)
    annotations = list(judge.annotations())
    remove_torn(output)
    write_proxy_file(output, judge.info(), proxy.images, proxy.categories, annotations)
    made = judge.made
    masks = sum(not a.get("iscrowd") for a in annotations)
    numbers = (made[name] for name in ("accepted", "replaced", "emptied", "unchanged"))
    return AppliedMarks(Path(output), masks, *numbers)


class _Judge:
    """The annotations of a proxy-mask file after marks; arguments as in :func:`apply_marks`, files read.

    Attributes:
        made: what became of marks, by field of :class:`AppliedMarks`; complete after :meth:`annotations`.
    """

    def __init__(
        self, proxy: CocoSource, marks: Marks, fallback_file: str | os.PathLike[str] | None
    ) -> None:
        self.proxy, self.marks = proxy, marks
        self.fallback = None
        self.twins: dict[int, Annotation] = {}
        if fallback_file is not None:
            self.fallback = load_source(fallback_file, bad_box="skip")
            self.twins = matching_annotations(proxy, self.fallback)
        self.sizes = {image["id"]: (image["height"], image["width"]) for image in proxy.images}
        self.made: Counter[str] = Counter()

    def annotations(self) -> Iterator[Annotation]:
        """All of them, in their order."""
        for annotation in self.proxy.annotations:
            kind = self.marks.kind_of.get(annotation["id"])
            if kind is None:
                yield annotation
                continue
            size = self.sizes[annotation["image_id"]]
            status, mask = status_and_mask(annotation, size, self.proxy.json_file)
            became, changed = "unchanged", annotation
            if kind == ACCEPTED and mask is not None:
                became, changed = "accepted", {**annotation, "score": 1.0}
            elif kind == REJECTED:
                twin = self._twin(annotation)
                if twin is not None:
                    became, changed = "replaced", twin
                elif status != "failed" and annotation.get("status") != "empty":
                    became, changed = "emptied", self._empty(annotation)
            self.made[became] += 1
            yield {**changed, "mark": kind}

    def _twin(self, annotation: Annotation) -> Annotation | None:
        """The annotation with the mask of the second file, None where that has no mask."""
        twin = self.twins.get(annotation["id"], {"iscrowd": 1})
        if self.fallback is None or twin.get("iscrowd") or twin.get("status") == "crowd":
            return None
        size, name = self.sizes[annotation["image_id"]], self.fallback.json_file
        status, mask = status_and_mask(twin, size, name)
        if mask is None:
            return None
        ignore = None
        if twin.get("ignore_segmentation"):
            label = f"{name}: annotation {annotation['id']}"
            code = read_mask(twin, "ignore_segmentation", size, label)
            ignore = code if rle_area(code) else None
        return proxy_annotation(annotation, mask, ignore, twin.get("score", 1.0), status)

    def _empty(self, annotation: Annotation) -> Annotation:
        box = encode_box(xywh_to_xyxy(annotation["bbox"]), *self.sizes[annotation["image_id"]])
        return proxy_annotation(annotation, box, box, 0.0, "empty")

    def info(self) -> dict[str, Any]:
        """``info`` of the new file: that of the old one, and the marks after earlier ones."""
        kinds = Counter(self.marks.kind_of.values())
        marks: dict[str, Any] = {
            "version": wsis.__version__,
            "marks_sha256": self.marks.sha256,
            "proxy_sha256": self.proxy.sha256,
            **{kind: kinds[kind] for kind in KINDS},
        }
        if self.fallback is not None:
            made_by = self.fallback.info.get("wsis")
            marks["fallback"] = {"sha256": self.fallback.sha256, "wsis": made_by}
        info, provenance = dict(self.proxy.info), self.proxy.info.get("wsis")
        holder = info
        if isinstance(provenance, dict):
            holder = info["wsis"] = dict(provenance)
        holder["marks"] = [*holder.get("marks", []), marks]
        return info

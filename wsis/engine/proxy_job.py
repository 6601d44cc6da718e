"""A dataset whose boxes get masks: which a teacher makes, what stands for the others, the final file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wsis.data.dicts import to_dicts
from wsis.data.source import Annotation, Image
from wsis.engine.job import Job
from wsis.engine.journal import ImageId, JournalIndex
from wsis.errors import counted
from wsis.structures import RLE
from wsis.structures.boxes import xywh_to_xyxy
from wsis.structures.proxy_file import proxy_annotation, read_proxy_file, write_proxy_file
from wsis.structures.rle import encode_box, read_mask, rle_area


@dataclass(frozen=True, eq=False)
class ProxyJob(Job):
    """The making of one proxy-mask file.

    Args:
        keep_true_masks: ``PROXY.KEEP_TRUE_MASKS``.
    """

    keep_true_masks: bool = False

    lost = (
        "its annotations have the status failed",
        "their annotations have the status failed",
    )

    @property
    def path(self) -> Path:
        """The proxy-mask file."""
        return self.folder / f"{self.name}.json"

    @property
    def amount(self) -> str:
        """See :attr:`Job.amount`."""
        return counted(len(self.source.annotations), "annotation")

    def check(self) -> frozenset[int]:
        """See :meth:`Job.check`: every mask that will be copied must be well formed; the teacher makes those of
        annotations whose mask has no pixel.
        """
        nothing = super().check()
        if not self.keep_true_masks:
            return nothing
        return frozenset(
            annotation["id"]
            for annotation in self.source.annotations
            if annotation.get("segmentation") and rle_area(self._copy(annotation)) == 0
        )

    def status_without_teacher(self, annotation: Annotation) -> str | None:
        """``crowd``, ``empty`` (no usable box) or ``given``; None where the teacher makes the mask.

        The masks of a proxy-mask file are a teacher's, and so not true, unless they were given.
        """
        if annotation.get("iscrowd"):
            return "crowd"
        if annotation["id"] in self.source.bad_boxes:
            return "empty"
        true_mask = annotation.get("segmentation") and annotation.get("status", "given") == "given"
        if self.keep_true_masks and true_mask and annotation["id"] not in self.no_pixel:
            return "given"
        return None

    def asked(self, image_id: ImageId) -> list[Annotation]:
        """The annotations of an image whose masks the teacher makes."""
        return [
            annotation
            for annotation in self.source.annotations_of(image_id)
            if self.status_without_teacher(annotation) is None
        ]

    def record(self, image: Image) -> dict[str, Any]:
        """See :meth:`Job.record`: with the asked annotations and no mask."""
        part = replace(self.source, images=[image], annotations=self.asked(image["id"]))
        return to_dicts(part, "box", self.class_agnostic)[0]

    def is_asked(self, record: dict[str, Any]) -> bool:
        """See :meth:`Job.is_asked`."""
        return bool(record["annotations"])

    def void(self, image_id: ImageId) -> list[RLE]:
        """See :meth:`Job.void`: crowds and given masks."""
        return [
            self._without_teacher(annotation, status)["segmentation"]
            for annotation in self.source.annotations_of(image_id)
            if (status := self.status_without_teacher(annotation)) in ("crowd", "given")
        ]

    def read_provenance(self) -> Any:
        """See :meth:`Job.read_provenance`."""
        return read_provenance(self.path)

    def failed_before(self) -> dict[ImageId, str]:
        """See :meth:`Job.failed_before`."""
        return failed_images(self.path)

    def write(self, index: JournalIndex) -> None:
        """Writes the proxy-mask file from the journals, see :meth:`Job.write`."""
        super().write(index)
        method, version = self.provenance["method"], self.provenance["version"]
        info = {
            "description": f"Proxy masks of {self.name} by {method}, wsis {version}",
            "wsis": self.provenance,
        }
        write_proxy_file(
            self.path, info, self.source.images, self.source.categories, self._annotations(index)
        )

    def _annotations(self, index: JournalIndex) -> Iterator[dict[str, Any]]:
        for annotation in self.source.annotations:
            image_id = annotation["image_id"]
            status = self.status_without_teacher(annotation)
            if image_id in index.failed:
                yield self._without_teacher(annotation, "failed")
            elif status is not None:
                yield self._without_teacher(annotation, status)
            else:
                made = index.masks_of(image_id)[annotation["id"]]
                ignore = made.get("ignore_segmentation")
                mask, score = made["segmentation"], made["score"]
                yield proxy_annotation(annotation, mask, ignore, score, made["status"])

    def _without_teacher(self, annotation: Annotation, status: str) -> dict[str, Any]:
        image = self.images[annotation["image_id"]]
        own_mask = self.keep_true_masks and annotation.get("segmentation")
        ignore = None
        if status == "given" or (status == "crowd" and own_mask):
            mask = self._copy(annotation)
            if status == "given" and annotation.get("ignore_segmentation"):
                ignore = self._copy(annotation, "ignore_segmentation")
        else:
            box = xywh_to_xyxy(annotation["bbox"])
            mask = encode_box(box, image["height"], image["width"])
            ignore = None if status == "crowd" else mask
        return proxy_annotation(annotation, mask, ignore, float(status == "given"), status)

    def _copy(self, annotation: Annotation, key: str = "segmentation") -> RLE:
        image = self.images[annotation["image_id"]]
        label = f"{self.source.json_file}: annotation {annotation['id']}"
        return read_mask(annotation, key, (image["height"], image["width"]), label)


def read_provenance(path: Path) -> Any:
    """``info.wsis`` of a proxy-mask file, from its first line alone if wsis wrote it.

    Raises:
        DataError: not a COCO file.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            info = json.loads(stream.readline().rstrip().rstrip(",") + "}")["info"]
    except (OSError, ValueError, KeyError, TypeError):
        info = read_proxy_file(path).get("info")
    return info.get("wsis") if isinstance(info, dict) else None


def failed_images(path: Path) -> dict[ImageId, str]:
    """The images of a proxy-mask file that could not be read, each with what to say about it."""
    document = read_proxy_file(path)
    failed = {a["image_id"] for a in document["annotations"] if a.get("status") == "failed"}
    return {
        image["id"]: f"{image['file_name']}: could not be read"
        for image in document["images"]
        if image["id"] in failed
    }

"""What one dataset needs: which masks a teacher makes, what stands for the others, the final file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from wsis.data.dicts import to_dicts
from wsis.data.plausible import is_filled_box
from wsis.data.source import Annotation, CocoSource, Image
from wsis.engine.journal import Entry, ImageId, JournalIndex, find_journals, journal_path
from wsis.engine.label_folder import LabelFolder
from wsis.errors import WsisError, counted
from wsis.structures import RLE
from wsis.structures.boxes import xywh_to_xyxy
from wsis.structures.proxy_file import proxy_annotation, read_proxy_file, write_proxy_file
from wsis.structures.rle import encode_box, read_mask, rle_area


@dataclass(frozen=True, eq=False)
class ProxyJob:
    """The making of one proxy-mask file.

    Args:
        name: of the dataset.
        source: its data.
        folder: where journals and file go.
        class_agnostic: ``DATASETS.CLASS_AGNOSTIC``.
        keep_true_masks: ``PROXY.KEEP_TRUE_MASKS``.
        provenance: see :func:`wsis.engine.provenance.provenance`.
        no_pixel: annotations whose true mask has no pixel or is the box itself; the teacher makes theirs.
        label_names: semantic labels that the teacher makes.
    """

    name: str
    source: CocoSource
    folder: Path
    class_agnostic: bool
    keep_true_masks: bool
    provenance: dict[str, Any] = field(default_factory=dict)
    no_pixel: frozenset[int] = frozenset()
    label_names: tuple[str, ...] = ()

    @property
    def labels(self) -> LabelFolder:
        """Where semantic labels go."""
        folder = self.folder.parent / "pseudo_labels" / self.name
        return LabelFolder(folder, self.source.image_root, self.label_names)

    @property
    def path(self) -> Path:
        """The proxy-mask file."""
        return self.folder / f"{self.name}.json"

    @cached_property
    def images(self) -> dict[ImageId, Image]:
        """The source's images by id."""
        return {image["id"]: image for image in self.source.images}

    def check_true_masks(self) -> frozenset[int]:
        """Checks every mask that will be copied; returns the annotations whose mask has no pixel, or is the box itself.

        Raises:
            DataError: a mask is malformed.
        """
        if not self.keep_true_masks:
            return frozenset()
        return frozenset(
            annotation["id"]
            for annotation in self.source.annotations
            if annotation.get("segmentation")
            and (rle_area(self._copy(annotation)) == 0 or self._is_filled_box(annotation))
        )

    def _is_filled_box(self, annotation: Annotation) -> bool:
        image = self.images[annotation["image_id"]]
        return is_filled_box(annotation, image["height"], image["width"])

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

    def asked_ids(self, image_id: ImageId) -> list[int]:
        """Their ids."""
        return [annotation["id"] for annotation in self.asked(image_id)]

    def fits(self, image_id: ImageId, entry: Entry) -> bool:
        """Whether a journal's line is of an image of the source, and has all its masks."""
        if image_id not in self.images:
            return False
        made = [mask.get("id") for mask in entry.get("masks", [])]
        return "failed" in entry or made == self.asked_ids(image_id)

    def record(self, image: Image) -> dict[str, Any]:
        """Detectron2's standard dict of one image, with the asked annotations and no mask."""
        part = replace(self.source, images=[image], annotations=self.asked(image["id"]))
        return to_dicts(part, "box", self.class_agnostic)[0]

    def void(self, image_id: ImageId) -> list[RLE]:
        """Regions of objects that the teacher is not asked about: crowds and given masks."""
        return [
            self._without_teacher(annotation, status)["segmentation"]
            for annotation in self.source.annotations_of(image_id)
            if (status := self.status_without_teacher(annotation)) in ("crowd", "given")
        ]

    def read_journals(self, ranks: int = 0) -> JournalIndex:
        """The index of the dataset's journals.

        Args:
            ranks: journals of as many ranks are looked for by name; a network file system may list
                new files late.

        Raises:
            WsisError: see :class:`JournalIndex`.
        """
        paths = dict.fromkeys(find_journals(self.folder, self.name))
        paths.update(dict.fromkeys(journal_path(self.folder, self.name, r) for r in range(ranks)))
        return JournalIndex(paths, self.provenance, self.fits)

    def missing(self, index: JournalIndex) -> list[ImageId]:
        """The images that are in no journal."""
        return [i for i in self.images if i not in index.done and i not in index.failed]

    def named(self, failed: dict[ImageId, str]) -> dict[str, str]:
        """Unreadable images by path instead of id, in the source's order."""
        return {self.source.path_of(self.images[i]): failed[i] for i in self.images if i in failed}

    def write(self, index: JournalIndex) -> None:
        """Writes the proxy-mask file from the journals, in the source's order.

        Raises:
            WsisError: an image is in no journal, or its semantic label is gone.
            OSError: the file cannot be written.
        """
        missing = self.missing(index)
        if missing:
            raise WsisError(
                f"{self.folder}: the journals of {self.name} lack {len(missing)} of "
                f"{counted(len(self.images), 'image')}, the first is {missing[0]!r}; run again with --resume"
            )
        readable = (image for image in self.source.images if image["id"] not in index.failed)
        class_names = ["object"] if self.class_agnostic else self.source.class_names
        self.labels.finish(readable, self.provenance, class_names)
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

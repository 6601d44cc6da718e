"""What one dataset needs, whatever is made of it: journals, folders of labels and score maps, what is finished."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from wsis.data.build import Mapper
from wsis.data.dicts import to_dicts
from wsis.data.score_maps import ScoreMapReader
from wsis.data.source import Annotation, CocoSource, Image
from wsis.engine.journal import Entry, ImageId, JournalIndex, find_journals, journal_path
from wsis.engine.output_folders import LabelFolder, OutputFolder, ScoreMapFolder
from wsis.errors import DataError, WsisError, counted
from wsis.structures import RLE, ImageMaps, ScoreMaps
from wsis.structures.proxy_file import read_json
from wsis.structures.score_maps import provenance_digest


@dataclass(frozen=True, eq=False)
class Job(ABC):
    """The making of what a teacher makes of one dataset.

    Args:
        name: of the dataset.
        source: its data.
        folder: where journals go, and the proxy-mask file if there is one.
        class_agnostic: ``DATASETS.CLASS_AGNOSTIC``.
        readers: score maps of an earlier stage that the teacher reads, by name.
        label_names, map_names: semantic labels and score maps that the teacher makes.
        provenance: see :func:`wsis.engine.provenance.provenance`.
        no_pixel: what :meth:`check` returned.
        lost: what an unreadable image means for it, and several for them.
    """

    name: str
    source: CocoSource
    folder: Path
    class_agnostic: bool
    readers: Mapping[str, ScoreMapReader] = field(default_factory=dict)
    label_names: tuple[str, ...] = ()
    map_names: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    no_pixel: frozenset[int] = frozenset()

    lost: ClassVar[tuple[str, str]]

    @property
    @abstractmethod
    def path(self) -> Path:
        """The file that is there once the dataset is finished."""

    @property
    @abstractmethod
    def amount(self) -> str:
        """What a finished dataset has, counted."""

    def check(self) -> frozenset[int]:
        """Checks what the teacher needs of the source and of earlier stages.

        Returns:
            The annotations whose true mask has no pixel.

        Raises:
            DataError: something is not there or malformed.
        """
        for reader in self.readers.values():
            reader.check(self.source)
        return frozenset()

    def inputs(self, record: dict[str, Any], mapper: Mapper) -> dict[str, Any]:
        """What the teacher gets of an image, which :meth:`record` returned."""
        inputs = mapper(record)
        if self.readers:
            inputs["score_maps"] = {name: read(record) for name, read in self.readers.items()}
        return inputs

    @property
    def warning(self) -> str:
        """What is no mistake but may surprise, to be told before work; mostly nothing."""
        return ""

    @abstractmethod
    def record(self, image: Image) -> dict[str, Any]:
        """Detectron2's standard dict of one image, with no more in it than the teacher may see."""

    @abstractmethod
    def is_asked(self, record: dict[str, Any]) -> bool:
        """Whether an image, as :meth:`record` returns it, goes to the teacher."""

    @abstractmethod
    def read_provenance(self) -> Any:
        """What a finished dataset says that it was made with."""

    @abstractmethod
    def failed_before(self) -> dict[ImageId, str]:
        """The images that could not be read when the dataset was finished, each with what to say about it."""

    def asked(self, image_id: ImageId) -> list[Annotation]:
        """The annotations of an image of which the teacher makes a mask each."""
        return []

    def asked_ids(self, image_id: ImageId) -> list[int]:
        """Their ids."""
        return [annotation["id"] for annotation in self.asked(image_id)]

    def void(self, image_id: ImageId) -> list[RLE]:
        """Regions of objects that the teacher is not asked about."""
        return []

    @cached_property
    def folders(self) -> tuple[OutputFolder, ...]:
        """Where semantic labels and score maps go."""
        output, root = self.folder.parent, self.source.image_root
        made_with, values = provenance_digest(self.provenance), self.source.own_values
        return (
            LabelFolder(output / "pseudo_labels" / self.name, root, values, self.label_names),
            ScoreMapFolder(
                output / "score_maps" / self.name, root, values, self.map_names, made_with
            ),
        )

    @cached_property
    def images(self) -> dict[ImageId, Image]:
        """The source's images by id."""
        return {image["id"]: image for image in self.source.images}

    def write_nothing(self, path: str, image: Image) -> None:
        """Writes the labels and maps of an image that the teacher is not asked about: background, and no class."""
        size = image["height"], image["width"]
        label, maps = np.zeros(size, dtype=np.uint8), ScoreMaps.of_nothing(*size)
        made = ImageMaps(
            dict.fromkeys(self.label_names, label), dict.fromkeys(self.map_names, maps)
        )
        for folder in self.folders:
            if folder.names:
                folder.write(path, made, self.void(image["id"]))

    def fits(self, image_id: ImageId, entry: Entry) -> bool:
        """Whether a journal's line is of an image of the source, and has all its masks."""
        if image_id not in self.images:
            return False
        made = [mask.get("id") for mask in entry.get("masks", [])]
        return "failed" in entry or made == self.asked_ids(image_id)

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
        """Writes what stands at the end, in the source's order.

        Raises:
            WsisError: an image is in no journal, or its label or score map is gone.
            OSError: a file cannot be written.
        """
        missing = self.missing(index)
        if missing:
            raise WsisError(
                f"{self.folder}: the journals of {self.name} lack {len(missing)} of "
                f"{counted(len(self.images), 'image')}, the first is {missing[0]!r}; run again with --resume"
            )
        readable = [image for image in self.source.images if image["id"] not in index.failed]
        own = replace(self.source, classes=()).class_names
        class_names = ["object"] if self.class_agnostic else own
        for folder in self.folders:
            folder.finish(readable, self.provenance, class_names)


@dataclass(frozen=True, eq=False)
class TagJob(Job):
    """The making of labels and score maps of images with tags; finished once the last manifest is there.

    Args:
        needs_tags: whether the teacher must be told the tags.
    """

    needs_tags: bool = True

    lost = "nothing was made of it", "nothing was made of them"

    @property
    def path(self) -> Path:
        """See :attr:`Job.path`."""
        return [folder.manifest for folder in self.folders if folder.names][-1]

    @property
    def amount(self) -> str:
        """See :attr:`Job.amount`."""
        return counted(len(self.source.images), "image")

    @cached_property
    def _without_tags(self) -> int:
        records = to_dicts(self.source, "image", self.class_agnostic)
        return sum(not self.is_asked(record) for record in records)

    def check(self) -> frozenset[int]:
        """See :meth:`Job.check`: at least one image must have a tag, if the teacher needs any."""
        if self._without_tags == len(self.source.images):
            raise DataError(
                f"{self.source.json_file}: none of {counted(len(self.source.images), 'image')} has a tag, expected key "
                "'image_labels' in an image, or an annotation with a 'category_id'"
            )
        return super().check()

    @property
    def warning(self) -> str:
        """See :attr:`Job.warning`: images without tags."""
        without = counted(self._without_tags, "image")
        text = f"{self.source.json_file}: {without} without tags: background in labels, no class in score maps"
        return text if self._without_tags else ""

    def record(self, image: Image) -> dict[str, Any]:
        """See :meth:`Job.record`: one annotation per tag, and no box."""
        annotations = self.source.annotations_of(image["id"])
        part = replace(self.source, images=[image], annotations=annotations)
        return to_dicts(part, "image", self.class_agnostic)[0]

    def is_asked(self, record: dict[str, Any]) -> bool:
        """See :meth:`Job.is_asked`."""
        return bool(record["image_labels"]) or not self.needs_tags

    def read_provenance(self) -> Any:
        """See :meth:`Job.read_provenance`."""
        manifest = read_json(self.path)
        return manifest.get("wsis") if isinstance(manifest, dict) else None

    def failed_before(self) -> dict[ImageId, str]:
        """See :meth:`Job.failed_before`: those of which a file is not there."""
        return {
            image["id"]: f"{image['file_name']}: could not be read"
            for image in self.source.images
            for folder in self.folders
            if not all(path.exists() for path in folder.paths(image["file_name"]).values())
        }

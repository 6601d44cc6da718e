"""Pseudo labels and score maps of one dataset, one file per image, written while the dataset is worked through."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from wsis.data.source import CocoSource, Image
from wsis.errors import DataError, WsisError
from wsis.structures import RLE, ImageMaps, ProxyMasks
from wsis.structures.proxy_file import remove_torn
from wsis.structures.pseudo_labels import (
    IGNORE,
    MANIFEST,
    label_path,
    name_in_source,
    write_label,
    write_manifest,
)
from wsis.structures.rle import decode_mask
from wsis.structures.score_maps import KIND, SUFFIX, write_score_maps


@dataclass(frozen=True)
class OutputFolder(ABC):
    """Where the maps of one kind of one dataset go; picklable, without its data.

    Attributes:
        folder: of the dataset.
        image_root: folder that the images' names are relative to.
        values: on disk of each value that the teacher gives a class, see
            :attr:`wsis.data.source.CocoSource.own_values`.
        names: of the maps that the teacher makes; without any, nothing is written.
        kind: the manifest's key for the names.
        suffix: of a file.
        noun: what a file is called.
    """

    folder: Path
    image_root: str
    values: tuple[int, ...]
    names: tuple[str, ...] = ()

    kind: ClassVar[str]
    suffix: ClassVar[str]
    noun: ClassVar[str]

    @property
    def manifest(self) -> Path:
        """The file that says what the folder holds, written at the end."""
        return self.folder / MANIFEST

    def paths(self, file_name: str) -> dict[str, Path]:
        """Name of a map to its place for an image."""
        return {name: label_path(self.folder, name, file_name, self.suffix) for name in self.names}

    def all_paths(self, images: Iterable[Image]) -> Iterator[Path]:
        """The places of all maps of these images."""
        return itertools.chain.from_iterable(
            self.paths(image["file_name"]).values() for image in images
        )

    def check(self, source: CocoSource) -> None:
        """Checks that each image has a place of its own.

        Raises:
            DataError: two images would share a file, or one would lie outside the folder.
        """
        owners: dict[Path, str] = {}
        for name in [image["file_name"] for image in source.images]:
            for path in self.paths(name).values():
                if owners.setdefault(path, name) is not name:
                    raise DataError(
                        f"{source.json_file}: images {owners[path]!r} and {name!r} would have the same {self.noun}; "
                        "their names must differ in more than the suffix"
                    )

    def remove_torn(self, source: CocoSource) -> None:
        """Removes what runs that were killed have left half-written; no other run may be at work here."""
        if self.names:
            remove_torn(self.manifest, *self.all_paths(source.images))

    def write(self, image: str, made: ProxyMasks | ImageMaps, void: Sequence[RLE] = ()) -> None:
        """Writes the maps of one image.

        Args:
            image: its path, the root included.
            made: what the teacher made of it.
            void: regions of which the teacher knew nothing.

        Raises:
            WsisError: the maps have other names than the teacher's.
        """
        maps = self.maps_of(made)
        if sorted(maps) != sorted(self.names):
            raise WsisError(
                f"{image}: the teacher made {self.noun}s {sorted(maps)}, expected {sorted(self.names)}"
            )
        if maps:
            file_name = name_in_source(image, self.image_root)
            unknown = [decode_mask(code) for code in void]
            for name, path in self.paths(file_name).items():
                self.write_one(path, maps[name], file_name, unknown)

    @abstractmethod
    def maps_of(self, made: ProxyMasks | ImageMaps) -> Mapping[str, Any]:
        """Those of this kind, by name."""

    @abstractmethod
    def write_one(self, path: Path, item: Any, file_name: str, unknown: list[np.ndarray]) -> None:
        """Writes one map.

        Args:
            path: of its file.
            item: the map.
            file_name: of its image, as in the source.
            unknown: (H, W) bool regions of which the teacher knew nothing.
        """

    def finish(
        self, images: Iterable[Image], provenance: dict[str, Any], class_names: Sequence[str]
    ) -> None:
        """Writes the manifest.

        Args:
            images: all that could be read.
            provenance: see :func:`wsis.engine.provenance.provenance`.
            class_names: by value on disk.

        Raises:
            WsisError: the file of an image is not there.
        """
        for path in self.all_paths(images):
            if not path.exists():
                raise WsisError(
                    f"{path}: this {self.noun} is gone; delete the journals of {self.folder.name} to start anew"
                )
        if self.names:
            write_manifest(self.folder, provenance, self.names, class_names, self.kind)


@dataclass(frozen=True)
class LabelFolder(OutputFolder):
    """``OUTPUT_DIR/pseudo_labels/<dataset>``; in regions of which the teacher knew nothing background becomes 255."""

    kind = "labels"
    suffix = ".png"
    noun = "pseudo label"

    def maps_of(self, made: ProxyMasks | ImageMaps) -> Mapping[str, np.ndarray]:
        """See :meth:`OutputFolder.maps_of`."""
        return made.sem_seg

    def write_one(self, path: Path, item: Any, file_name: str, unknown: list[np.ndarray]) -> None:
        """See :meth:`OutputFolder.write_one`."""
        if unknown:
            item = np.where((item == 0) & np.any(unknown, axis=0), IGNORE, item)
        values = np.arange(IGNORE + 1, dtype=np.uint8)
        own = np.array(self.values[:IGNORE])
        values[: len(own)] = np.where(own < 0, IGNORE, own)
        write_label(path, values[item])


@dataclass(frozen=True)
class ScoreMapFolder(OutputFolder):
    """``OUTPUT_DIR/score_maps/<dataset>``.

    Attributes:
        made_with: see :func:`wsis.structures.score_maps.provenance_digest`.
    """

    made_with: str = ""

    kind = KIND
    suffix = SUFFIX
    noun = "score map"

    def maps_of(self, made: ProxyMasks | ImageMaps) -> Mapping[str, Any]:
        """See :meth:`OutputFolder.maps_of`."""
        return made.score_maps

    def write_one(self, path: Path, item: Any, file_name: str, unknown: list[np.ndarray]) -> None:
        """See :meth:`OutputFolder.write_one`."""
        values = np.array(self.values)[item.classes]
        order = np.argsort(values)[int((values < 0).sum()) :]
        maps = replace(item, classes=values[order], scores=item.scores[order])
        write_score_maps(path, maps, file_name, self.made_with)

"""The semantic pseudo labels of one dataset, written while its proxy masks are made."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsis.data.source import CocoSource, Image
from wsis.errors import DataError, WsisError
from wsis.structures import RLE
from wsis.structures.proxy_file import remove_torn
from wsis.structures.pseudo_labels import IGNORE, MANIFEST, label_path, write_label, write_manifest
from wsis.structures.rle import decode_mask


@dataclass(frozen=True)
class LabelFolder:
    """Where the labels of one dataset go; picklable, without its data.

    Attributes:
        folder: ``OUTPUT_DIR/pseudo_labels/<dataset>``.
        image_root: folder that the images' names are relative to.
        names: of the labels that the teacher makes; without any, nothing is written.
    """

    folder: Path
    image_root: str
    names: tuple[str, ...] = ()

    def paths(self, file_name: str) -> dict[str, Path]:
        """Label name to the place of an image's label."""
        return {name: label_path(self.folder, name, file_name) for name in self.names}

    def check(self, source: CocoSource) -> None:
        """Checks that each image has a place of its own.

        Raises:
            DataError: two images would share a label, or one would lie outside the folder.
        """
        owners: dict[Path, str] = {}
        for name in [image["file_name"] for image in source.images]:
            for path in self.paths(name).values():
                if owners.setdefault(path, name) is not name:
                    raise DataError(
                        f"{source.json_file}: images {owners[path]!r} and {name!r} would have the same pseudo label; "
                        "their names must differ in more than the suffix"
                    )

    def remove_torn(self, source: CocoSource) -> None:
        """Removes what runs that were killed have left half-written; no other run may be at work here."""
        if self.names:
            labels = (self.paths(image["file_name"]).values() for image in source.images)
            remove_torn(self.folder / MANIFEST, *itertools.chain.from_iterable(labels))

    def write(self, image: str, labels: Mapping[str, np.ndarray], void: Sequence[RLE] = ()) -> None:
        """Writes the labels of one image.

        Args:
            image: its path, the root included.
            labels: name to (H, W) uint8.
            void: regions of which the teacher knew nothing; background there becomes 255.

        Raises:
            WsisError: the labels have other names than the teacher's.
        """
        if tuple(sorted(labels)) != tuple(sorted(self.names)):
            raise WsisError(
                f"{image}: the teacher made semantic maps {sorted(labels)}, expected {sorted(self.names)}"
            )
        file_name = os.path.relpath(image, self.image_root) if self.image_root else image
        unknown = [decode_mask(code) for code in void if labels]
        for name, path in self.paths(file_name).items():
            label = labels[name]
            if unknown:
                label = np.where((label == 0) & np.any(unknown, axis=0), IGNORE, label)
            write_label(path, label)

    def write_background(self, path: str, image: Image, void: Sequence[RLE]) -> None:
        """Writes the labels of an image without boxes."""
        nothing = np.zeros((image["height"], image["width"]), dtype=np.uint8)
        self.write(path, dict.fromkeys(self.names, nothing), void)

    def finish(
        self, images: Iterable[Image], provenance: dict[str, Any], class_names: Sequence[str]
    ) -> None:
        """Writes the manifest.

        Args:
            images: all that could be read.
            provenance: see :func:`wsis.engine.provenance.provenance`.
            class_names: in the order of the contiguous index.

        Raises:
            WsisError: the label of an image is not there.
        """
        if not self.names:
            return
        for path in itertools.chain(*(self.paths(i["file_name"]).values() for i in images)):
            if not path.exists():
                raise WsisError(
                    f"{path}: this pseudo label is gone; delete the journals of {self.folder.name} to start anew"
                )
        write_manifest(self.folder, provenance, self.names, class_names)

"""Score maps that an earlier stage made, read by a later one, see ``docs/score_maps.md``."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from wsis.data.build import dataset_source
from wsis.data.labels import check_label_classes, read_manifest
from wsis.data.registration import score_map_folders
from wsis.data.source import CocoSource
from wsis.errors import ConfigError, DataError
from wsis.structures import ScoreMaps
from wsis.structures.pseudo_labels import MANIFEST, label_path, name_in_source
from wsis.structures.score_maps import (
    KIND,
    SUFFIX,
    ScoreMapHeader,
    provenance_digest,
    read_header,
    read_score_maps,
)


@dataclass(frozen=True)
class ScoreMapReader:
    """Reads the score maps of one folder; picklable.

    Args:
        folder: of the ``.npz`` files.
        image_root: folder that the images' names are relative to.
        made_with: by all of them, see :func:`wsis.structures.score_maps.provenance_digest`.
    """

    folder: str
    image_root: str
    made_with: str

    def __call__(self, record: dict[str, Any]) -> ScoreMaps:
        """The maps of an image.

        Args:
            record: with ``file_name`` (its path, the root included), ``height`` and ``width``.

        Raises:
            DataError: the file is missing or cut off, or of another image, size, data set, weights or settings.
        """
        name = name_in_source(record["file_name"], self.image_root)
        return read_score_maps(*self._file(name, record["height"], record["width"]))

    def check(self, source: CocoSource) -> None:
        """Checks that every image has its own maps, made by one run, without reading scores.

        Args:
            source: the images.

        Raises:
            DataError: the first one that has not.
        """

        def check(image: dict[str, Any]) -> None:
            path, expected = self._file(image["file_name"], image["height"], image["width"])
            read_header(path).check(expected, path)

        with ThreadPoolExecutor(max_workers=8) as pool:
            for _ in pool.map(check, source.images, chunksize=64):
                pass

    def _file(self, name: str, height: int, width: int) -> tuple[Path, ScoreMapHeader]:
        """Where the maps of an image lie, and what the file must say of itself."""
        path = label_path(self.folder, "", name, SUFFIX)
        return path, ScoreMapHeader(name, (height, width), self.made_with)


def score_map_reader(cfg: CfgNode, dataset: str, name: str) -> ScoreMapReader:
    """The reader of the maps that ``DATASETS.CUSTOM_SCORE_MAPS`` gives a dataset.

    Args:
        cfg: after :func:`wsis.data.registration.prepare_datasets`.
        dataset: its name.
        name: of the maps.

    Raises:
        ConfigError: it has no maps of this name.
        ConfigError, DataError: see :func:`open_score_maps`.
    """
    folders = score_map_folders(cfg, dataset)
    if name not in folders:
        raise ConfigError(
            f"DATASETS.CUSTOM_SCORE_MAPS: dataset {dataset!r} has no score maps {name!r}, found "
            f"{', '.join(folders) or 'none'}; add ['{dataset}', '{name}', FOLDER]"
        )
    source = dataset_source(cfg, dataset)
    class_names = ["object"] if cfg.DATASETS.CLASS_AGNOSTIC else source.class_names
    return open_score_maps(source, folders[name], class_names)


def open_score_maps(
    source: CocoSource,
    folder: str | os.PathLike[str],
    class_names: list[str],
    *,
    same_source: bool = True,
) -> ScoreMapReader:
    """The reader of a folder of score maps, of which its manifest alone is looked at; :meth:`ScoreMapReader.check`
    looks at the files.

    Args:
        source: the images.
        folder: of the ``.npz`` files.
        class_names: of the data set, without background.
        same_source: the maps must be made for this very file; False for another one of the same images, such as one
            with true masks.

    Raises:
        ConfigError: there is no such folder, or no manifest beside it names it.
        DataError: its maps are of other classes or another data set.
    """
    if not os.path.isdir(folder):
        raise ConfigError(f"{folder}: no such folder of score maps (for {source.json_file})")
    manifest, path = read_manifest(folder, KIND), Path(folder).parent / MANIFEST
    if manifest is None or not isinstance(manifest.get("wsis"), dict):
        raise ConfigError(
            f"{folder}: no {MANIFEST} beside this folder names it among its {KIND}; expected one that "
            "tools/generate_proxy_masks.py has finished"
        )
    check_label_classes(folder, ["background", *class_names], KIND)
    made_for = manifest["wsis"].get("source_sha256")
    if same_source and made_for != source.sha256:
        raise DataError(
            f"{path}: key 'source_sha256': the score maps are of another data set than {source.json_file}: found "
            f"{made_for!r}, expected {source.sha256!r}; make them for this file"
        )
    return ScoreMapReader(os.fspath(folder), source.image_root, provenance_digest(manifest["wsis"]))

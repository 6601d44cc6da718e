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
    ScoreMapHeader,
    provenance_digest,
    read_header,
    read_score_maps,
)

KIND = "score_maps"
"""The key of a manifest that names score maps."""


@dataclass(frozen=True)
class ScoreMapReader:
    """Reads the score maps of one folder; picklable.

    Args:
        folder: of the ``.npz`` files.
        image_root: folder that the images' names are relative to.
        made_with: the folder's digest, see :func:`check_score_maps`. What reads the maps in a generation has it in
            :attr:`wsis.modeling.teacher.Maker.inputs_sha256` under ``DATASETS.CUSTOM_SCORE_MAPS``.
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
        size = record["height"], record["width"]
        path = label_path(self.folder, "", name, ".npz")
        return read_score_maps(path, ScoreMapHeader(name, size, self.made_with))


def score_map_reader(cfg: CfgNode, dataset: str, name: str) -> ScoreMapReader:
    """The reader of the maps that ``DATASETS.CUSTOM_SCORE_MAPS`` gives a dataset; checks them first.

    Args:
        cfg: after :func:`wsis.data.registration.prepare_datasets`.
        dataset: its name.
        name: of the maps.

    Raises:
        ConfigError: it has no maps of this name, or they are not a teacher's.
        DataError: see :func:`check_score_maps`.
    """
    folders = score_map_folders(cfg, dataset)
    if name not in folders:
        raise ConfigError(
            f"DATASETS.CUSTOM_SCORE_MAPS: dataset {dataset!r} has no score maps {name!r}, found "
            f"{', '.join(folders) or 'none'}; add ['{dataset}', '{name}', FOLDER]"
        )
    source = dataset_source(cfg, dataset)
    class_names = ["object"] if cfg.DATASETS.CLASS_AGNOSTIC else source.class_names
    made_with = check_score_maps(source, folders[name], class_names)
    return ScoreMapReader(folders[name], source.image_root, made_with)


def check_score_maps(
    source: CocoSource,
    folder: str | os.PathLike[str],
    class_names: list[str],
    *,
    same_source: bool = True,
) -> str:
    """Checks that a teacher made the score maps of a folder, for these classes and this data set, that every image has
    one, and that all were made by one run; reads no scores.

    Args:
        source: the images.
        folder: of the ``.npz`` files.
        class_names: of the data set, without background.
        same_source: the maps must be made for this very file; False for another one of the same images, such as one
            with true masks.

    Returns:
        What the maps were made with, see :func:`wsis.structures.score_maps.provenance_digest`.

    Raises:
        ConfigError: there is no such folder, or no manifest beside it names it.
        DataError: they are of other classes, another data set or several runs, or an image has none of its own.
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
    made_with = provenance_digest(manifest["wsis"])

    def check(image: dict[str, Any]) -> None:
        place = label_path(folder, "", image["file_name"], ".npz")
        size = image["height"], image["width"]
        read_header(place).check(ScoreMapHeader(image["file_name"], size, made_with), place)

    with ThreadPoolExecutor(max_workers=8) as pool:
        for _ in pool.map(check, source.images, chunksize=64):
            pass
    return made_with

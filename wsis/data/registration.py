"""Datasets by name: the user's own from the config, the builtin ones, and Detectron2's; all read lazily."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from wsis.data.builtin_paths import BUILTIN, BUILTIN_SEM_SEG, datasets_root
from wsis.data.classes import Categories, brief, categories_of, matched, names_of
from wsis.data.dicts import check_supervision, source_from_dicts, to_dicts
from wsis.data.handover import read_shared, write_shared
from wsis.data.source import CocoSource, load_source
from wsis.errors import ConfigError, DataError, counted
from wsis.structures.pseudo_labels import IGNORE, label_path


class _Place(NamedTuple):
    """Where a dataset lies; ``labels``: label name to folder, of a semantic one."""

    json_file: str
    image_root: str
    labels: dict[str, str]


_places: dict[str, _Place] = {}
_sources: dict[str, CocoSource] = {}
_locations: dict[str, tuple[str, str] | None] = {}
"""Where a source was read from."""
_views: dict[str, CocoSource] = {}
"""What a run takes of a source: without images that cannot be used, with the classes of the run."""


def register_dataset(
    name: str, json_file: str, image_root: str, labels: Mapping[str, str] | None = None
) -> None:
    """Registers a COCO JSON file under a name, in Detectron2's catalogs too; read when it is used.

    Args:
        name: of the dataset.
        json_file: of a semantic dataset its categories, by ascending id, are the values 1, 2, ... of the labels;
            0 = background, 255 = void.
        image_root: folder of the images.
        labels: makes it a semantic dataset, of the images and label maps of them: label name to folder; a label has
            the name of its image with the suffix .png. The first one is ``sem_seg_file_name`` in Detectron2's dicts.

    Raises:
        ConfigError: the name belongs to a dataset that something else registered.
    """
    place = _Place(json_file, image_root, dict(labels or {}))
    if is_taken(name) and _places.get(name) != place:
        key = "DATASETS.CUSTOM_SEM_SEG" if labels else "DATASETS.CUSTOM"
        raise ConfigError(
            f"{key}: the name {name!r} is taken by another dataset; choose another name"
        )
    _register(name, place)


def is_taken(name: str) -> bool:
    """Whether it is a builtin dataset's name, or one that something else than wsis has registered."""
    builtin = name in BUILTIN or name in BUILTIN_SEM_SEG
    return builtin or (name in DatasetCatalog.list() and name not in _places)


def _register(name: str, place: _Place) -> None:
    if _places.get(name) == place:
        return
    if name in DatasetCatalog.list():
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)
    _views.pop(name, None)
    _places[name] = place
    metadata = MetadataCatalog.get(name)
    metadata.set(image_root=place.image_root)
    if place.labels:
        DatasetCatalog.register(name, lambda: _semantic_dicts(name))
        first = next(iter(place.labels.values()))
        metadata.set(sem_seg_root=first, evaluator_type="sem_seg", ignore_label=IGNORE)
    else:
        DatasetCatalog.register(name, lambda: to_dicts(get_source(name, bad_box="skip")))
        metadata.set(json_file=place.json_file, evaluator_type="coco")


def _semantic_dicts(name: str) -> list[dict[str, Any]]:
    source = get_source(name, bad_box="skip", need_boxes=False)
    MetadataCatalog.get(name).set(stuff_classes=["background", *source.class_names])
    records = to_dicts(source, "image")
    folder = next(iter(label_folders(name).values()))
    for record, image in zip(records, source.images, strict=True):
        record["sem_seg_file_name"] = str(label_path(folder, "", image["file_name"]))
    return records


def label_folders(name: str) -> dict[str, str]:
    """Label name to folder of a semantic dataset; empty for any other one."""
    return _places[name].labels if name in _places else {}


def register_builtin() -> None:
    """Registers the builtin names. Their folders need not exist until a name is used."""
    root = datasets_root()
    for name, (json_file, image_root, labels) in {
        **{name: (*paths, {}) for name, paths in BUILTIN.items()},
        **BUILTIN_SEM_SEG,
    }.items():
        folders = {label: os.path.join(root, folder) for label, folder in labels.items()}
        paths = os.path.join(root, json_file), os.path.join(root, image_root)
        _register(name, _Place(*paths, folders))


def register_custom(cfg: CfgNode) -> None:
    """Registers ``DATASETS.CUSTOM`` and ``DATASETS.CUSTOM_SEM_SEG``, and checks ``DATASETS.CUSTOM_SCORE_MAPS``.

    Raises:
        ConfigError: an entry has another form, or its name is taken.
    """
    score_map_folders(cfg, "")
    names = set()
    for key, expected in (
        ("CUSTOM", "[name, JSON file, image folder]"),
        ("CUSTOM_SEM_SEG", "[name, JSON file, image folder, {label name: PNG folder}]"),
    ):
        for entry in cfg.DATASETS[key]:
            if not _is_entry(entry, 3 + (key == "CUSTOM_SEM_SEG")):
                raise ConfigError(f"DATASETS.{key}: found {entry!r}, expected {expected}")
            name, json_file, image_root = entry[:3]
            if name in names:
                raise ConfigError(
                    f"DATASETS.{key}: the name {name!r} stands for two datasets; give each its own name"
                )
            names.add(name)
            labels = entry[3] if len(entry) > 3 else {}
            folders = {label: os.path.expanduser(folder) for label, folder in labels.items()}
            json_file, image_root = os.path.expanduser(json_file), os.path.expanduser(image_root)
            register_dataset(name, json_file, image_root, folders)


def score_map_folders(cfg: CfgNode, name: str) -> dict[str, str]:
    """Map name to folder of the score maps that ``DATASETS.CUSTOM_SCORE_MAPS`` gives a dataset.

    Raises:
        ConfigError: an entry has another form, or a name of a map stands for two folders.
    """
    folders: dict[tuple[str, str], str] = {}
    for entry in cfg.DATASETS.CUSTOM_SCORE_MAPS:
        if not _is_entry(entry, 3):
            raise ConfigError(
                f"DATASETS.CUSTOM_SCORE_MAPS: found {entry!r}, expected [dataset, map name, folder of .npz files]"
            )
        dataset, map_name, folder = entry
        if (dataset, map_name) in folders:
            raise ConfigError(
                f"DATASETS.CUSTOM_SCORE_MAPS: the name {map_name!r} stands for two folders of {dataset!r}"
            )
        folders[dataset, map_name] = os.path.expanduser(folder)
    return {map_name: folder for (owner, map_name), folder in folders.items() if owner == name}


def _is_entry(entry: Any, length: int) -> bool:
    """Whether it is three texts, and a mapping of texts to texts where a fourth part is expected."""
    if not isinstance(entry, list | tuple) or len(entry) != length:
        return False
    labels = entry[3] if length == 4 else {"": ""}
    texts = [*entry[:3], *labels, *labels.values()] if isinstance(labels, dict) and labels else [0]
    return all(isinstance(text, str) for text in texts)


def get_source(name: str, *, bad_box: str = "error", need_boxes: bool = True) -> CocoSource:
    """The source behind a dataset name, read once, whose boxes are as wanted.

    Datasets that others registered are read from their JSON file if Detectron2's metadata names one, so that no mask
    of it has passed through other code, else made from their dicts.

    Args:
        name: of the dataset.
        bad_box, need_boxes: see :meth:`wsis.data.source.CocoSource.check_boxes`.

    Raises:
        ConfigError: no dataset has this name.
        DataError: see :func:`wsis.data.source.load_source`.
    """
    location = _location(name)
    place = location and (os.path.abspath(location[0]), os.path.abspath(location[1]))
    if name not in _sources or _locations.get(name) != place:  # others may name another file
        _views.pop(name, None)
        _sources[name], _locations[name] = _read(name, location), place
    return _views.get(name, _sources[name]).check_boxes(bad_box, need_boxes)


def hand_over(folder: Path) -> None:
    """Writes the files that were read into a folder, for processes that :func:`take_over` them there instead of reading
    each by itself.
    """
    read = {name: source for name, source in _sources.items() if _locations.get(name) is not None}
    write_shared((read, {name: _locations[name] for name in read}), folder)


def take_over(folder: Path) -> None:
    """See :func:`hand_over`."""
    sources, locations = read_shared(folder)
    _sources.update(sources)
    _locations.update(locations)


def leave_out(name: str, image_ids: Collection[int | str]) -> None:
    """Takes images out of a dataset until it is prepared for another run."""
    _views[name] = get_source(name, bad_box="later", need_boxes=False).without_images(image_ids)


def _location(name: str) -> tuple[str, str] | None:
    """JSON file and image folder of a dataset; None where it has no such file."""
    if name not in DatasetCatalog.list():
        known = ", ".join(sorted(_places))
        raise ConfigError(
            f"DATASETS: no dataset is named {name!r}; known here: {known}; add yours by --json or DATASETS.CUSTOM"
        )
    if name in _places:
        return _places[name][:2]
    metadata = MetadataCatalog.get(name)
    if metadata.get("evaluator_type", "coco") == "coco" and metadata.get("json_file"):
        return metadata.json_file, metadata.get("image_root", "")
    return None


def _read(name: str, location: tuple[str, str] | None) -> CocoSource:
    """The source behind a dataset name; any boxes will do."""
    if location is not None:
        return load_source(*location, bad_box="later", need_boxes=False)
    dicts = DatasetCatalog.get(name)
    return source_from_dicts(name, dicts, list(MetadataCatalog.get(name).get("thing_classes", [])))


def prepare_datasets(cfg: CfgNode, names: Iterable[str], trained: Categories | None = None) -> None:
    """Makes the named datasets ready: registers ``DATASETS.CUSTOM``, reads and checks the files, matches their classes
    by name, sets Detectron2's metadata, and fills in every ``NUM_CLASSES`` that is 0.

    Args:
        cfg: not frozen; its class numbers are changed in place.
        names: datasets that the run will use.
        trained: the classes of the run's weights; None = those of the first dataset.

    Raises:
        ConfigError: no such dataset, datasets of different classes, or a class number that contradicts them.
        DataError: a file is wrong.
    """
    register_custom(cfg)
    for key in ("BAD_BOX", "BAD_IMAGE"):
        if cfg.DATASETS[key] not in ("error", "skip"):
            raise ConfigError(
                f"DATASETS.{key}: found {cfg.DATASETS[key]!r}, expected error or skip"
            )
    check_supervision(cfg.WSIS.SUPERVISION)
    need_boxes = cfg.WSIS.SUPERVISION != "image"
    agnostic = cfg.DATASETS.CLASS_AGNOSTIC
    expected, owner = trained, "the weights"
    for name in dict.fromkeys(names):
        training = name in cfg.DATASETS.TRAIN
        _views.pop(name, None)
        source = get_source(
            name,
            bad_box=cfg.DATASETS.BAD_BOX if training else "skip",
            need_boxes=need_boxes,
        )
        if training and cfg.WSIS.SUPERVISION == "proxy":
            source = _without_failed(source)
        if expected is None:
            expected, owner = categories_of(source, agnostic), f"dataset {name!r}"
        elif not agnostic:
            source = _with_classes(name, source, expected, owner, training and trained is None)
        _views[name] = source
        _set_metadata(name, source, ["object"] if agnostic else source.class_names, agnostic)
    if expected is None:
        return
    number = len(expected)
    for head, more in (("ROI_HEADS", 0), ("POINT_HEAD", 0), ("RETINANET", 0), ("SEM_SEG_HEAD", 1)):
        _resolve(cfg.MODEL[head], f"MODEL.{head}", number + more, owner)


def _with_classes(
    name: str, source: CocoSource, expected: Categories, owner: str, need_all: bool
) -> CocoSource:
    """The source with the classes of the run, found by name.

    Args:
        name: of the dataset.
        source: its data.
        expected: the classes of the run, which are those of ``owner``.
        need_all: no class may be missing, as in training: nothing would be learnt of it.

    Raises:
        ConfigError: the classes are others, or the values of label maps have another order.
    """
    found, wanted = source.class_names, names_of(expected)
    own = matched(source, expected)
    there = {category["name"] for category in source.categories}
    if own is None or (need_all and not there.issuperset(own.class_names)):
        other = sorted({*found} ^ {*wanted})
        differs = f", of which not both have {brief(other)}" if other else ""
        raise ConfigError(
            f"DATASETS: {name!r} has {counted(len(found), 'class', 'classes')} ({brief(found)}), {owner} "
            f"{len(wanted)} ({brief(wanted)}){differs}; all datasets of a run need the same classes: give their files "
            "the same list of categories, or set DATASETS.CLASS_AGNOSTIC True"
        )
    if own is not source:
        if label_folders(name):
            raise ConfigError(
                f"DATASETS: {name!r} has its classes ({brief(found)}) in another order than {owner} ({brief(wanted)}); "
                "label maps go by their order: give the categories the same ids"
            )
        source.tell(
            f"its classes ({brief(found)}) are matched by name with those of {owner} ({brief(wanted)})"
        )
    return own


def _without_failed(source: CocoSource) -> CocoSource:
    """A proxy-mask file without the images that could not be read when it was made.

    Raises:
        DataError: none could.
    """
    failed: set[int | str] = set()
    fine: set[int | str] = set()
    table = source.table
    if not table.has("status").any():
        return source
    for annotation in table:
        (failed if annotation.get("status") == "failed" else fine).add(annotation["image_id"])
    failed -= fine
    if not failed:
        return source
    images = counted(len(failed), "image", "images")
    text = f"{images} could not be read when the masks were made (status failed)"
    if not fine:
        raise DataError(f"{source.json_file}: {text}, and no other has an object; make them anew")
    source.tell(f"{text}: left out of training; mend them and generate with --resume to have them")
    return source.without_images(failed)


def _resolve(node: CfgNode, key: str, number: int, name: str) -> None:
    if node.NUM_CLASSES not in (0, number):
        raise ConfigError(
            f"{key}.NUM_CLASSES: found {node.NUM_CLASSES}, but {name} needs {number}; leave it 0 to follow the dataset"
        )
    node.NUM_CLASSES = number


def _set_metadata(name: str, source: CocoSource, class_names: list[str], agnostic: bool) -> None:
    values: dict[str, Any] = {
        "thing_classes": class_names,
        "thing_dataset_id_to_contiguous_id": {
            c: 0 if agnostic else i for c, i in source.id_to_contiguous.items()
        },
    }
    metadata = MetadataCatalog.get(name)
    if any(metadata.get(key, value) != value for key, value in values.items()):
        if name not in _places:
            raise ConfigError(
                f"DATASETS: {name!r} was registered with other classes than its file has"
            )
        keep = metadata.as_dict()
        MetadataCatalog.pop(name)
        metadata = MetadataCatalog.get(name)
        metadata.set(**{k: v for k, v in keep.items() if k not in values and k != "name"})
    metadata.set(**values)

"""Datasets by name: from the config, builtin, and registered by others."""

from __future__ import annotations

import json
import uuid

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from wsis.config import get_cfg
from wsis.data.builtin_paths import BUILTIN, BUILTIN_SEM_SEG
from wsis.data.registration import (
    get_source,
    prepare_datasets,
    register_builtin,
    register_custom,
)
from wsis.errors import ConfigError, DataError


def write(tmp_path, name="a.json", categories=((7, "cell"), (3, "dust")), **annotation):
    document = {
        "images": [{"id": 1, "file_name": "a.png", "height": 10, "width": 12}],
        "categories": [{"id": i, "name": n} for i, n in categories],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": categories[0][0], "bbox": [1, 2, 3, 4]}
        ],
    }
    document["annotations"][0].update(annotation)
    (tmp_path / name).write_text(json.dumps(document))
    return str(tmp_path / name)


@pytest.fixture
def name():
    return f"test_{uuid.uuid4().hex}"


def config(tmp_path, *entries, **keys):
    cfg = get_cfg()
    cfg.DATASETS.CUSTOM = [list(entry) for entry in entries]
    cfg.DATASETS.TRAIN = tuple(entry[0] for entry in entries)
    for key, value in keys.items():
        cfg.DATASETS[key] = value
    return cfg


def test_classes_and_their_number_come_from_the_file(tmp_path, name):
    cfg = config(tmp_path, (name, write(tmp_path), str(tmp_path)))
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2
    assert cfg.MODEL.RETINANET.NUM_CLASSES == 2
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 3
    metadata = MetadataCatalog.get(name)
    assert metadata.thing_classes == ["dust", "cell"]
    assert metadata.thing_dataset_id_to_contiguous_id == {3: 0, 7: 1}
    assert DatasetCatalog.get(name)[0]["annotations"][0]["category_id"] == 1


def test_class_agnostic(tmp_path, name):
    cfg = config(tmp_path, (name, write(tmp_path), str(tmp_path)), CLASS_AGNOSTIC=True)
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 1
    assert MetadataCatalog.get(name).thing_classes == ["object"]


def test_a_name_can_be_given_another_file(tmp_path, name):
    for categories in (((1, "a"),), ((1, "a"), (2, "b"))):
        path = write(tmp_path, f"{len(categories)}.json", categories)
        cfg = config(tmp_path, (name, path, str(tmp_path)))
        prepare_datasets(cfg, cfg.DATASETS.TRAIN)
        assert len(categories) == cfg.MODEL.ROI_HEADS.NUM_CLASSES


def test_an_explicit_number_can_contradict(tmp_path, name):
    cfg = config(tmp_path, (name, write(tmp_path), str(tmp_path)))
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 80
    with pytest.raises(ConfigError, match=r"MODEL.ROI_HEADS.NUM_CLASSES: found 80, .* needs 2"):
        prepare_datasets(cfg, cfg.DATASETS.TRAIN)


def test_datasets_of_one_run_need_the_same_classes(tmp_path, name):
    other = write(tmp_path, "b.json", ((1, "tree"),))
    cfg = config(
        tmp_path, (name, write(tmp_path), str(tmp_path)), (f"{name}_b", other, str(tmp_path))
    )
    with pytest.raises(ConfigError, match=r"1 classes \(tree\), .* 2 \(dust, cell\)"):
        prepare_datasets(cfg, cfg.DATASETS.TRAIN)


@pytest.mark.parametrize("entry", ["text", ["a", "b"], ["a", "b", 3]])
def test_malformed_entries_are_named(entry):
    cfg = get_cfg()
    cfg.DATASETS.CUSTOM = [entry]
    with pytest.raises(ConfigError, match="DATASETS.CUSTOM: found"):
        register_custom(cfg)


def test_taken_and_unknown_names(tmp_path, name):
    for taken in ("coco_2017_val", "shapes_train"):
        with pytest.raises(ConfigError, match=f"'{taken}' is taken"):
            register_custom(config(tmp_path, (taken, "a.json", "")))
    with pytest.raises(ConfigError, match=f"no dataset is named '{name}'.*shapes_train"):
        get_source(name)


def test_builtin_names_are_registered_and_their_folders_may_be_absent(tmp_path):
    assert set(BUILTIN) <= set(DatasetCatalog.list())
    with pytest.raises(DataError, match=r"duts_tr_single\.json: cannot be read"):
        get_source("duts_tr_single")


def test_bad_boxes_follow_the_key(tmp_path, name):
    path = write(tmp_path, bbox=[1, 2, 0, 0])
    cfg = config(tmp_path, (name, path, str(tmp_path)), BAD_BOX="skip")
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    with pytest.raises(DataError, match="has no area"):
        prepare_datasets(config(tmp_path, (name, path, str(tmp_path))), [name])
    cfg.DATASETS.BAD_BOX = "ignore"
    with pytest.raises(ConfigError, match="DATASETS.BAD_BOX: found 'ignore'"):
        prepare_datasets(cfg, [name])


def test_a_supervision_that_there_is_not(tmp_path, name):
    cfg = config(tmp_path, (name, write(tmp_path), str(tmp_path)))
    cfg.WSIS.SUPERVISION = "imgae"
    with pytest.raises(ConfigError, match="WSIS.SUPERVISION: found 'imgae', expected one of box"):
        prepare_datasets(cfg, [name])


def test_datasets_of_others_are_read_from_their_file(tmp_path, name):
    path = write(tmp_path, segmentation=[[1, 1]])  # Detectron2's reader would drop this annotation
    register_coco_instances(name, {}, path, str(tmp_path))
    assert len(get_source(name).annotations) == 1
    python = f"{name}_python"
    record = {"image_id": 1, "file_name": "a.png", "height": 10, "width": 12}
    DatasetCatalog.register(python, lambda: [record])
    MetadataCatalog.get(python).set(thing_classes=["a"])
    assert get_source(python).images[0]["file_name"] == "a.png"


def test_builtin_names_follow_the_environment_and_semantic_ones_name_their_pngs(
    tmp_path, monkeypatch
):
    json_file, image_root, labels = BUILTIN_SEM_SEG["voc_2012_val_semantic"]
    (tmp_path / json_file).parent.mkdir(parents=True)
    (tmp_path / image_root).mkdir(parents=True)
    write((tmp_path / json_file).parent, (tmp_path / json_file).name)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    try:
        register_builtin()
        record = DatasetCatalog.get("voc_2012_val_semantic")[0]
        assert record["sem_seg_file_name"] == str(tmp_path / labels["sem_seg"] / "a.png")
        metadata = MetadataCatalog.get("voc_2012_val_semantic")
        assert metadata.stuff_classes == ["background", "dust", "cell"]
        assert metadata.evaluator_type == "sem_seg"
        assert get_source("voc_2012_val_instances").class_names == ["dust", "cell"]
    finally:
        monkeypatch.undo()
        register_builtin()

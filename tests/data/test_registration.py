"""Datasets by name: from the config, builtin, and registered by others."""

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from tests.data.builders import coco, write_json
from wsis.config import get_cfg
from wsis.data import registration
from wsis.data.builtin_paths import BUILTIN, BUILTIN_SEM_SEG
from wsis.data.registration import (
    get_source,
    hand_over,
    label_folders,
    prepare_datasets,
    register_builtin,
    register_custom,
    take_over,
)
from wsis.errors import ConfigError, DataError

CELLS = {7: "cell", 3: "dust"}


def write(path, categories=CELLS, **annotation):
    document = coco({"bbox": [1, 2, 3, 4], **annotation}, categories=categories)
    return write_json(path, document)


@pytest.fixture
def config(tmp_path, name):
    """``config(second file, labels={}, **keys)``: a config whose datasets have a file of cells, and that."""

    def make(other=None, categories=CELLS, labels=None, **keys):
        cfg = get_cfg()
        entry = [name, write(tmp_path / "a.json", categories, **keys.pop("first", {}))]
        cfg.DATASETS.CUSTOM = [[*entry, str(tmp_path)]]
        if other:
            cfg.DATASETS.CUSTOM.append([f"{name}_b", other, str(tmp_path)])
        if labels:
            cfg.DATASETS.CUSTOM_SEM_SEG = [[*cfg.DATASETS.CUSTOM.pop(), labels]]
        cfg.DATASETS.TRAIN = (name, f"{name}_b") if other else (name,)
        for key, value in keys.items():
            cfg.DATASETS[key] = value
        return cfg

    return make


def test_classes_and_their_number_come_from_the_file(config, name):
    cfg = config()
    prepare_datasets(cfg, [name])
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == cfg.MODEL.RETINANET.NUM_CLASSES == 2
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 3
    metadata = MetadataCatalog.get(name)
    assert metadata.thing_classes == ["dust", "cell"]
    assert metadata.thing_dataset_id_to_contiguous_id == {3: 0, 7: 1}
    assert DatasetCatalog.get(name)[0]["annotations"][0]["category_id"] == 1


def test_class_agnostic(config, name):
    cfg = config(CLASS_AGNOSTIC=True)
    prepare_datasets(cfg, [name])
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 1
    assert MetadataCatalog.get(name).thing_classes == ["object"]


def test_processes_take_over_what_another_has_read(config, name, tmp_path, monkeypatch):
    cfg = config(other=write(tmp_path / "b.json", segmentation=[[1, 2, 4, 2, 4, 6]]))
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    before = {each: get_source(each) for each in cfg.DATASETS.TRAIN}
    hand_over(tmp_path)
    for each in before:
        (tmp_path / f"{'b' if each.endswith('_b') else 'a'}.json").unlink()
        DatasetCatalog.remove(each)
    for known in ("_sources", "_locations", "_places", "_views"):
        monkeypatch.setattr(registration, known, {})
    take_over(tmp_path)
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    for each, source in before.items():
        again = get_source(each)
        assert again is not source
        assert again.annotations == source.annotations
        assert again.images == source.images
        assert not any(column.flags.writeable for column in again.table.columns)


@pytest.mark.parametrize("by_folder", [False, True])
def test_a_name_can_be_given_another_file(config, name, tmp_path, monkeypatch, by_folder):
    """By another path, or by the same one from another working directory."""
    for categories in ({1: "a"}, {1: "a", 2: "b"}):
        cfg = config()
        folder = tmp_path / str(len(categories))
        folder.mkdir()
        path = write(folder / "boxes.json", categories)
        monkeypatch.chdir(folder)
        cfg.DATASETS.CUSTOM = [[name, *(("boxes.json", ".") if by_folder else (path, str(folder)))]]
        prepare_datasets(cfg, [name])
        assert len(categories) == cfg.MODEL.ROI_HEADS.NUM_CLASSES


def test_what_contradicts_the_data(config, name, tmp_path):
    cfg = config()
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 80
    with pytest.raises(ConfigError, match=r"MODEL.ROI_HEADS.NUM_CLASSES: found 80, .* needs 2"):
        prepare_datasets(cfg, [name])
    cfg = config(write(tmp_path / "b.json", {1: "tree"}))
    with pytest.raises(ConfigError, match=r"1 class \(tree\), .* 2 \(dust, cell\)"):
        prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    cfg = config()
    cfg.WSIS.SUPERVISION = "imgae"
    with pytest.raises(ConfigError, match="WSIS.SUPERVISION: found 'imgae', expected one of box"):
        prepare_datasets(cfg, [name])


def test_bad_boxes_follow_the_key(config, name):
    bad = {"bbox": [1, 2, 0, 0]}
    prepare_datasets(config(first=bad, BAD_BOX="skip"), [name])
    with pytest.raises(DataError, match="has no area"):
        prepare_datasets(config(first=bad), [name])
    with pytest.raises(ConfigError, match="DATASETS.BAD_BOX: found 'ignore'"):
        prepare_datasets(config(BAD_BOX="ignore"), [name])


def test_a_dataset_of_labels_needs_no_python(config, name, tmp_path):
    cfg = config(labels={"y_crf": "crf", "y_ret": "ret"})
    prepare_datasets(cfg, [name])
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 3
    assert label_folders(name) == {"y_crf": "crf", "y_ret": "ret"}
    assert DatasetCatalog.get(name)[0]["sem_seg_file_name"] == "crf/1.png"
    metadata = MetadataCatalog.get(name)
    assert metadata.stuff_classes == ["background", "dust", "cell"]
    assert (metadata.evaluator_type, metadata.ignore_label) == ("sem_seg", 255)
    register_custom(config(labels={"y_crf": "other"}))
    assert label_folders(name) == {"y_crf": "other"}
    assert label_folders("shapes_train") == {}


@pytest.mark.parametrize(
    ("key", "entry"),
    [
        *(("CUSTOM", entry) for entry in ("text", ["a", "b"], ["a", "b", 3])),
        *(("CUSTOM_SEM_SEG", entry) for entry in ("x", ["a", "b", "c"], ["a", "b", "c", {}])),
        ("CUSTOM_SEM_SEG", ["a", "b", "c", {"y": 1}]),
    ],
)
def test_malformed_entries_are_named(key, entry):
    cfg = get_cfg()
    cfg.DATASETS[key] = [entry]
    with pytest.raises(ConfigError, match=f"DATASETS.{key}: found .* expected"):
        register_custom(cfg)


def test_taken_and_unknown_names(config, name):
    for taken in ("coco_2017_val", "shapes_train", "voc_2012_val_semantic"):
        for key, *labels in (["CUSTOM"], ["CUSTOM_SEM_SEG", {"y": "y"}]):
            cfg = get_cfg()
            cfg.DATASETS[key] = [[taken, "a.json", "", *labels]]
            with pytest.raises(ConfigError, match=f"{key}: the name '{taken}' is taken"):
                register_custom(cfg)
    cfg = config()
    cfg.DATASETS.CUSTOM_SEM_SEG = [[*cfg.DATASETS.CUSTOM[0], {"y": "y"}]]
    with pytest.raises(ConfigError, match="stands for two datasets"):
        register_custom(cfg)
    with pytest.raises(ConfigError, match="no dataset is named 'absent'.*shapes_train"):
        get_source("absent")


def test_builtin_names_are_registered_and_their_folders_may_be_absent():
    assert set(BUILTIN) <= set(DatasetCatalog.list())
    with pytest.raises(DataError, match=r"duts_tr_single\.json: cannot be read"):
        get_source("duts_tr_single")


def test_builtin_names_follow_the_environment_and_semantic_ones_name_their_pngs(
    tmp_path, monkeypatch
):
    json_file, image_root, labels = BUILTIN_SEM_SEG["voc_2012_val_semantic"]
    (tmp_path / json_file).parent.mkdir(parents=True)
    (tmp_path / image_root).mkdir(parents=True)
    write(tmp_path / json_file)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    try:
        register_builtin()
        record = DatasetCatalog.get("voc_2012_val_semantic")[0]
        assert record["sem_seg_file_name"] == str(tmp_path / labels["sem_seg"] / "1.png")
        metadata = MetadataCatalog.get("voc_2012_val_semantic")
        assert metadata.stuff_classes == ["background", "dust", "cell"]
        assert metadata.evaluator_type == "sem_seg"
        assert get_source("voc_2012_val_instances").class_names == ["dust", "cell"]
    finally:
        monkeypatch.undo()
        register_builtin()

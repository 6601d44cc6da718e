"""Label maps from folders and from instance masks; datasets of them."""

from __future__ import annotations

import json
import uuid

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from tests.tiny import SIZE, write_dataset
from wsis.config import load_cfg
from wsis.data.labels import (
    check_label_files,
    check_pseudo_labels,
    instances_to_label,
    merge_classes,
    read_label,
    truth_reader,
)
from wsis.data.registration import label_folders, prepare_datasets, register_custom
from wsis.data.source import check_document, load_source
from wsis.errors import ConfigError, DataError
from wsis.structures.pseudo_labels import write_label, write_manifest
from wsis.structures.rle import encode_mask


@pytest.fixture
def name():
    return f"semantic_{uuid.uuid4().hex}"


@pytest.fixture
def data(tmp_path):
    write_dataset(tmp_path / "data", number=2)
    return tmp_path / "data"


def custom(data, name, **labels):
    value = repr([[name, str(data / "boxes.json"), str(data), labels]])
    return load_cfg(None, ["DATASETS.CUSTOM_SEM_SEG", value])


def square(y, x, side=4, size=(10, 12)):
    mask = np.zeros(size, dtype=bool)
    mask[y : y + side, x : x + side] = True
    return mask


def source_of(*annotations, void=None):
    image = {"id": 1, "file_name": "a.png", "height": 10, "width": 12}
    image |= {"void": encode_mask(void)} if void is not None else {}
    full = [
        {"id": i, "image_id": 1, "iscrowd": 0, "bbox": [1, 1, 2, 2], **a}
        for i, a in enumerate(annotations, start=1)
    ]
    categories = [{"id": 9, "name": "b"}, {"id": 4, "name": "a"}]
    document = {"images": [image], "annotations": full, "categories": categories}
    return check_document(document, "test.json", "", ""), image


def test_masks_become_classes_by_ascending_id() -> None:
    objects = [(9, square(0, 0)), (4, square(5, 5))]
    label = instances_to_label(
        *source_of(*({"category_id": c, "segmentation": encode_mask(m)} for c, m in objects))
    )
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, 2 * objects[0][1] + 1 * objects[1][1])


def test_what_is_not_known_is_ignored() -> None:
    first, second, same = square(0, 0), square(2, 2), square(3, 0)
    crowd, void = square(6, 8), square(0, 9, side=2)
    source = source_of(
        {"category_id": 9, "segmentation": encode_mask(first)},
        {"category_id": 4, "segmentation": encode_mask(second)},
        {"category_id": 9, "segmentation": encode_mask(same)},
        {"category_id": 9, "segmentation": encode_mask(crowd), "iscrowd": 1},
        {"category_id": 4, "bbox": [2, 7, 3, 3]},
        void=void,
    )
    label = instances_to_label(*source)
    assert (label[second & (first | same)] == 255).all()
    assert (label[first & same & ~second] == 2).all()
    assert (label[crowd | void] == 255).all()
    box = square(7, 2, side=3)
    assert (label[box & ~same & ~second] == 255).all()
    rest = ~(first | second | same | crowd | void | box)
    assert (label[rest] == 0).all() and rest.sum() > 30


def test_a_malformed_mask_is_named() -> None:
    source = source_of({"category_id": 9, "segmentation": encode_mask(np.ones((3, 3)))})
    with pytest.raises(DataError, match=r"test\.json: annotation 1: key 'segmentation': size"):
        instances_to_label(*source)


def test_labels_are_read_as_they_were_written(tmp_path) -> None:
    label = np.array([[0, 1, 255], [3, 2, 0]], dtype=np.uint8)
    write_label(tmp_path / "a.png", label)
    Image.fromarray(label).save(tmp_path / "grey.png")
    for name in ("a.png", "grey.png"):
        got = read_label(tmp_path / name, 2, 3, 4)
        assert got.dtype == np.uint8
        np.testing.assert_array_equal(got, label)
    assert merge_classes(label).tolist() == [[0, 1, 255], [1, 1, 0]]


def test_labels_that_are_wrong_are_named(tmp_path) -> None:
    write_label(tmp_path / "a.png", np.full((2, 3), 3, dtype=np.uint8))
    Image.new("RGB", (3, 2)).save(tmp_path / "colour.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    for words, file, *arguments in (
        ("the value 3, expected 0 to 2 or 255", "a.png", 2, 3, 3),
        (r"is 3x2 \(width x height\), the image 2x3", "a.png", 3, 2),
        ("mode RGB", "colour.png"),
        ("cannot be read", "broken.png"),
        ("cannot be read", "missing.png"),
    ):
        with pytest.raises(DataError, match=rf"{file}: .*{words}"):
            read_label(tmp_path / file, *arguments)


def test_a_dataset_of_labels_needs_no_python(data, name) -> None:
    cfg = custom(data, name, y_crf=str(data / "crf"), y_ret=str(data / "ret"))
    cfg.DATASETS.TRAIN = (name,)
    prepare_datasets(cfg, [name])
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 3
    assert label_folders(name) == {"y_crf": str(data / "crf"), "y_ret": str(data / "ret")}
    record = DatasetCatalog.get(name)[0]
    assert record["sem_seg_file_name"] == str(data / "crf" / "1.png")
    metadata = MetadataCatalog.get(name)
    assert metadata.stuff_classes == ["background", "wide", "tall"]
    assert (metadata.evaluator_type, metadata.ignore_label) == ("sem_seg", 255)
    again = custom(data, name, y_crf=str(data / "other"))
    register_custom(again)
    assert label_folders(name) == {"y_crf": str(data / "other")}
    assert label_folders("shapes_train") == {}


@pytest.mark.parametrize(
    "entry", ["x", ["a", "b", "c"], ["a", "b", "c", {}], ["a", "b", "c", {"y": 1}]]
)
def test_malformed_entries_are_named(entry) -> None:
    cfg = load_cfg(None)
    cfg.DATASETS.CUSTOM_SEM_SEG = [entry]
    with pytest.raises(ConfigError, match="DATASETS.CUSTOM_SEM_SEG: found .* expected"):
        register_custom(cfg)


def test_taken_names_are_refused(data, name) -> None:
    for taken in ("shapes_train", "voc_2012_val_semantic", "coco_2017_val"):
        with pytest.raises(ConfigError, match=f"CUSTOM_SEM_SEG: the name '{taken}' is taken"):
            register_custom(custom(data, taken, y="y"))
    cfg = custom(data, name, y="y")
    cfg.DATASETS.CUSTOM = [[name, str(data / "boxes.json"), str(data)]]
    with pytest.raises(ConfigError, match="stands for two datasets"):
        register_custom(cfg)


def write_labels(data, folder, value=1):
    for i in (1, 2):
        write_label(data / folder / f"{i}.png", np.full((SIZE, SIZE), value, dtype=np.uint8))
    return str(data / folder)


def test_truth_comes_from_the_folder_or_from_the_masks(data, name) -> None:
    register_custom(custom(data, name, sem_seg=write_labels(data, "true", value=2)))
    image = json.loads((data / "boxes.json").read_text())["images"][1]
    assert (truth_reader(name)(image) == 2).all()
    assert (truth_reader(name, class_agnostic=True)(image) == 1).all()
    cfg = load_cfg(None)
    cfg.DATASETS.CUSTOM = [[name, str(data / "boxes.json"), str(data)]]
    register_custom(cfg)
    label = truth_reader(name)(image)  # a wide one, of the first category
    assert np.unique(label).tolist() == [0, 1] and (label == 1).sum() == 14 * 30


def test_truth_must_be_one(data, name) -> None:
    register_custom(custom(data, name, y_crf="a", y_ret="b"))
    with pytest.raises(ConfigError, match="has the labels y_crf, y_ret, expected one"):
        truth_reader(name)
    document = json.loads((data / "boxes.json").read_text())
    for annotation in document["annotations"]:
        del annotation["segmentation"]
    (data / "no_masks.json").write_text(json.dumps(document))
    cfg = load_cfg(None)
    cfg.DATASETS.CUSTOM = [[f"{name}_boxes", str(data / "no_masks.json"), str(data)]]
    register_custom(cfg)
    with pytest.raises(ConfigError, match="no label folder and .* no masks"):
        truth_reader(f"{name}_boxes")


def test_every_image_needs_a_label_of_its_size(data) -> None:
    source = load_source(data / "boxes.json", data)
    check_label_files(source, write_labels(data, "y"))
    write_label(data / "y" / "2.png", np.zeros((SIZE, SIZE + 1), dtype=np.uint8))
    with pytest.raises(DataError, match=r"2\.png: the label map is 65x64"):
        check_label_files(source, data / "y")
    (data / "y" / "2.png").unlink()
    with pytest.raises(DataError, match=r"2\.png: cannot be read as a label map, .* image 2 of"):
        check_label_files(source, data / "y")
    with pytest.raises(DataError, match="no such folder of label maps"):
        check_label_files(source, data / "nowhere")


def test_labels_of_a_teacher_have_a_manifest_that_names_them(tmp_path) -> None:
    with pytest.raises(ConfigError, match="its labels are not a teacher's"):
        check_pseudo_labels(tmp_path / "y_crf", ["a", "b"])
    write_manifest(tmp_path, {"method": "BANA"}, ["y_crf"], ["a", "b"])
    check_pseudo_labels(tmp_path / "y_crf", ["a", "b"])
    with pytest.raises(ConfigError, match="its labels are not a teacher's"):
        check_pseudo_labels(tmp_path / "true", ["a", "b"])
    with pytest.raises(
        DataError, match=r"'classes': found 3 \(background, a, b\), expected 2 \(background, a\)"
    ):
        check_pseudo_labels(tmp_path / "y_crf", ["a"])


@pytest.mark.parametrize(
    ("manifest", "error", "message"),
    [
        ({"labels": None}, ConfigError, "its labels are not a teacher's"),
        ({"labels": 5}, ConfigError, "its labels are not a teacher's"),
        ({"labels": ["y"]}, DataError, "manifest.json: key 'classes': found None, expected a list"),
        ({"labels": ["y"], "classes": ["a", 1], "wsis": {}}, DataError, "'classes': found .'a', 1"),
        ([], ConfigError, "its labels are not a teacher's"),
    ],
)
def test_a_manifest_of_another_form_is_one_line(tmp_path, manifest, error, message) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(error, match=message):
        check_pseudo_labels(tmp_path / "y", ["a"])


def test_void_that_is_no_mask_is_named() -> None:
    source, image = source_of({"category_id": 4, "segmentation": encode_mask(square(1, 1))})
    for void in ("x", {"size": [1, 1], "counts": [1]}):
        with pytest.raises(DataError, match="image 1: key 'void': "):
            instances_to_label(source, image | {"void": void})

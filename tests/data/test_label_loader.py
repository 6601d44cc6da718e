"""Stage 3's samples: both labels and the image under one draw; whose labels may be used."""

from __future__ import annotations

import json
import shutil
import uuid

import cv2
import numpy as np
import pytest
import torch

from tests.methods.bana.tiny_segmentor import custom, make_cfg, write_label_pair
from tests.tiny import SIZE
from wsis.data.label_loader import LabelMapper, training_records
from wsis.data.labels import truth_reader
from wsis.data.registration import prepare_datasets, register_dataset
from wsis.errors import ConfigError, DataError
from wsis.methods.bana import BANASegmentor
from wsis.structures.pseudo_labels import write_label, write_manifest


@pytest.fixture
def name() -> str:
    return f"pairs_{uuid.uuid4().hex}"


@pytest.fixture
def labels(tmp_path):
    return write_label_pair(tmp_path)


def make(tmp_path, labels, name, strong=(), **keys):
    entries = [custom(name, tmp_path, labels)]
    instances = [
        [each, str(tmp_path / "data" / f"{file}.json"), str(tmp_path / "data")]
        for each, file in strong
    ]
    cfg = make_cfg(
        DATASETS__CUSTOM_SEM_SEG=entries,
        DATASETS__CUSTOM=instances,
        DATASETS__TRAIN=(name,),
        MODEL__SEGMENTOR__STRONG_DATASETS=[each for each, _ in strong],
        MODEL__SEM_SEG_HEAD__NUM_CLASSES=0,
        **keys,
    )
    prepare_datasets(cfg, [name])
    return cfg


def test_image_and_labels_share_every_draw(tmp_path, labels, name) -> None:
    """Images that are their own labels: colours say what the label must be wherever neither is interpolated."""
    cfg = make(
        tmp_path,
        labels,
        name,
        INPUT__SCALED_CROP__JITTER=0.0,
        INPUT__SCALED_CROP__SCALE_RANGE=[0.5, 1.5],
    )
    rows, columns = np.indices((SIZE, SIZE)) // 16
    pattern = ((rows + 2 * columns) % 3).astype(np.uint8)
    for i in range(1, 5):
        cv2.imwrite(
            str(tmp_path / "data" / f"{i}.png"),
            (pattern * 100)[..., None].repeat(3, 2).astype(np.uint8),
        )
        write_label(labels / "y_crf" / f"{i}.png", pattern)
        write_label(labels / "y_ret" / f"{i}.png", (pattern + 1) % 3)
    mapper, records = LabelMapper(cfg), training_records(cfg, 2)
    agreed, padded = 0, 0
    for record in records * 5:
        sample = mapper(record)
        assert sample["image"].shape == (3, 48, 48) and sample["image"].dtype == torch.float32
        labels_of = sample["labels"]
        inside = labels_of[0] != 255
        padded += int((~inside).sum())
        y_crf, y_ret = labels_of[:, inside].int()
        assert (y_ret == (y_crf + 1) % 3).all()
        colour = sample["image"][0][inside] / 100
        pure = (colour - colour.round()).abs() < 0.01
        agreed += int(pure.sum())
        wrong = colour.round()[pure] != y_crf[pure]
        assert wrong.float().mean() < 0.1  # a seam of 0 and 2 looks like 1
        outside = sample["image"][:, ~inside]
        assert (outside == torch.tensor([104.0, 117.0, 123.0])[:, None]).all()
    assert agreed > 10000 and padded > 100


def test_batches_are_endless_and_of_the_wanted_size(tmp_path, labels, name) -> None:
    cfg = make(tmp_path, labels, name, SOLVER__IMS_PER_BATCH=3)
    batches = iter(BANASegmentor.build_train_loader(cfg))
    for _ in range(3):
        batch = next(batches)
        assert len(batch) == 3
        assert {s["labels"].shape for s in batch} == {(2, 48, 48)}


def test_true_labels_stand_for_both_and_take_the_place_of_pseudo_labels(
    tmp_path, labels, name
) -> None:
    document = json.loads((tmp_path / "data" / "boxes.json").read_text())
    document["images"] = document["images"][1:3]
    kept = {image["id"] for image in document["images"]}
    document["annotations"] = [a for a in document["annotations"] if a["image_id"] in kept]
    (tmp_path / "data" / "two.json").write_text(json.dumps(document))
    cfg = make(tmp_path, labels, name, strong=[(f"{name}_true", "two")])
    records = training_records(cfg, 2)
    assert len(records) == 4
    assert [record.get("truth") for record in records] == [None] * 2 + [f"{name}_true"] * 2
    assert len({record["file_name"] for record in records}) == 4
    mapper = LabelMapper(cfg)
    for record in records:
        sample = mapper(record)
        differ = (sample["labels"][0] != sample["labels"][1]).any()
        assert not differ if "truth" in record else True
    full = LabelMapper(make(tmp_path, labels, name, strong=[(f"{name}_true", "two")]))
    y_crf, y_ret = full._labels(records[2])
    np.testing.assert_array_equal(y_crf, y_ret)
    assert (y_crf[:6, :6] == 0).all() and (
        y_crf > 0
    ).sum() == 14 * 30  # no mark of the pseudo label


def test_true_labels_may_be_a_folder(tmp_path, labels, name) -> None:
    cfg = make(tmp_path, labels, name)
    entry = custom(f"{name}_true", tmp_path, labels)
    entry[3] = {"sem_seg": str(labels / "y_ret")}
    cfg.DATASETS.CUSTOM_SEM_SEG = [*cfg.DATASETS.CUSTOM_SEM_SEG, entry]
    cfg.MODEL.SEGMENTOR.STRONG_DATASETS = [f"{name}_true"]
    prepare_datasets(cfg, [name])
    records = training_records(cfg, 2)
    assert [record.get("truth") for record in records] == [f"{name}_true"] * 4


def refused(cfg, match: str, error: type[Exception] = ConfigError) -> None:
    with pytest.raises(error, match=match):
        training_records(cfg, 2)


def test_labels_that_no_teacher_made_are_refused(tmp_path, labels, name) -> None:
    (labels / "manifest.json").unlink()
    refused(
        make(tmp_path, labels, name),
        r"y_crf: no manifest\.json .* not a teacher's; .* MODEL\.SEGMENTOR\.STRONG_DATASETS",
    )


def test_a_name_in_both_lists_is_refused(tmp_path, labels, name) -> None:
    cfg = make(tmp_path, labels, name)
    cfg.MODEL.SEGMENTOR.STRONG_DATASETS = [name]
    refused(cfg, f"STRONG_DATASETS: '{name}' is in DATASETS.TRAIN too")


def test_other_mistakes_are_named(tmp_path, labels, name) -> None:
    cfg = make(tmp_path, labels, name)
    with pytest.raises(ConfigError, match=r"LABELS: found \['y_crf', 'y_ret'\], expected 1 name"):
        training_records(cfg, 1)
    cfg.MODEL.SEGMENTOR.LABELS = ["y_crf", "y_other"]
    refused(cfg, f"'{name}' has no label 'y_other'")
    write_manifest(labels, {}, ["y_crf", "y_ret"], ["tall", "wide"])
    refused(make(tmp_path, labels, name), "key 'classes'", DataError)
    write_manifest(labels, {}, ["y_crf", "y_ret"], ["wide", "tall"])
    training_records(make(tmp_path, labels, name), 2)
    (labels / "y_ret" / "3.png").unlink()
    refused(make(tmp_path, labels, name), r"y_ret.3\.png", DataError)
    shutil.rmtree(labels / "y_ret")
    refused(make(tmp_path, labels, name), "no such folder", DataError)


def test_true_labels_of_other_classes_are_refused(tmp_path, labels, name) -> None:
    document = json.loads((tmp_path / "data" / "boxes.json").read_text())
    document["categories"][0]["name"] = "other"
    (tmp_path / "data" / "other.json").write_text(json.dumps(document))
    cfg = make(tmp_path, labels, name, strong=[(f"{name}_true", "other")])
    refused(cfg, f"classes of '{name}_true' are not those")


def test_a_value_that_is_no_class_is_named_with_its_file(tmp_path, labels, name) -> None:
    cfg = make(tmp_path, labels, name)
    write_label(labels / "y_crf" / "1.png", np.full((SIZE, SIZE), 3, dtype=np.uint8))
    mapper = LabelMapper(cfg)
    with pytest.raises(DataError, match=r"1\.png: found the value 3, expected 0 to 2 or 255"):
        mapper(training_records(cfg, 2)[0])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("INPUT__FORMAT", "L", r"INPUT\.FORMAT: found 'L', expected RGB or BGR"),
        ("INPUT__HIGH_BIT_DEPTH", "no", r"INPUT\.HIGH_BIT_DEPTH: found 'no'"),
        ("SOLVER__IMS_PER_BATCH", 0, r"SOLVER\.IMS_PER_BATCH: found 0, expected a multiple"),
    ],
)
def test_values_that_cannot_be_are_named(tmp_path, labels, name, key, value, message) -> None:
    cfg = make(tmp_path, labels, name, **{key: value})
    with pytest.raises(ConfigError, match=message):
        BANASegmentor.build_train_loader(cfg)


def test_true_data_are_checked_before_the_training(tmp_path, labels, name) -> None:
    """An image of a strong dataset, and a true label of the dataset that is evaluated at the end."""
    cfg = make(tmp_path, labels, name, strong=[(f"{name}_true", "boxes")])
    BANASegmentor.check_training_data(cfg)
    other = tmp_path / "other"
    shutil.copytree(tmp_path / "data", other)
    (other / "2.png").unlink()
    strong = [[f"{name}_other", str(other / "boxes.json"), str(other)]]
    cfg.DATASETS.CUSTOM, cfg.MODEL.SEGMENTOR.STRONG_DATASETS = strong, [f"{name}_other"]
    prepare_datasets(cfg, [name])
    with pytest.raises(DataError, match=r"image 2: .*2\.png: cannot be read as an image"):
        BANASegmentor.check_training_data(cfg)
    cfg.MODEL.SEGMENTOR.STRONG_DATASETS = []
    entry = custom(f"{name}_test", tmp_path, labels)
    shutil.copytree(labels / "y_ret", tmp_path / "truth")
    entry[3] = {"sem_seg": str(tmp_path / "truth")}
    cfg.DATASETS.CUSTOM_SEM_SEG = [*cfg.DATASETS.CUSTOM_SEM_SEG, entry]
    cfg.DATASETS.TEST = (f"{name}_test",)
    prepare_datasets(cfg, [name, f"{name}_test"])
    BANASegmentor.check_training_data(cfg)
    (tmp_path / "truth" / "4.png").unlink()
    with pytest.raises(DataError, match=r"truth.4\.png: cannot be read as a label map"):
        BANASegmentor.check_training_data(cfg)


def test_a_dataset_without_images_is_refused(tmp_path, labels, name) -> None:
    document = json.loads((tmp_path / "data" / "boxes.json").read_text())
    document["images"], document["annotations"] = [], []
    (tmp_path / "data" / "boxes.json").write_text(json.dumps(document))
    refused(make(tmp_path, labels, name), f"DATASETS.TRAIN: {name}: found no image", DataError)


def test_more_classes_than_a_byte_can_name_are_refused(tmp_path) -> None:
    document = json.loads((write_label_pair(tmp_path).parent / "data" / "boxes.json").read_text())
    document["categories"] += [{"id": i, "name": f"class {i}"} for i in range(100, 353)]
    (tmp_path / "data" / "many.json").write_text(json.dumps(document))
    name = f"many_{uuid.uuid4().hex}"
    register_dataset(name, str(tmp_path / "data" / "many.json"), str(tmp_path / "data"))
    with pytest.raises(ConfigError, match=f"'{name}' has 255 classes, expected at most 254"):
        truth_reader(name)

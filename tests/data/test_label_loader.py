"""Stage 3's samples: both labels and the image under one draw; whose labels may be used."""

import json
import shutil
import uuid

import cv2
import numpy as np
import pytest
import torch

from tests.data.builders import write_json
from tests.methods.bana.tiny_segmentor import data_entry, label_entry, make_cfg, write_label_pair
from tests.tiny import SIZE
from wsis.data.label_loader import LabelMapper, training_records
from wsis.data.labels import truth_reader
from wsis.data.registration import prepare_datasets, register_dataset
from wsis.errors import ConfigError, DataError
from wsis.methods.bana import BANASegmentor
from wsis.structures.pseudo_labels import write_label, write_manifest

PAIR = ["y_crf", "y_ret"]


@pytest.fixture
def labels(tmp_path):
    return write_label_pair(tmp_path)


@pytest.fixture
def document(tmp_path, labels):
    """``document(file, change)``: ``boxes.json``, changed, under this name; the entry of the dataset for it."""

    def write(file, change):
        found = json.loads((tmp_path / "data/boxes.json").read_text())
        change(found)
        write_json(tmp_path / f"data/{file}.json", found)
        return data_entry(f"{file}_{uuid.uuid4().hex}", tmp_path, file)

    return write


@pytest.fixture
def make(tmp_path, labels):
    """``make(strong)``: the config of a training on the pairs, and on the true labels of these datasets."""
    name = f"pairs_{uuid.uuid4().hex}"

    def config(*strong, **keys):
        """Entries of four are of label folders."""
        keys = {"MODEL.SEM_SEG_HEAD.NUM_CLASSES": 0, "DATASETS.TRAIN": (name,)} | keys
        folders = [label_entry(name, tmp_path), *(each for each in strong if len(each) == 4)]
        cfg = make_cfg(
            DATASETS__CUSTOM_SEM_SEG=folders,
            DATASETS__CUSTOM=[each for each in strong if len(each) == 3],
            MODEL__SEGMENTOR__STRONG_DATASETS=[each[0] for each in strong],
            **keys,
        )
        prepare_datasets(cfg, cfg.DATASETS.TRAIN)
        return cfg

    config.name = name
    return config


def test_image_and_labels_share_every_draw(tmp_path, labels, make):
    """Images that are their own labels: colours say what the label must be wherever neither is interpolated."""
    crop = {"INPUT.SCALED_CROP.JITTER": 0.0, "INPUT.SCALED_CROP.SCALE_RANGE": [0.5, 1.5]}
    cfg = make(**crop)
    rows, columns = np.indices((SIZE, SIZE)) // 16
    pattern = ((rows + 2 * columns) % 3).astype(np.uint8)
    for i in range(1, 5):
        cv2.imwrite(str(tmp_path / "data" / f"{i}.png"), (pattern * 100)[..., None].repeat(3, 2))
        write_label(labels / "y_crf" / f"{i}.png", pattern)
        write_label(labels / "y_ret" / f"{i}.png", (pattern + 1) % 3)
    mapper, agreed, padded = LabelMapper(cfg), 0, 0
    for record in training_records(cfg, 2) * 5:
        sample = mapper(record)
        image, pair = sample["image"], sample["labels"]
        assert image.shape == (3, 48, 48) and image.dtype == torch.float32
        inside = pair[0] != 255
        padded += int((~inside).sum())
        y_crf, y_ret = pair[:, inside].int()
        assert (y_ret == (y_crf + 1) % 3).all()
        colour = image[0][inside] / 100
        pure = (colour - colour.round()).abs() < 0.01
        agreed += int(pure.sum())
        wrong = colour.round()[pure] != y_crf[pure]
        assert wrong.float().mean() < 0.1  # a seam of 0 and 2 looks like 1
        assert (image[:, ~inside] == torch.tensor([104.0, 117.0, 123.0])[:, None]).all()
    assert agreed > 10000 and padded > 100


def test_batches_are_endless_and_of_the_wanted_size(make):
    batches = iter(BANASegmentor.build_train_loader(make(SOLVER__IMS_PER_BATCH=3)))
    for _ in range(3):
        batch = next(batches)
        assert len(batch) == 3
        assert {s["labels"].shape for s in batch} == {(2, 48, 48)}


def test_true_labels_stand_for_both_and_take_the_place_of_pseudo_labels(document, make):
    def keep_two(found):
        found["images"] = found["images"][1:3]
        kept = {image["id"] for image in found["images"]}
        found["annotations"] = [a for a in found["annotations"] if a["image_id"] in kept]

    entry = document("two", keep_two)
    cfg = make(entry)
    records, mapper = training_records(cfg, 2), LabelMapper(cfg)
    assert [record.get("truth") for record in records] == [None] * 2 + [entry[0]] * 2
    assert len({record["file_name"] for record in records}) == len(records) == 4
    for record in records[2:]:
        assert torch.equal(*mapper(record)["labels"])
    y_crf, y_ret = mapper._labels(records[2])
    np.testing.assert_array_equal(y_crf, y_ret)
    assert (y_crf[:6, :6] == 0).all() and (y_crf > 0).sum() == 14 * 30, (
        "no mark of the pseudo label"
    )


def test_under_mask_supervision_the_training_data_are_the_truth(document, make):
    name, *_ = entry = document("all", lambda found: None)
    keys = {"DATASETS.TRAIN": (name,), "WSIS.SUPERVISION": "mask"}
    cfg = make(entry, **keys, **{"MODEL.SEGMENTOR.STRONG_DATASETS": []})
    records = training_records(cfg, 2)
    assert [record["truth"] for record in records] == [name] * 4
    assert (LabelMapper(cfg)(records[0])["labels"] > 0).any()


def test_true_labels_may_be_a_folder(tmp_path, labels, make):
    entry = label_entry(f"{make.name}_true", tmp_path, sem_seg=labels / "y_ret")
    records = training_records(make(entry), 2)
    assert [record.get("truth") for record in records] == [entry[0]] * 4


def refused(cfg, match, error=ConfigError, number=2):
    with pytest.raises(error, match=match):
        training_records(cfg, number)


def test_mistakes_are_named(labels, make):
    cfg = make()
    refused(cfg, r"LABELS: found \['y_crf', 'y_ret'\], expected 1 name", number=1)
    cfg.MODEL.SEGMENTOR.STRONG_DATASETS = [make.name]
    refused(cfg, f"STRONG_DATASETS: '{make.name}' is in DATASETS.TRAIN too")
    keys = {"MODEL.SEGMENTOR.LABELS": ["y_crf", "y_other"]}
    refused(make(**keys), f"'{make.name}' has no label 'y_other'")
    (labels / "manifest.json").unlink()
    text = r"y_crf: no manifest\.json .* not a teacher's; .* MODEL\.SEGMENTOR\.STRONG_DATASETS"
    refused(make(), text)
    write_manifest(labels, {}, PAIR, ["tall", "wide"])
    refused(make(), "key 'classes'", DataError)
    write_manifest(labels, {}, PAIR, ["wide", "tall"])
    cfg = make()
    write_label(labels / "y_crf" / "1.png", np.full((SIZE, SIZE), 3, dtype=np.uint8))
    with pytest.raises(DataError, match=r"1\.png: found the value 3, expected 0 to 2 or 255"):
        LabelMapper(cfg)(training_records(cfg, 2)[0])
    (labels / "y_ret" / "3.png").unlink()
    refused(make(), r"y_ret.3\.png", DataError)
    shutil.rmtree(labels / "y_ret")
    refused(make(), "no such folder", DataError)


def test_true_labels_of_other_classes_are_refused(document, make):
    entry = document("other", lambda found: found["categories"][0].update(name="other"))
    refused(make(entry), f"classes of '{entry[0]}' are not those")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("INPUT.FORMAT", "L", r"INPUT\.FORMAT: found 'L', expected RGB or BGR"),
        ("INPUT.HIGH_BIT_DEPTH", "no", r"INPUT\.HIGH_BIT_DEPTH: found 'no'"),
        ("SOLVER.IMS_PER_BATCH", 0, r"SOLVER\.IMS_PER_BATCH: found 0, expected a multiple"),
    ],
)
def test_values_that_cannot_be_are_named(make, key, value, message):
    with pytest.raises(ConfigError, match=message):
        BANASegmentor.build_train_loader(make(**{key: value}))


def test_true_data_are_checked_before_the_training(tmp_path, labels, make):
    """An image of a strong dataset, and a true label of the dataset that is evaluated at the end."""
    shutil.copytree(tmp_path / "data", tmp_path / "other" / "data")
    cfg = make(data_entry(f"{make.name}_true", tmp_path / "other"))
    BANASegmentor.check_training_data(cfg)
    (tmp_path / "other" / "data" / "2.png").unlink()
    with pytest.raises(DataError, match=r"image 2: .*2\.png: cannot be read as an image"):
        BANASegmentor.check_training_data(cfg)
    shutil.copytree(labels / "y_ret", tmp_path / "truth")
    cfg = make(label_entry(f"{make.name}_test", tmp_path, sem_seg=tmp_path / "truth"))
    cfg.MODEL.SEGMENTOR.STRONG_DATASETS, cfg.DATASETS.TEST = [], (f"{make.name}_test",)
    prepare_datasets(cfg, [make.name, f"{make.name}_test"])
    BANASegmentor.check_training_data(cfg)
    (tmp_path / "truth" / "4.png").unlink()
    with pytest.raises(DataError, match=r"truth.4\.png: cannot be read as a label map"):
        BANASegmentor.check_training_data(cfg)


def test_a_dataset_without_images_is_refused(document, make):
    document("boxes", lambda found: found.update(images=[], annotations=[]))
    refused(make(), f"DATASETS.TRAIN: {make.name}: found no image", DataError)


def test_more_classes_than_a_byte_can_name_are_refused(document):
    more = [{"id": i, "name": f"class {i}"} for i in range(100, 353)]
    entry = document("many", lambda found: found["categories"].extend(more))
    register_dataset(*entry)
    with pytest.raises(ConfigError, match=f"'{entry[0]}' has 255 classes, expected at most 254"):
        truth_reader(entry[0])

"""Loaders: what is in a batch, in which order, and what cannot be loaded."""

import numpy as np
import pytest
import torch
from detectron2.utils.env import seed_all_rng

from wsis.data.build import build_train_loader, training_dicts
from wsis.data.dicts import to_dicts
from wsis.data.registration import get_source
from wsis.engine import WsisTrainer
from wsis.engine.generation import check_generation
from wsis.errors import ConfigError, DataError


def take(loader, number):
    iterator = iter(loader)
    return [next(iterator) for _ in range(number)]


def ids(batches):
    return [inputs["image_id"] for batch in batches for inputs in batch]


def test_images_without_objects_follow_the_key(make_document, register, make_cfg):
    document = make_document((2, 0, 1))
    document["annotations"][2]["iscrowd"] = 1
    name = register(document)
    assert [d["image_id"] for d in training_dicts(make_cfg(train=(name,)))] == [1]
    cfg = make_cfg("DATALOADER.FILTER_EMPTY_ANNOTATIONS", False, train=(name,))
    assert [d["image_id"] for d in training_dicts(cfg)] == [1, 2, 3]
    batches = take(build_train_loader(cfg), 3)
    assert sorted(ids(batches[:3]))[0] == 1
    for inputs in (i for batch in batches for i in batch):
        assert len(inputs["instances"]) == (2 if inputs["image_id"] == 1 else 0)


def test_several_datasets_follow_each_other(make_document, register, make_cfg):
    document = make_document((1, 2))
    names = register(document), register(document)
    dicts = training_dicts(make_cfg(train=names))
    assert [d["image_id"] for d in dicts] == [1, 2, 1, 2]


def test_masks_only_as_the_supervision_allows(make_document, register, make_cfg):
    name = register(make_document((1,), info={"wsis": {"version": "0"}}))
    for supervision, kept in (("box", False), ("image", False), ("proxy", True), ("mask", True)):
        cfg = make_cfg("WSIS.SUPERVISION", supervision, train=(name,))
        (annotation,) = training_dicts(cfg)[0]["annotations"]
        assert ("segmentation" in annotation) == kept


def test_masks_of_score_0_are_counted(make_document, register, make_cfg, caplog):
    document = make_document((1, 2), info={"wsis": {"version": "0"}})
    for annotation, score in zip(document["annotations"], (0.0, 0.5, 0.0), strict=True):
        annotation["score"] = score
    name = register(document)
    training_dicts(make_cfg("WSIS.SUPERVISION", "box", train=(name,)))
    assert "mask loss" not in caplog.text
    training_dicts(make_cfg("WSIS.SUPERVISION", "proxy", train=(name,)))
    assert "2 of 3 masks with a score of 0: left out of the mask loss" in caplog.text


def test_tags_are_no_boxes(make_document, register, make_cfg, caplog):
    """No box passes, images without a tag are told, and what learns from boxes is refused before any work."""
    document = make_document((1, 0, 2))
    for annotation in document["annotations"]:
        del annotation["bbox"]
    name = register(document)
    cfg = make_cfg("WSIS.SUPERVISION", "image", train=(name,))
    dicts = training_dicts(cfg)
    assert [(d["image_id"], len(d["annotations"])) for d in dicts] == [(1, 1), (3, 2)]
    assert "1 image without tags left out; DATALOADER.FILTER_EMPTY_ANNOTATIONS" in caplog.text
    with pytest.raises(ConfigError, match="found 'image', expected box, proxy or mask"):
        build_train_loader(cfg)
    cfg.MODEL.META_ARCHITECTURE = "GrabCut"
    with pytest.raises(ConfigError, match="found 'image', expected box: GrabCut makes masks of"):
        WsisTrainer.build_test_loader(cfg, name)
    with pytest.raises(ConfigError, match="found 'image', expected box: GrabCut makes masks of"):
        check_generation(cfg)


def test_nothing_to_train_on_and_no_size_of_batch(make_document, register, make_cfg):
    name = register(make_document((0, 0)))
    with pytest.raises(DataError, match=r"test_\w+\.json: nothing .*: found 2 images and 0 annot"):
        training_dicts(make_cfg(train=(name,)))
    with pytest.raises(ConfigError, match=r"DATASETS\.TRAIN: found nothing"):
        training_dicts(make_cfg())
    empty = register(make_document(()))
    with pytest.raises(DataError, match="nothing to train on: found 0 images"):
        training_dicts(make_cfg("DATALOADER.FILTER_EMPTY_ANNOTATIONS", False, train=(empty,)))
    with pytest.raises(DataError, match="key 'images': the list is empty"):
        WsisTrainer.build_test_loader(make_cfg(test=(empty,)), empty)
    with pytest.raises(ConfigError, match=r"SOLVER\.IMS_PER_BATCH: found 0"):
        build_train_loader(make_cfg("SOLVER.IMS_PER_BATCH", 0, train=(name,)))


def test_keys_of_the_datasets_are_obeyed(make_document, register, make_cfg):
    document = make_document((3,))
    document["annotations"][0]["bbox"] = [500, 500, 3, 3]
    opts = ("DATASETS.BAD_BOX", "skip", "DATASETS.CLASS_AGNOSTIC", True)
    annotations = training_dicts(make_cfg(*opts, train=(register(document),)))[0]["annotations"]
    assert [(a["id"], a["category_id"]) for a in annotations] == [(101, 0), (102, 0)]


@pytest.mark.parametrize("grouping", [True, False])
def test_batches(make_document, register, make_cfg, grouping):
    name = register(make_document((1, 2, 3, 1)))
    cfg = make_cfg("DATALOADER.ASPECT_RATIO_GROUPING", grouping, train=(name,))
    batches = take(build_train_loader(cfg), 6)
    assert all(len(batch) == 2 for batch in batches)
    order = ids(batches)
    for epoch in range(0, 12, 4):
        assert sorted(order[epoch : epoch + 4]) == [1, 2, 3, 4]
    shapes = {tuple(i["image"].shape) for batch in batches for i in batch}
    assert shapes <= {(3, 40, 53), (3, 72, 96)}


def test_rare_classes_repeat(make_document, register, make_cfg):
    document = make_document((1,) * 8)
    for annotation in document["annotations"]:
        annotation["category_id"] = 4
    document["annotations"][5]["category_id"] = 9
    opts = ("DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler")
    cfg = make_cfg(*opts, "DATALOADER.REPEAT_THRESHOLD", 1.0, train=(register(document),))
    order = ids(take(build_train_loader(cfg), 40))
    assert order.count(6) > 1.5 * max(order.count(i) for i in (1, 2, 3, 4, 5, 7, 8))


@pytest.mark.parametrize("workers", [0, 2])
def test_the_same_seed_gives_the_same_batches(make_document, register, make_cfg, workers):
    name = register(make_document((1, 2, 3, 1, 2)))
    cfg = make_cfg("DATALOADER.NUM_WORKERS", workers, "INPUT.CROP.ENABLED", True, train=(name,))

    def pixels(seed):
        seed_all_rng(seed)
        return [i["image"].clone() for batch in take(build_train_loader(cfg), 4) for i in batch]

    first, again, other = pixels(1), pixels(1), pixels(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_workers_draw_different_numbers(make_document, register, make_cfg):
    opts = ("DATALOADER.NUM_WORKERS", 2, "INPUT.CROP.ENABLED", True, "INPUT.CROP.SIZE", [0.5, 0.5])
    cfg = make_cfg(*opts, train=(register(make_document((1,))),))
    batches = take(build_train_loader(cfg), 6)
    images = [i["image"].numpy().tobytes() for batch in batches for i in batch]
    assert len(set(images)) > 6


def test_a_student_is_tested_on_images_alone(make_document, register, make_cfg):
    name = register(make_document((2, 0, 1)))
    batches = list(WsisTrainer.build_test_loader(make_cfg(test=(name,)), name))
    assert ids(batches) == [1, 2, 3]
    for (inputs,) in batches:
        assert "instances" not in inputs
        assert "annotations" not in inputs
        assert inputs["image"].shape == (3, 96, 128)


def test_a_teacher_is_tested_on_the_boxes(make_document, register, make_cfg):
    name = register(make_document((2, 0, 1)))
    cfg = make_cfg("MODEL.META_ARCHITECTURE", "FilledBox", test=(name,))
    batches = list(WsisTrainer.build_test_loader(cfg, name))
    source = to_dicts(get_source(name, bad_box="skip"), "box")
    for (inputs,), record in zip(batches, source, strict=True):
        boxes = np.array([a["bbox"] for a in record["annotations"]]).reshape(-1, 4)
        assert np.array_equal(inputs["instances"].original_boxes.numpy(), boxes)
        assert inputs["original_image"].shape == (48, 64, 3)

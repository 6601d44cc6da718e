"""The guard's proof: under box supervision a file with masks gives the batches of one without."""

import copy

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils.env import seed_all_rng

from wsis.data.build import build_train_loader
from wsis.structures.rle import encode_mask

MASK_KEYS = ("segmentation", "ignore_segmentation", "score", "area", "keypoints", "num_keypoints")


def with_masks(document):
    """Every form of mask, right and degenerate, and boxes that do not fit them."""
    document = copy.deepcopy(document)
    wrong = [
        [[5, 5, 5, 5, 5, 5]],  # no area
        [[1, 2, 3, 4]],  # no polygon; Detectron2's reader drops the annotation
        [],
        encode_mask(np.zeros((48, 64), dtype=bool)),
        {"size": [48, 64], "counts": [48 * 64]},
        [[0, 0, 3, 0, 3, 3], [50, 40, 60, 40, 55, 47]],  # two far corners
        {"size": [1, 1], "counts": "garbage"},
    ]
    for annotation, segmentation in zip(document["annotations"][1:], wrong, strict=False):
        annotation.update(segmentation=segmentation, area=0, score=0.1)
        annotation.update(keypoints=[4, 5, 2], num_keypoints=1)
        annotation["ignore_segmentation"] = encode_mask(np.ones((48, 64), dtype=bool))
    for image in document["images"]:
        image["void"] = encode_mask(np.ones((48, 64), dtype=bool))
    return document


def without_masks(document):
    document = copy.deepcopy(document)
    for annotation in document["annotations"]:
        for key in MASK_KEYS:
            annotation.pop(key, None)
    for image in document["images"]:
        image.pop("void", None)
    return document


@pytest.fixture
def documents(make_document):
    masked = with_masks(make_document((3, 2, 4, 1)))
    plain = without_masks(masked)
    assert masked != plain
    return masked, plain


def register_in_detectron2(document, register):
    """As a user's own Python does it: the JSON goes through `register_coco_instances`."""
    mine = register(document)
    name = f"{mine}_detectron2"
    metadata = MetadataCatalog.get(mine)
    register_coco_instances(name, {}, metadata.json_file, metadata.image_root)
    return name


def register_dicts(document, register):
    """As a user's own Python does it: a function that returns dicts."""
    root = MetadataCatalog.get(register(document)).image_root
    position = {4: 0, 9: 1}
    dicts = []
    for image in document["images"]:
        annotations = [a for a in document["annotations"] if a["image_id"] == image["id"]]
        record = {"image_id": image["id"], "file_name": f"{root}/{image['file_name']}"}
        record["annotations"] = [
            {**a, "bbox_mode": BoxMode.XYWH_ABS, "category_id": position[a["category_id"]]}
            for a in annotations
        ]
        dicts.append({**image, **record})
    name = f"dicts_{id(dicts)}"
    DatasetCatalog.register(name, lambda: dicts)
    MetadataCatalog.get(name).set(thing_classes=["cat", "dog"])
    return name


def same(a, b):
    if isinstance(a, Instances):
        a, b = ({"size": v.image_size, **v.get_fields()} for v in (a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, Boxes):
        return torch.equal(a.tensor, b.tensor)
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def batches(cfg, number=8):
    seed_all_rng(7)
    iterator = iter(build_train_loader(cfg))
    return [next(iterator) for _ in range(number)]


@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize("registered", [None, register_in_detectron2, register_dicts])
def test_batches_are_identical(documents, register, make_cfg, registered, crop):
    opts = ("INPUT.CROP.ENABLED", crop, "INPUT.CROP.SIZE", [0.4, 0.4])
    names = [registered(d, register) if registered else register(d) for d in documents]
    found = [batches(make_cfg(*opts, train=(name,))) for name in names]
    assert same(*found)
    instances = [inputs["instances"] for batch in found[0] for inputs in batch]
    assert all(set(i.get_fields()) == {"gt_boxes", "gt_classes", "gt_ids"} for i in instances)
    seen = {i for one in instances for i in one.gt_ids.tolist()}
    assert seen == {a["id"] for a in documents[1]["annotations"]}


def test_the_comparison_can_fail(documents, register, make_cfg):
    moved = copy.deepcopy(documents[1])
    moved["annotations"][3]["bbox"][0] += 1
    found = [batches(make_cfg(train=(register(d),))) for d in (documents[1], moved)]
    assert not same(*found)


def test_with_masks_a_crop_leaves_boxes_and_order_as_without(make_document, register, make_cfg):
    document = make_document((3, 2))
    opts = ("INPUT.CROP.ENABLED", True, "INPUT.CROP.SIZE", [0.5, 0.5])
    masked = ("WSIS.SUPERVISION", "mask", "MODEL.MASK_ON", True)
    found = [
        batches(make_cfg(*opts, *masked, train=(register(document),))),
        batches(make_cfg(*opts, train=(register(without_masks(document)),))),
    ]
    for one, other in zip(*found, strict=True):
        for inputs, plain in zip(one, other, strict=True):
            for field in ("gt_masks", "gt_scores"):
                inputs["instances"].remove(field)
            assert same(inputs, plain)

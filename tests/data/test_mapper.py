"""Mappers: boxes decide what stays, masks ride along, teachers get every box."""

import copy

import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from detectron2.data import transforms as T
from PIL import Image

from tests.data.builders import save_turned
from tests.masks import rectangle
from wsis.data.dicts import to_dicts
from wsis.data.mapper import TeacherDatasetMapper, WsisDatasetMapper
from wsis.data.registration import get_source
from wsis.errors import ConfigError, DataError
from wsis.structures.rle import decode_mask, encode_mask

SIZE = (48, 64)
PLAIN = {"gt_boxes", "gt_classes", "gt_ids"}
INPUT = {"image_format": "RGB", "high_bit_depth": "minmax"}


def mapper(*augmentations, masks=True):
    return WsisDatasetMapper(True, augmentations=augmentations, use_masks=masks, **INPUT)


@pytest.fixture
def image(make_document, register):
    """``image(objects=3)``: one dataset dict with masks."""
    return lambda objects=3: to_dicts(get_source(register(make_document((objects,)))))[0]


def box_code(*corners):
    return encode_mask(rectangle(SIZE, *corners))


def test_fields_without_transforms(image):
    given = image(3)
    before = copy.deepcopy(given)
    result = mapper()(given)
    assert given == before
    instances = result["instances"]
    assert set(result) == {*given, "image", "instances"} - {"annotations"}
    assert set(instances.get_fields()) == {*PLAIN, "gt_masks", "gt_scores"}
    assert instances.image_size == SIZE
    assert instances.gt_boxes.tensor.tolist() == [a["bbox"] for a in given["annotations"]]
    assert instances.gt_classes.tolist() == [0, 1, 0]
    assert instances.gt_ids.tolist() == [100, 101, 102]
    assert instances.gt_scores.tolist() == [1.0, 1.0, 1.0]
    masks = [decode_mask(a["segmentation"]) for a in given["annotations"]]
    assert np.array_equal(instances.gt_masks.tensor.numpy(), np.stack(masks))
    pixels = np.asarray(Image.open(given["file_name"]))
    assert np.array_equal(result["image"].numpy(), pixels.transpose(2, 0, 1))


def test_nothing_is_made_that_nobody_wants(image):
    assert set(mapper(masks=False)(image())["instances"].get_fields()) == PLAIN
    result = WsisDatasetMapper(False, augmentations=[T.Resize((24, 32))], **INPUT)(image())
    assert "instances" not in result and "annotations" not in result
    assert result["image"].shape == (3, 24, 32)
    assert (result["height"], result["width"]) == SIZE
    given = image()
    bgr = WsisDatasetMapper(False, augmentations=[], **{**INPUT, "image_format": "BGR"})(given)
    assert torch.equal(bgr["image"], mapper()(given)["image"].flip(0))


def test_rotated_by_exif_as_the_json_says(image, tmp_path):
    given = image()
    stored = np.zeros((64, 48, 3), dtype=np.uint8)
    stored[0] = 255
    given["file_name"] = str(save_turned(tmp_path / "r.png", stored, 6))
    result = mapper()(given)["image"]
    assert result.shape == (3, *SIZE)
    assert (result[:, :, -1] == 255).all()
    assert (result[:, :, :-1] == 0).all()


def test_a_wrong_size_and_a_broken_code_are_named(image):
    given = image(1)
    with pytest.raises(DataError, match=r"1\.png.*64x48.*64x47"):
        mapper()({**given, "height": 47})
    given["annotations"][0]["segmentation"]["counts"] = "garbage"
    with pytest.raises(DataError, match=r"1\.png: image 1: a mask cannot be decoded"):
        mapper()(given)


def test_ignore_masks_scores_and_ids_follow_flip_and_resize(image):
    given, ignored = image(), rectangle(SIZE, 10, 5, 40, 30)
    given["annotations"][0]["score"] = 0.25
    given["annotations"][1].update(ignore_segmentation=encode_mask(ignored), score=0.5)
    transforms = T.TransformList([T.ResizeTransform(*SIZE, 72, 90), T.HFlipTransform(90)])
    instances = mapper(*transforms.transforms)(given)["instances"]
    expected = np.zeros((3, 72, 90), dtype=bool)
    expected[1] = transforms.apply_segmentation(ignored.astype(np.uint8))
    assert np.array_equal(instances.gt_ignore_masks.tensor.numpy(), expected)
    assert instances.gt_scores.tolist() == [0.25, 0.5, 1.0]
    assert instances.gt_ids.tolist() == [100, 101, 102]
    for row, annotation in zip(instances.gt_masks.tensor, given["annotations"], strict=True):
        mask = decode_mask(annotation["segmentation"]).astype(np.uint8)
        assert np.array_equal(row.numpy(), transforms.apply_segmentation(mask))
        x0, y0, x1, y1 = annotation["bbox"]
        box = [(64 - x1) * 90 / 64, y0 * 1.5, (64 - x0) * 90 / 64, y1 * 1.5]
        index = annotation["id"] - 100
        assert instances.gt_boxes.tensor[index].tolist() == pytest.approx(box, abs=1e-4)


def test_a_crop_that_empties_a_mask_keeps_its_box_and_none_tightens_one(image):
    given = image(2)
    first, second = given[
        "annotations"
    ]  # the first fills the left of its box, where the second lies
    first.update(bbox=[0, 0, 64, 48], segmentation=box_code(0, 0, 10, 48))
    second.update(bbox=[2, 2, 10, 10], segmentation=box_code(2, 2, 10, 10))
    instances = mapper(T.CropTransform(32, 0, 32, 48))(given)["instances"]
    assert instances.gt_ids.tolist() == [100]
    assert instances.gt_boxes.tensor.tolist() == [[0, 0, 32, 48]]
    assert not instances.gt_masks.tensor.any()
    assert instances.gt_scores.tolist() == [0.0]
    instances = mapper(T.CropTransform(5, 0, 50, 48))(given)["instances"]
    assert instances.gt_boxes.tensor.tolist() == [[0, 0, 50, 48], [0, 2, 5, 10]]
    assert instances.gt_scores.tolist() == [1.0, 1.0]
    assert instances.gt_masks.tensor.sum(dim=(1, 2)).tolist() == [5 * 48, 5 * 8]


def test_an_annotation_without_mask_has_score_0(image):
    given = image()
    del given["annotations"][1]["segmentation"]
    instances = mapper()(given)["instances"]
    assert instances.gt_scores.tolist() == [1.0, 0.0, 1.0]
    assert instances.gt_masks.tensor.flatten(1).any(dim=1).tolist() == [True, False, True]


def test_polygons_are_rasterised_as_pycocotools_does(image):
    polygons = [[3.2, 4.1, 30.7, 5.5, 20.0, 40.9], [40, 10, 60, 10, 60, 30, 40, 30]]
    given = image(1)
    given["annotations"][0]["segmentation"] = polygons
    instances = mapper()(given)["instances"]
    code = coco_mask.merge(coco_mask.frPyObjects(polygons, *SIZE))
    assert np.array_equal(instances.gt_masks.tensor[0].numpy(), coco_mask.decode(code) != 0)


def test_crowds_and_annotations_without_box_are_left_out_and_all_may_be(image):
    given = image()
    given["annotations"][0]["iscrowd"] = 1
    del given["annotations"][1]["bbox"]
    assert mapper()(given)["instances"].gt_ids.tolist() == [102]
    instances = mapper(T.HFlipTransform(64))(image(0))["instances"]
    assert len(instances) == 0
    assert instances.gt_boxes.tensor.shape == (0, 4)
    assert instances.gt_masks.tensor.shape == (0, *SIZE)


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (("WSIS.SUPERVISION", "box"), "MODEL.MASK_ON: masks are needed.*proxy or mask"),
        (("INPUT.MASK_FORMAT", "polygon"), "INPUT.MASK_FORMAT: found 'polygon', expected bitmask"),
        (("MODEL.KEYPOINT_ON", True), "MODEL.KEYPOINT_ON"),
        (("MODEL.LOAD_PROPOSALS", True), "MODEL.LOAD_PROPOSALS"),
        (("INPUT.FORMAT", "L"), "INPUT.FORMAT: found 'L', expected RGB or BGR"),
        (("INPUT.HIGH_BIT_DEPTH", "log"), "INPUT.HIGH_BIT_DEPTH: found 'log'"),
    ],
)
def test_settings_that_cannot_work(make_cfg, opts, message):
    cfg = make_cfg("MODEL.MASK_ON", True, "WSIS.SUPERVISION", "proxy", *opts)
    with pytest.raises(ConfigError, match=message):
        WsisDatasetMapper(cfg, is_train=True)


def test_from_config(make_cfg):
    opts = ("MODEL.MASK_ON", True, "WSIS.SUPERVISION", "mask", "INPUT.CROP.ENABLED", True)
    made = WsisDatasetMapper(make_cfg(*opts), is_train=True)
    assert made.use_masks
    names = [type(a).__name__ for a in made.augmentations.augs]
    assert names == ["RandomCrop", "ResizeShortestEdge", "RandomFlip"]
    assert not WsisDatasetMapper(make_cfg(*opts), is_train=False).use_masks


def test_teacher_gets_every_box_in_both_frames(make_cfg, image):
    given = image()
    given["annotations"][1]["iscrowd"] = 1
    result = TeacherDatasetMapper(make_cfg("INPUT.FORMAT", "RGB"))(given)
    assert set(result) == {*given, "image", "instances", "crowd_boxes"} - {"annotations"}
    assert result["crowd_boxes"].tolist() == [given["annotations"][1]["bbox"]]
    assert result["image"].shape == (3, 96, 128)
    instances = result["instances"]
    assert instances.image_size == (96, 128)
    boxes = torch.tensor([given["annotations"][i]["bbox"] for i in (0, 2)])
    assert torch.equal(instances.original_boxes, boxes)
    assert torch.equal(instances.gt_boxes.tensor, 2 * boxes)
    assert instances.gt_classes.tolist() == [0, 0]
    assert instances.annotation_ids.tolist() == [100, 102]
    assert instances.annotation_ids.dtype == torch.int64


def test_teacher_keeps_the_original_in_rgb(make_cfg, image):
    given = image(0)
    result = TeacherDatasetMapper(make_cfg(), keep_original=True)(given)
    assert np.array_equal(result["original_image"], np.asarray(Image.open(given["file_name"])))
    assert len(result["instances"]) == 0 and "crowd_boxes" not in result
    assert result["instances"].original_boxes.shape == (0, 4)


def test_teacher_reads_no_image_without_need_and_never_a_mask(make_cfg, image):
    given = {**image(2), "file_name": "nowhere.png"}
    result = TeacherDatasetMapper(make_cfg(), needs_image=False)(given)
    assert "image" not in result
    assert result["instances"].image_size == SIZE
    boxes = result["instances"].gt_boxes.tensor
    assert torch.equal(boxes, result["instances"].original_boxes)
    given = {**image(2), "void": box_code(0, 0, 4, 4)}
    result = TeacherDatasetMapper(make_cfg())(given)
    assert "void" not in result
    assert not any("mask" in name for name in result["instances"].get_fields())

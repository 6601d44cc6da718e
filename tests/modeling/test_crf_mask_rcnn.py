"""Masks refined by the CRF where they are pasted: the same detections, other masks."""

import copy

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from tests.golden.reference import paste_bordered
from tests.masks import needs_crf
from tests.tiny import SIZE, write_config, write_dataset
from wsis.config import load_cfg
from wsis.data.registration import prepare_datasets
from wsis.engine import WsisTrainer
from wsis.errors import ConfigError
from wsis.layers.dense_crf import DenseCRFParams
from wsis.layers.paste_crf import paste_with_crf
from wsis.modeling.crf_mask_rcnn import CRFMaskRCNN

pytestmark = needs_crf
CRF = DenseCRFParams(3.0, 1.0, 4.0, 67.0, 3.0, iterations=10)


@pytest.fixture
def cfg(tmp_path):
    write_dataset(tmp_path / "data", 2)
    keys = {"MODEL__META_ARCHITECTURE": "CRFMaskRCNN", "MODEL__MASK_ON": True}
    keys |= {"WSIS__SUPERVISION": "mask", "INPUT__MIN_SIZE_TEST": SIZE * 3 // 2}
    config = write_config(tmp_path, tmp_path / "data", **keys, TEST={"DETECTIONS_PER_IMAGE": 4})
    cfg = load_cfg(config, ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"])
    prepare_datasets(cfg, ["tiny"])
    return cfg


def plain_of(cfg, model):
    """Mask R-CNN with the same weights."""
    cfg = cfg.clone()
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    plain = build_model(cfg).eval()
    plain.load_state_dict(model.state_dict())
    return plain


@torch.no_grad()
def test_detections_are_mask_r_cnns(cfg):
    model = build_model(cfg).eval()
    for batch in WsisTrainer.build_test_loader(cfg, "tiny"):
        found, expected = (m(batch)[0]["instances"] for m in (model, plain_of(cfg, model)))
        assert 0 < len(found) == len(expected)
        assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
        assert torch.equal(found.scores, expected.scores)
        shape = expected.pred_masks.shape
        assert (found.pred_masks.shape, found.pred_masks.dtype) == (shape, torch.bool)


@torch.no_grad()
def test_masks_are_refined_on_the_image_at_its_original_size(cfg):
    model = build_model(cfg).eval()
    torch.nn.init.normal_(model.roi_heads.mask_head.predictor.weight, std=0.1)
    (inputs,) = next(iter(WsisTrainer.build_test_loader(cfg, "tiny")))
    assert inputs["image"].shape == (3, 96, 96)
    assert inputs["original_image"].shape == (SIZE, SIZE, 3)
    boxes = torch.tensor([[6.0, 9, 60, 45], [100, 100, 120, 120], [30, 30, 96, 90]])
    given = Instances((96, 96), pred_boxes=Boxes(boxes), pred_classes=torch.tensor([0, 1, 1]))
    raw, (found,) = (
        model.inference([inputs], [copy.deepcopy(given)], do_postprocess=post)
        for post in (False, True)
    )
    found, probabilities = found["instances"], raw[0].pred_masks[[0, 2], 0].numpy()
    assert found.pred_classes.tolist() == [0, 1], "a box outside of the image has no mask"
    pairs = zip(found.pred_masks, probabilities, found.pred_boxes.tensor.numpy(), strict=True)
    for mask, probability, box in pairs:
        expected = paste_with_crf(inputs["original_image"], probability, box, CRF)
        assert np.array_equal(mask.numpy(), expected)
        assert expected.any() and (expected != paste_bordered(probability, box, SIZE, SIZE)).any()


@torch.no_grad()
def test_without_detections_and_other_models_get_no_second_image(cfg):
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 1.0
    (result,) = build_model(cfg).eval()(next(iter(WsisTrainer.build_test_loader(cfg, "tiny"))))
    assert result["instances"].pred_masks.shape == (0, SIZE, SIZE)
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    assert "original_image" not in next(iter(WsisTrainer.build_test_loader(cfg, "tiny")))[0]


def test_it_trains_as_mask_r_cnn_and_needs_a_mask_head(cfg):
    model = build_model(cfg)
    assert isinstance(model, CRFMaskRCNN)
    assert list(model.state_dict()) == list(plain_of(cfg, model).state_dict())
    cfg.MODEL.MASK_ON = False
    with pytest.raises(ConfigError, match="needs MODEL.MASK_ON True"):
        build_model(cfg)

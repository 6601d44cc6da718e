"""Masks refined by the CRF where they are pasted: the same detections, other masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from tests.tiny import SIZE, write_config, write_dataset
from wsis.config import load_cfg
from wsis.data.build import build_test_loader
from wsis.data.registration import prepare_datasets
from wsis.errors import ConfigError
from wsis.layers.dense_crf import DenseCRFParams
from wsis.layers.paste_crf import paste_with_crf
from wsis.modeling.crf_mask_rcnn import CRFMaskRCNN

KEYS = {"MODEL__MASK_ON": True, "WSIS__SUPERVISION": "mask"}
CRF = DenseCRFParams(3.0, 1.0, 4.0, 67.0, 3.0, iterations=10)


@pytest.fixture
def cfg(tmp_path):
    write_dataset(tmp_path / "data", 2)
    config = write_config(
        tmp_path,
        tmp_path / "data",
        MODEL__META_ARCHITECTURE="CRFMaskRCNN",
        INPUT__MIN_SIZE_TEST=SIZE * 3 // 2,
        TEST={"DETECTIONS_PER_IMAGE": 4},
        **KEYS,
    )
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
def test_detections_are_mask_r_cnns_and_masks_are_refined(cfg):
    model = build_model(cfg).eval()
    torch.nn.init.normal_(model.roi_heads.mask_head.predictor.weight, std=0.2)
    plain, loader = plain_of(cfg, model), build_test_loader(cfg, "tiny")
    for batch in loader:
        assert batch[0]["original_image"].shape == (SIZE, SIZE, 3)
        (found,), (expected,) = model(batch), plain(batch)
        found, expected = found["instances"], expected["instances"]
        assert 0 < len(found) == len(expected)
        assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
        assert torch.equal(found.scores, expected.scores)
        assert found.pred_masks.shape == expected.pred_masks.shape
        assert found.pred_masks.dtype == torch.bool
        (raw,) = plain.inference(batch, do_postprocess=False)
        raw = raw[torch.isin(raw.scores, found.scores)]  # without boxes outside of the image
        boxes = found.pred_boxes.tensor.numpy()
        for mask, probability, box in zip(found.pred_masks, raw.pred_masks, boxes, strict=True):
            refined = paste_with_crf(batch[0]["original_image"], probability[0].numpy(), box, CRF)
            assert np.array_equal(mask.numpy(), refined)
        assert (found.pred_masks != expected.pred_masks).any()


@torch.no_grad()
def test_without_detections(cfg):
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 1.0
    (result,) = build_model(cfg).eval()(next(iter(build_test_loader(cfg, "tiny"))))
    assert result["instances"].pred_masks.shape == (0, SIZE, SIZE)


def test_other_models_get_no_second_image(cfg):
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    assert "original_image" not in next(iter(build_test_loader(cfg, "tiny")))[0]


def test_it_trains_as_mask_r_cnn_and_needs_a_mask_head(cfg):
    assert isinstance(build_model(cfg), CRFMaskRCNN)
    assert list(build_model(cfg).state_dict()) == list(plain_of(cfg, build_model(cfg)).state_dict())
    cfg.MODEL.MASK_ON = False
    with pytest.raises(ConfigError, match="needs MODEL.MASK_ON True"):
        build_model(cfg)

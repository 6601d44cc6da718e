"""One image in a notebook."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import wsis
from wsis.errors import ConfigError, DataError

IMAGE = np.zeros((20, 30, 3), dtype=np.uint8)


def make(architecture="FilledBox", device="cpu"):
    cfg = wsis.get_cfg()
    cfg.MODEL.update(META_ARCHITECTURE=architecture, DEVICE=device)
    return wsis.ProxyPredictor(cfg)


def test_one_mask_per_box_at_the_size_of_the_image():
    predictor = make()
    result = predictor(IMAGE, [[2, 3, 8, 9], [25, 15, 40, 40]], [1, 0])
    assert result.pred_masks.shape == (2, 20, 30)
    assert result.pred_masks.sum(dim=(1, 2)).tolist() == [36, 25]
    assert result.gt_classes.tolist() == [1, 0]
    assert len(predictor(IMAGE, [])) == 0
    assert len(predictor(IMAGE, np.array([[0, 0, 1, 1.0]]))) == 1


@pytest.mark.parametrize(
    ("image", "boxes", "classes", "message"),
    [
        (IMAGE[:, :, 0], [], None, r"found uint8 \(20, 30\), expected uint8"),
        (IMAGE.astype(float), [], None, "found float64"),
        (IMAGE, [[0, 0, 1, 1], [40, 0, 50, 5]], None, "box 1: .* has no area in the image"),
        (IMAGE, [[0, 0, 1, float("nan")]], None, "box 0: .* has no area"),
        (IMAGE, [[0, 0, 1, 1]], [0, 1], "found 2, expected 1"),
        (IMAGE, [[0, 0, 1]], None, r"boxes: found an array \(1, 3\), expected \(N, 4\)"),
        (IMAGE, np.zeros((4, 2)), None, r"boxes: found an array \(4, 2\), expected \(N, 4\)"),
        (IMAGE, [[0, 0, 1, 1], [0]], None, "boxes: found no numbers"),
        (IMAGE, [[0, 0, 1, 1]], [-1], "classes: found -1, expected at least 0"),
    ],
)
def test_bad_input_is_one_line(image, boxes, classes, message):
    with pytest.raises(DataError, match=message):
        make()(image, boxes, classes)


def test_a_bad_config_is_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="MODEL.DEVICE: found cuda, .* set MODEL.DEVICE cpu"):
        make(device="cuda")
    with pytest.raises(ConfigError, match="GeneralizedRCNN is no teacher"):
        make("GeneralizedRCNN")

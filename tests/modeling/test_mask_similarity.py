"""The feature-similarity loss of a mask head."""

from __future__ import annotations

import math

import pytest
import torch
from detectron2.structures import Boxes, Instances

from tests.models import losses_and_gradient
from tests.tiny import write_config, write_dataset
from wsis.config import load_cfg
from wsis.data.registration import prepare_datasets
from wsis.engine import WsisTrainer
from wsis.layers.feature_similarity import SimilarityParams, feature_similarity_loss
from wsis.modeling.proxy_mask_head import CELL, mask_similarity_loss
from wsis.structures.shared_image import SharedImage

M = 6
PARAMS = SimilarityParams(weight=2.0)


def proposals(*boxes, gt=(0, 0, 40, 40), image=None):
    tensor = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    own = Instances((40, 40), proposal_boxes=Boxes(tensor))
    own.gt_boxes = Boxes(torch.tensor([gt], dtype=torch.float32).expand(len(tensor), 4))
    own.gt_image = SharedImage(image if image is not None else edge(), len(tensor))
    return own


def edge():
    """Dark on the left, bright from column 20 on."""
    image = torch.zeros(3, 40, 40, dtype=torch.uint8)
    image[:, :, 20:] = 255
    return image


def test_it_is_the_loss_of_the_cells_colours_with_the_width_of_the_image():
    probabilities = torch.rand(1, M, M, generator=torch.Generator().manual_seed(0))
    found = mask_similarity_loss(probabilities, [proposals((2, 4, 38, 28))], PARAMS)
    colours = torch.zeros(1, 3, M, M)
    colours[..., 3:] = 1
    y = torch.stack([probabilities, 1 - probabilities], dim=1)
    sigma = torch.tensor([[5 * CELL / (24 / M), 5 * CELL / (36 / M)]])
    torch.testing.assert_close(found, 2 * feature_similarity_loss(y, colours, 2.5, sigma))


def test_a_mask_that_follows_the_edge_is_better_than_one_beside_it():
    follows, beside = torch.zeros(2, 1, M, M)
    follows[..., 3:], beside[..., 4:] = 1, 1
    at = [proposals((0, 0, 40, 40))]
    assert mask_similarity_loss(follows, at, PARAMS) < mask_similarity_loss(beside, at, PARAMS)


def test_outside_of_the_objects_box_a_mask_is_background():
    probabilities = torch.rand(1, M, M).requires_grad_()
    at = [proposals((0, 0, 36, 36), gt=(12, 6, 30, 24))]
    mask_similarity_loss(probabilities, at, PARAMS).backward()
    expected = torch.zeros(M, M, dtype=torch.bool)
    expected[1:4, 2:5] = True
    assert torch.equal(probabilities.grad[0] != 0, expected)


def test_images_without_proposals_add_nothing():
    empty = proposals()
    logits = torch.rand(2, M, M).requires_grad_()
    boxes = (0, 0, 30, 30), (4, 4, 20, 20)
    found = mask_similarity_loss(logits, [empty, proposals(*boxes)], PARAMS)
    assert found == mask_similarity_loss(logits, [proposals(*boxes)], PARAMS)
    nothing = mask_similarity_loss(logits[:0], [empty], PARAMS)
    assert nothing == 0
    nothing.backward()


def test_an_image_is_shared_and_never_copied():
    shared = SharedImage(edge(), 5)
    parts = shared[torch.tensor([0, 0, 3])], shared[torch.arange(5) > 2], shared[1:4], shared[0]
    assert [len(part) for part in parts] == [3, 2, 3, 1]
    assert all(part.image is shared.image for part in parts)


@pytest.mark.parametrize("head", ["ProxyMaskHead", "PairMaskHead"])
def test_one_key_adds_it_to_a_student(tmp_path, head):
    write_dataset(tmp_path / "data")
    totals = {}
    for weight in (0.0, 0.5):
        keys = {"NAME": head, "NUM_CONV": 1, "CONV_DIM": 16, "POOLER_RESOLUTION": 7}
        keys |= {"SIMILARITY": {"WEIGHT": weight}}
        more = {"MODEL__MASK_ON": True, "MODEL__ROI_MASK_HEAD": keys, "WSIS__SUPERVISION": "mask"}
        cfg = load_cfg(write_config(tmp_path, tmp_path / "data", **more))
        prepare_datasets(cfg, cfg.DATASETS.TRAIN)
        torch.manual_seed(1)
        model = WsisTrainer.build_model(cfg)
        batch = next(iter(WsisTrainer.build_train_loader(cfg)))
        assert batch[0]["instances"].has("gt_image") == (weight > 0)
        totals[weight] = losses_and_gradient(model, batch)
    assert "loss_mask_similarity" not in totals[0.0]
    assert math.isfinite(totals[0.5]["loss_mask_similarity"])
    name = "roi_heads.mask_head.predictor.weight"
    assert totals[0.5][name] != totals[0.0][name]

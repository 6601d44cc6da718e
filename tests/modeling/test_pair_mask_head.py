"""The mask head of BBAM's student: what enters its loss, and what does not."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads.mask_head import build_mask_head

from tests.modeling.heads import head, loss_of, proposals
from wsis.config import load_cfg
from wsis.errors import ConfigError
from wsis.modeling.pair_mask_head import PairMaskHead
from wsis.modeling.pair_mask_loss import balanced_mask_loss, pair_mask_loss, region_targets
from wsis.structures.run_masks import RunMasks

M = 6


def pair_head(**options):
    model = head(PairMaskHead, **options)
    torch.nn.init.normal_(model.predictor.weight, std=3)
    return model


def discs(number=4, doubt=True, scores=None):
    """Foreground proposals of one image whose masks are discs, and doubt a ring around them."""
    instances = proposals(number, gt_scores=torch.ones(number))
    rows, columns = torch.meshgrid(torch.arange(40), torch.arange(50), indexing="ij")
    x, y = instances.proposal_boxes.get_centers().T[:, :, None, None]
    distance = ((columns - x) ** 2 + (rows - y) ** 2).sqrt()
    instances.gt_masks = RunMasks(distance < 4)
    if doubt:
        instances.gt_ignore_masks = RunMasks((distance >= 4) & (distance < 6))
    if scores is not None:
        instances.gt_scores = torch.tensor(scores)
    return instances


@pytest.fixture
def features():
    return torch.randn(4, 4, 3, 3)


def test_it_is_the_pair_loss_of_the_cut_out_regions(features):
    model, image = pair_head(loss_weight=2.0), discs()
    logits, masks = model.layers(features), model.targets([image], M).masks
    expected = pair_mask_loss(logits, image.gt_classes, masks, region_targets([image], M))
    assert expected > 0
    assert torch.equal(loss_of(model, features, [image]), 2 * expected)


def test_probabilities_at_which_it_grows_are_keys(features):
    image, model, losses = discs(), pair_head(), []
    for above, below in ((0.9, 0.1), (0.6, 0.4), (1.0, 0.0)):
        model.grow_above, model.grow_below = above, below
        losses.append(loss_of(model, features, [image]).item())
    assert len(set(losses)) == 3
    never = pair_head(grow_above=1.0, grow_below=0.0)
    never.load_state_dict(model.state_dict())
    assert loss_of(never, features, [image]).item() == losses[2]


def test_masks_without_doubt_have_the_balanced_loss(features):
    model, image = pair_head(), discs(doubt=False)
    masks = model.targets([image], M).masks
    expected = balanced_mask_loss(model.layers(features), image.gt_classes, masks)
    assert torch.equal(loss_of(model, features, [image]), expected)


def test_masks_of_score_0_are_left_out(features):
    model, image, kept = pair_head(), discs(scores=[1.0, 0.0, 1.0, 0.0]), torch.tensor([0, 2])
    expected = loss_of(model, features[kept], [image[kept]])
    assert torch.equal(loss_of(model, features, [image]), expected)
    strict = pair_head(score_mode="threshold", score_threshold=0.5)
    strict.load_state_dict(model.state_dict())
    image.gt_scores = torch.tensor([1.0, 0.4, 0.9, 0.2])
    assert torch.equal(loss_of(strict, features, [image]), expected)


@pytest.mark.parametrize("number", [0, 3])
def test_nothing_to_learn_from_is_zero_with_zero_gradients(number, features):
    model = pair_head()
    loss = loss_of(model, features[:number], [discs(number, scores=[0.0] * number)])
    loss.backward()
    assert loss == 0
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_mode": "weight"}, "SCORE_MODE: found 'weight', expected none or threshold"),
        ({"grow_above": 0.1, "grow_below": 0.1}, "GROW_BELOW, GROW_ABOVE: found 0.1, 0.1"),
        ({"grow_above": 1.5}, "expected two rising"),
    ],
)
def test_wrong_settings(options, message):
    with pytest.raises(ConfigError, match=message):
        pair_head(**options)


def test_it_is_built_by_name():
    keys = ["MODEL.ROI_MASK_HEAD.NAME", "PairMaskHead", "MODEL.ROI_HEADS.NUM_CLASSES", "3"]
    keys += ["MODEL.ROI_MASK_HEAD.GROW_ABOVE", "0.8"]
    model = build_mask_head(load_cfg(None, keys), ShapeSpec(channels=4, height=7, width=7))
    assert isinstance(model, PairMaskHead)
    assert (model.grow_above, model.grow_below) == (0.8, 0.1)

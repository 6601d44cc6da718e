import math

import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances
from torch.nn import functional as F

from wsis.modeling.pair_mask_loss import (
    balanced_mask_loss,
    drop_isolated,
    grown_seeds,
    pair_mask_loss,
    region_targets,
)
from wsis.modeling.proxy_mask_head import mask_targets
from wsis.structures.run_masks import RunMasks

M = 8
CLASSES = torch.tensor([2, 0])
UNSURE = torch.full((2, M, M), 0.5)


def halves():
    """Foreground: rows 0 to 2; doubt: rows 3 and 4; background below. Two masks, M x M."""
    rows = torch.arange(M)[None, :, None].expand(2, M, M)
    return rows < 3, rows < 5


def gradient_of(*value):
    """The loss of logits that are 0 but for those of the first mask's class in some rows, and its gradient."""
    logits = torch.zeros((2, 3, M, M), dtype=torch.float64)
    if value:
        logits[0, 2, value[0]] = value[1]
    logits.requires_grad_()
    loss = pair_mask_loss(logits, CLASSES, *halves())
    return loss, torch.autograd.grad(loss, logits)[0]


def test_isolated_cells_are_dropped():
    cells = torch.zeros(2, 4, 5, dtype=torch.bool)
    cells[0, 0, 0] = cells[0, 1, 1] = True  # diagonal neighbours
    cells[0, 3, 4] = cells[1, 0, 4] = True
    kept = drop_isolated(cells)
    assert kept[0].nonzero().tolist() == [[0, 0], [1, 1]] and not kept[1].any()
    assert drop_isolated(torch.ones(1, 1, 1, dtype=torch.bool)).sum() == 0


def test_seeds_grow_where_the_head_is_sure():
    sure = UNSURE.clone()
    sure[0, 3], sure[0, 4], sure[1, 4] = 0.95, 0.05, 0.9
    sure[:, 6] = 0.99  # certain background does not become foreground
    sure[:, 1] = 0.01
    fg, bg = grown_seeds(sure, *halves())
    assert fg[0].all(dim=1).tolist() == [True] * 4 + [False] * 4
    assert bg[0].all(dim=1).tolist() == [False] * 4 + [True] * 4
    assert fg[1].all(dim=1).sum() == 3 and bg[1].all(dim=1).sum() == 3  # 0.9 is not above 0.9


def test_foreground_outside_the_region_belongs_to_neither():
    foreground, region = (half.clone() for half in halves())
    foreground[:, 6], region[:, 1] = True, False
    fg, bg = grown_seeds(UNSURE, foreground, region)
    assert not (fg | bg)[:, [1, 6]].any() and fg[:, [0, 2]].all() and bg[:, [5, 7]].all()


def test_closed_form_and_gradient():
    loss, gradient = gradient_of(slice(3), 1.5)
    inside = (math.log1p(math.exp(-1.5)) + math.log(2)) / 2  # half of the foreground cells each
    assert loss.item() == pytest.approx(inside / 2 + math.log(2) / 2)
    assert gradient[0, 2, :3].lt(0).all() and gradient[0, 2, 5:].gt(0).all()
    assert gradient[1, 0, 0, 0].item() == pytest.approx(-0.5 * 0.5 / 48)
    gradient[0, 2, :3] = gradient[0, 2, 5:] = gradient[1, 0, :3] = gradient[1, 0, 5:] = 0
    assert gradient.eq(0).all()  # doubt, and the masks of other classes


def test_growth_enters_the_loss_but_not_the_gradient_of_its_choice():
    _, gradient = gradient_of(3, 3.0)
    expected = -0.5 * (1 - torch.tensor(3.0).sigmoid().item()) / (2 * 24 + 8)
    assert gradient[0, 2, 3, 0].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("case", ["no foreground", "no background", "no masks"])
def test_an_empty_side_gives_zero(case):
    kept, (foreground, region) = 2 if case != "no masks" else 0, halves()
    given = (foreground & (case != "no foreground"), region | (case == "no background"))
    logits = torch.zeros((kept, 3, M, M), requires_grad=True)
    loss = pair_mask_loss(logits, CLASSES[:kept], *(half[:kept] for half in given))
    assert loss.item() == 0 and torch.autograd.grad(loss, logits)[0].eq(0).all()


def test_one_channel_serves_all_classes_and_half_precision_and_large_logits_are_finite():
    logits = torch.randn(2, 1, M, M, dtype=torch.float64)
    expected = pair_mask_loss(logits.expand(2, 3, M, M), CLASSES, *halves())
    assert pair_mask_loss(logits, CLASSES, *halves()) == expected

    logits = torch.tensor([-200.0, 200.0])[:, None, None, None].expand(2, 3, M, M)
    loss = pair_mask_loss(logits.to(torch.bfloat16), CLASSES, *halves())
    assert loss.isfinite() and loss.dtype == torch.float32
    # certain cells cost 200, those in doubt join the side that the head is sure of at no cost
    assert loss.item() == pytest.approx(200 * 24 / (24 + 24 + 16))


def test_balanced_loss_weighs_both_sides_alike():
    logits, target = torch.randn(2, 3, M, M), halves()[0]
    chosen = torch.stack([logits[0, 2], logits[1, 0]])
    each = F.binary_cross_entropy_with_logits(chosen, target.float(), reduction="none")
    expected = each[target].mean() / 2 + each[~target].mean() / 2
    torch.testing.assert_close(balanced_mask_loss(logits, CLASSES, target), expected)
    only = balanced_mask_loss(logits, CLASSES, target | True)
    torch.testing.assert_close(only, F.softplus(-chosen).mean() / 2)


def image(boxes, *fields):
    """Proposals of one mask and, where given, its doubt, in an image of their size."""
    size = fields[0].image_size if fields else (12, 12)
    instances = Instances(size, proposal_boxes=Boxes(torch.tensor(boxes)))
    instances.gt_classes = torch.zeros(len(boxes), dtype=torch.int64)
    index = torch.zeros(len(boxes), dtype=torch.int64)
    for name, value in zip(("gt_masks", "gt_ignore_masks"), fields, strict=False):
        instances.set(name, value[index])
    return instances


@pytest.mark.parametrize("kind", [RunMasks, BitMasks])
def test_regions_are_cut_out_of_mask_and_doubt_together(kind):
    columns = torch.arange(12).expand(1, 12, 12)
    masks, doubt = kind(columns < 5), kind((columns >= 5) & (columns < 8))
    boxes = [[0.0, 0, 12, 12], [0, 0, 8, 12], [2, 0, 10, 12]]
    images = [image(boxes, masks, doubt), image([[0.0, 0, 1, 1]] * 2), image(boxes, masks)]
    regions = region_targets(images, 3)
    assert regions.shape == (8, 3, 3)
    # cells 4 pixels wide: certain up to 5, doubt up to 8
    assert regions[0, 0].tolist() == [True, True, False]
    assert regions[1].all() and not regions[3:5].any()
    assert regions[5, 0].tolist() == [True, False, False]
    assert (regions[:3] | ~mask_targets(images[:1], 3).masks).all()


def test_a_cell_half_covered_by_both_together_is_not_background():
    masks, doubt = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    masks[:, :, 0], doubt[:, :, 1] = True, True  # a quarter each of the only cell
    instances = image([[0.0, 0, 4, 4]], RunMasks(masks), RunMasks(doubt))
    separate = mask_targets([instances], 1)
    assert not separate.masks.any() and not separate.ignore.any()
    assert region_targets([instances], 1).all()

"""ICAM with boxes: coverage, losses, priors, masks, and from a folder of images with boxes to proxy masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.generating import by_id, generate
from tests.masks import needs_crf, rectangle
from tests.methods.icam import tiny
from tests.tiny import SIZE, write_dataset
from wsis.engine import WsisTrainer
from wsis.layers.box_maps import BoxMapParams
from wsis.methods.icam.boxes import (
    BoxBatch,
    allowed_by_boxes,
    box_coverage,
    box_masks,
    box_tightness,
    class_coverage,
    inside_loss,
    outside_loss,
)
from wsis.methods.icam.losses import expected_importance_loss
from wsis.methods.icam.maps import condition
from wsis.structures.rle import decode_mask


def test_coverage_is_the_share_of_a_cell_and_never_nothing():
    boxes = torch.tensor([[0.5, 1, 2, 2.25], [3, 3, 3, 3], [-5, -5, 9, 9], [9, 9, 9, 9]])
    found = box_coverage(boxes, (4, 4))
    expected = torch.zeros(4, 4)
    expected[1, :2], expected[2, :2] = torch.tensor([0.5, 1]), torch.tensor([0.125, 0.25])
    torch.testing.assert_close(found[0], expected)
    assert found[1].nonzero().tolist() == [[3, 3]] and found[3].nonzero().tolist() == [[3, 3]]
    assert (found[2] == 1).all()


def test_background_is_certain_outside_of_all_boxes():
    boxes, classes = torch.tensor([[1.0, 1, 3, 3], [2, 2, 4, 4]]), torch.tensor([1, 1])
    allowed = allowed_by_boxes(boxes, classes, (5, 5), 3)
    p = torch.randn(1, 4, 5, 5, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    kept = condition(p, allowed)
    outside = ~(rectangle((5, 5), 1, 1, 3, 3) | rectangle((5, 5), 2, 2, 4, 4))
    assert (kept[0, 0][torch.from_numpy(outside)] == 1).all()
    assert allowed.max() == 1 and not kept[:, [1, 3]].any()
    torch.testing.assert_close(kept.sum(dim=1), torch.ones(1, 5, 5))


def test_a_box_of_the_whole_map_is_a_positive_bag_as_of_a_tag():
    p = torch.rand(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    tags = torch.ones(2, 3)
    whole = torch.ones(6, 6, 6)
    found = inside_loss(p[:, 1:].flatten(0, 1), whole)
    torch.testing.assert_close(found, expected_importance_loss(p, tags))


def test_losses_look_where_they_should():
    batch = BoxBatch(
        torch.tensor([[0.0, 0, 2, 2], [1, 1, 3, 3]]), torch.tensor([0, 0]), torch.tensor([0, 0])
    )
    coverage = batch.coverage((8, 8), (4, 4))
    assert coverage[0].sum() == 1  # 2 x 2 pixels in cells of 2
    p = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    covered = class_coverage(coverage, batch, 2, 3)
    assert covered[0, 0].sum() == 1 + 3 / 4 and not covered[1].any() and not covered[0, 1:].any()
    own = p[batch.images, batch.classes]
    (inside,) = torch.autograd.grad(inside_loss(own, coverage), p, retain_graph=True)
    assert ((inside[0, 0] != 0) == (covered[0, 0] > 0)).all() and not inside[1].any()
    assert inside.max() <= 0
    (outside,) = torch.autograd.grad(outside_loss(p, covered), p, retain_graph=True)
    assert ((outside > 0) == (covered < 1)).all()
    (tight,) = torch.autograd.grad(box_tightness(own, coverage), p)
    assert not tight[0, 0][covered[0, 0] == 0].any() and tight[0, 0].min() < 0
    assert inside_loss(own[:0], coverage[:0]) == 0 == box_tightness(own[:0], coverage[:0])


def test_masks_share_no_pixel_and_each_box_has_one():
    maps = np.zeros((2, 20, 20), np.float32)
    maps[0, 2:12, 2:12], maps[1, 8:18, 8:18] = 0.2, 0.02
    maps[0, 5, 5], maps[1, 10, 10] = 0.25, 0.03
    boxes = np.array([[2, 2, 12, 12], [8, 8, 18, 18], [8, 8, 18, 18], [5.2, 5.2, 5.4, 5.4]])
    crops, scores, status = box_masks(
        maps, np.array([0, 1, 1, 0]), boxes, np.zeros((20, 20, 3), np.uint8), BoxMapParams(0.5)
    )
    full = np.zeros((4, 20, 20), bool)
    for own, (mask, x, y) in zip(full, crops, strict=True):
        own[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
    assert status == ["ok", "fallback", "ok", "ok"]  # equal boxes: the later one takes all
    assert full[1].sum() == 1 and full[1][10, 10]
    assert full[[0, 2, 3]].sum(axis=0).max() == 1
    assert full[3].sum() == 1 and scores[3] == pytest.approx(1, abs=1e-3)
    assert (
        full[0][9, 9] and not full[2][9, 9]
    )  # 0.8 of the first box's largest, 0.67 of the other's
    assert full[2][15, 15] and 0.5 < scores[2] < 1


@needs_crf
def test_a_crf_draws_the_line_where_the_image_does():
    image = np.full((20, 20, 3), 30, np.uint8)
    image[4:16, 4:12] = 220
    maps = np.full((1, 20, 20), 0.1, np.float32)
    maps[0, 4:16, 4:12], maps[0, 5:15, 5:10] = 0.45, 1
    params = BoxMapParams(0.5), BoxMapParams(0.5, refine=True)
    found = [
        box_masks(maps, np.zeros(1, int), np.array([[2, 2, 18, 18]]), image, each)[0][0][0]
        for each in params
    ]
    assert found[0].sum() == 50 and (found[1] == (image[2:18, 2:18, 0] > 100)).all()


@pytest.fixture
def make(tmp_path):
    """``make(**keys)``: a config of ICAMBox on the tiny boxes."""
    write_dataset(tmp_path / "data", number=3)
    return lambda **more: tiny.make_cfg(tmp_path / "run", tmp_path / "data", tiny.BOX, **more)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_it_learns_from_boxes_and_makes_a_mask_of_each(make, tmp_path, activation):
    cfg = make(MODEL__ICAM_BOX__ACTIVATION=activation, SOLVER__IMS_PER_BATCH=2)
    model = WsisTrainer.build_model(cfg).train()
    losses = model(next(iter(WsisTrainer.build_train_loader(cfg))))
    kinds = ("inside", "outside", "tightness", "similarity", "er", "ecr")
    assert set(losses) == {f"loss_{kind}" for kind in kinds}
    sum(losses.values()).backward()
    missing = [
        n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()
    ]
    assert missing == []
    tiny.save_weights(cfg, tmp_path / "weights.pth")
    result = generate(cfg)
    assert result.exit_status == 0
    for annotation in by_id(result).values():
        mask = decode_mask(annotation["segmentation"])
        x, y, width, height = map(int, annotation["bbox"])
        assert (
            mask.any() and not (mask & ~rectangle((SIZE, SIZE), x, y, x + width, y + height)).any()
        )
        assert annotation["status"] in ("ok", "fallback") and 0 < annotation["score"] <= 1


def test_a_step_lowers_the_losses_of_boxes(make):
    torch.manual_seed(0)
    cfg = make(SOLVER__IMS_PER_BATCH=2)
    model = WsisTrainer.build_model(cfg).train()
    batch = next(iter(WsisTrainer.build_train_loader(cfg)))
    optimizer = torch.optim.SGD(model.parameters(), 0.02, momentum=0.9)
    totals = []
    for _ in range(12):
        total = sum(model(batch).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.8 * totals[0]

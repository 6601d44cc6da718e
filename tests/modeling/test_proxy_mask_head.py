"""The mask head for proxy masks: closed forms, agreement with Detectron2, a whole Mask R-CNN."""

import math

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.modeling.roi_heads.mask_head import mask_rcnn_loss
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from torch.nn import functional as F

from tests.modeling.heads import head, proposals
from tests.tiny import write_config
from wsis.config import load_cfg
from wsis.errors import ConfigError
from wsis.modeling.proxy_mask_head import MaskTargets, mask_targets, proxy_mask_loss
from wsis.structures.run_masks import RunMasks

M = 6


@pytest.fixture
def batch():
    """Logits (4, 3, M, M), classes, targets."""
    return torch.randn(4, 3, M, M), torch.tensor([0, 2, 1, 2]), torch.rand(4, M, M) < 0.5


@pytest.mark.parametrize("channels", [3, 1])
def test_without_ignore_and_scores_it_is_mask_r_cnns_loss(channels):
    instances = [proposals(3), proposals(4), proposals(0, masks=None)]
    logits, targets = torch.randn(7, channels, M, M), mask_targets(instances, M)
    with EventStorage():
        expected = mask_rcnn_loss(logits, instances[:2])
    assert proxy_mask_loss(logits, targets.classes, targets.masks) == expected
    assert proxy_mask_loss(logits, *targets) == expected


def test_closed_form():
    logits = torch.zeros(2, 1, 1, 2)
    logits[0, 0, 0, 0] = 2.0
    targets, ignore = torch.tensor([[[[1, 0]], [[1, 1]]], [[[0, 0]], [[0, 1]]]]).bool()
    found = proxy_mask_loss(logits, torch.tensor([0, 0]), targets, ignore, torch.tensor([1.0, 0.5]))
    expected = (math.log1p(math.exp(-2)) + math.log(2) + 0.5 * math.log(2)) / 2.5
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_ignored_pixels_and_other_classes_have_no_gradient(batch):
    logits, classes, targets = batch
    logits.requires_grad_()
    ignore = torch.rand(4, M, M) < 0.5
    proxy_mask_loss(logits, classes, targets, ignore).backward()
    chosen = logits.grad[torch.arange(4), classes]
    assert not chosen[ignore].any() and chosen[~ignore].abs().min() > 0
    assert torch.equal(chosen[~ignore] < 0, targets[~ignore])  # towards the target
    others = logits.grad.clone()
    others[torch.arange(4), classes] = 0
    assert not others.any()


def test_ignored_pixels_do_not_count_and_half_precision_is_summed_in_single(batch):
    logits, classes, targets = batch
    ignore = torch.zeros(4, M, M, dtype=torch.bool)
    ignore[:, :, 3:] = True
    found = proxy_mask_loss(logits, classes, targets, ignore)
    assert found == proxy_mask_loss(logits[..., :3], classes, targets[..., :3])
    loss = proxy_mask_loss((1e3 * logits).half(), classes, targets)
    assert loss.dtype == torch.float32 and torch.isfinite(loss)


def test_weights(batch):
    logits, classes, targets = batch
    weights = torch.tensor([1.0, 0.0, 0.25, 0.0])
    chosen = logits[torch.arange(4), classes]
    each = F.binary_cross_entropy_with_logits(chosen, targets.float(), reduction="none")
    each = each.mean(dim=(1, 2))
    found = proxy_mask_loss(logits, classes, targets, weights=weights)
    assert found.item() == pytest.approx(((each[0] + 0.25 * each[2]) / 1.25).item(), rel=1e-6)
    scaled = proxy_mask_loss(logits, classes, targets, weights=weights * 0.1)
    assert scaled.item() == pytest.approx(found.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("kept", "options"),
    [(4, {"ignore": torch.ones(4, M, M).bool()}), (4, {"weights": torch.zeros(4)}), (0, {})],
)
def test_nothing_kept_is_zero_with_zero_gradients(batch, kept, options):
    logits, classes, targets = (each[:kept] for each in batch)
    logits = logits.clone().requires_grad_()
    loss = proxy_mask_loss(logits, classes, targets, **options)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.shape == logits.shape and not logits.grad.any()


def test_targets_of_images_with_and_without_masks():
    ignored = torch.zeros(2, 40, 50, dtype=torch.bool)
    ignored[1] = True
    images = [
        proposals(2, gt_ignore_masks=RunMasks(ignored), gt_scores=torch.tensor([0.5, 0.0])),
        proposals(3, masks=None),
        proposals(0, masks=None),
        proposals(1, masks=BitMasks),
    ]
    targets = mask_targets(images, M)
    assert isinstance(targets, MaskTargets)
    assert torch.equal(targets.classes, torch.cat([i.gt_classes for i in images]))
    assert targets.masks.shape == targets.ignore.shape == (6, M, M)
    assert targets.scores.tolist() == [0.5, 0.0, 0.0, 0.0, 0.0, 1.0]
    assert targets.ignore.flatten(1).all(dim=1).tolist() == [False, True] + [False] * 4
    expected = images[0].gt_masks.crop_and_resize(images[0].proposal_boxes.tensor, M)
    assert torch.equal(targets.masks[:2], expected)
    assert not targets.masks[2:5].any() and targets.masks[5].any()


def test_a_cell_that_is_half_ignored_is_ignored():
    ignored = torch.zeros(1, 8, 8, dtype=torch.bool)
    ignored[:, :, :3] = True  # cells of 2 pixels: the second is half ignored
    image = proposals(1, size=(8, 8), gt_ignore_masks=RunMasks(ignored))
    image.proposal_boxes = Boxes(torch.tensor([[0.0, 0, 8, 8]]))
    assert mask_targets([image], 4).ignore[0].tolist() == [[True, True, False, False]] * 4


@pytest.mark.parametrize(
    ("mode", "threshold", "scores", "expected"),
    [
        ("none", 0.9, [1.0, 0.5, 0.25, 0.0], [1.0, 1.0, 1.0, 0.0]),
        ("weight", 0.9, [1.0, 0.5, 0.25, 0.0], [1.0, 0.5, 0.25, 0.0]),
        ("threshold", 0.4, [1.0, 0.5, 0.25, 0.0], [1.0, 1.0, 0.0, 0.0]),
        ("threshold", 0.5, [1.0, 0.5, 0.25, 0.0], [1.0, 0.0, 0.0, 0.0]),
        ("threshold", 0.0, [1.0, 0.5, 0.25, 0.0], [1.0, 1.0, 1.0, 0.0]),
        ("threshold", 0.95, [0.95, 0.9500001, 0.9499999], [0.0, 1.0, 0.0]),  # in single precision
    ],
)
def test_scores_become_weights(mode, threshold, scores, expected):
    weights = head(score_mode=mode, score_threshold=threshold).mask_weights(torch.tensor(scores))
    assert weights.tolist() == expected


def test_the_head_uses_scores_and_ignored_pixels():
    image = proposals(3, gt_scores=torch.tensor([0.5, 1.0, 0.0]))
    image.gt_ignore_masks = RunMasks(torch.rand(3, 40, 50) < 0.5)
    features, model = torch.randn(3, 4, 3, 3), head(score_mode="weight", loss_weight=2.0)
    with EventStorage():
        losses = model(features, [image])
    targets = mask_targets([image], M)
    expected = proxy_mask_loss(model.layers(features), *targets[:3], targets.scores)
    assert losses == {"loss_mask": 2 * expected}


def test_logged_numbers_are_detectron2s():
    image, model, features = proposals(4), head(), torch.randn(4, 4, 3, 3)
    torch.nn.init.normal_(model.predictor.weight)
    with EventStorage() as ours:
        model(features, [image])
    with EventStorage() as theirs:
        mask_rcnn_loss(model.layers(features), [image])
    names = {f"mask_rcnn/{n}" for n in ("accuracy", "false_positive", "false_negative")}
    assert names <= set(theirs.latest())
    for name, (value, _) in theirs.latest().items():
        assert ours.latest()[name][0] == pytest.approx(value)


@pytest.mark.parametrize(
    ("mode", "threshold", "message"),
    [
        ("half", 0.0, "MODE: found 'half', expected one of none, weight"),
        ("threshold", 1.5, r"THRESHOLD: found 1\.5, expected at least 0, below 1"),
    ],
)
def test_wrong_settings(mode, threshold, message):
    with pytest.raises(ConfigError, match=f"SCORE_{message}"):
        head(score_mode=mode, score_threshold=threshold)


@pytest.fixture(scope="module")
def mask_rcnn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mask_rcnn")
    keys = {"MASK_ON": True, "RESNETS__NORM": "GN", "ROI_MASK_HEAD__NAME": "ProxyMaskHead"}
    keys |= {"RESNETS__STEM_OUT_CHANNELS": 32, "RESNETS__RES2_OUT_CHANNELS": 32}
    keys |= {"RESNETS__WIDTH_PER_GROUP": 32, "ROI_HEADS__NUM_CLASSES": 3}
    changes = {f"MODEL__{key}": value for key, value in keys.items()}
    cfg = load_cfg(write_config(folder, folder, **changes))
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    torch.manual_seed(0)
    return build_model(cfg)


def inputs(number, score=None):
    """One random image with ``number`` boxes."""
    instances = Instances((64, 96), gt_classes=torch.arange(number), gt_ids=torch.arange(number))
    boxes = torch.tensor([[4.0, 6, 40, 50], [30, 10, 90, 60], [50, 20, 70, 44]])
    instances.gt_boxes = Boxes(boxes[:number])
    if score is not None:
        masks, ignored = torch.rand(2, number, 64, 96) < 0.5
        instances.gt_masks, instances.gt_ignore_masks = map(RunMasks, (masks, ignored))
        instances.gt_scores = torch.full((number,), score)
    image = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)
    return {"image": image, "height": 64, "width": 96, "instances": instances}


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize(
    ("numbers", "score"), [((0,), 0.7), ((1,), 0.7), ((3, 0), 0.7), ((3, 1), 0.0), ((1, 3), None)]
)
def test_training_step(mask_rcnn, numbers, score, amp):
    mask_rcnn.train().zero_grad()
    with EventStorage(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp):
        losses = mask_rcnn([inputs(number, score) for number in numbers])
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    gradients = [p.grad for p in mask_rcnn.roi_heads.mask_head.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
    learns = sum(numbers) > 0 and bool(score)
    assert (losses["loss_mask"] > 0) == learns
    assert any(g.any() for g in gradients) == learns


def test_some_images_have_masks_and_some_have_not_and_inference(mask_rcnn):
    with EventStorage():
        assert mask_rcnn.train()([inputs(2, 1.0), inputs(2, None)])["loss_mask"] > 0
    with torch.no_grad():
        instances = mask_rcnn.eval()([inputs(0)])[0]["instances"]
    assert len(instances) > 0
    assert instances.pred_masks.shape == (len(instances), 64, 96)
    assert instances.pred_masks.dtype == torch.bool

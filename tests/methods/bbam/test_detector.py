"""The detectors' answers for given proposals are those that Detectron2 gives."""

import pytest
import torch
from detectron2.modeling import SemanticSegmentor
from detectron2.structures import Boxes, Instances, pairwise_iou
from torch import nn

from tests.methods.bbam.tiny_detector import BOXES, KINDS, make_cfg, make_inputs, make_view
from wsis.errors import ConfigError
from wsis.methods.bbam import detector as module
from wsis.methods.bbam.detector import TargetParams, explainable
from wsis.methods.bbam.proposals import ProposalParams
from wsis.methods.bbam.targets import StrideParams

TWO_STAGE = [kind for kind in KINDS if kind != "retina"]
STRIDE = StrideParams(4, 12)


def unpadded(view):
    """An image that the detector has to pad, 52 x 61: inputs, and as the view takes it."""
    inputs = make_inputs()
    inputs["image"] = inputs["image"][:, :52, :61]
    inputs.update(height=52, width=61)
    return inputs, view.normalise(inputs["image"])


def by_score(scores, boxes):
    order = scores.argsort(descending=True)
    return scores[order], boxes[order]


@torch.no_grad()
def detectron2_answers(model, inputs, proposals):
    """All boxes of all classes with their scores, by Detectron2's own inference on given proposals."""
    generator, model.proposal_generator = model.proposal_generator, None
    predictors = model.roi_heads.box_predictor
    for predictor in predictors if isinstance(predictors, nn.ModuleList) else [predictors]:
        predictor.test_score_thresh, predictor.test_nms_thresh = 0.0, 1.0
        predictor.test_topk_per_image = -1
    given = Instances((inputs["height"], inputs["width"]), proposal_boxes=Boxes(proposals))
    found = model.inference([{**inputs, "proposals": given}])[0]["instances"]
    model.proposal_generator = generator
    return by_score(found.scores, found.pred_boxes.tensor)


@torch.no_grad()
@pytest.mark.parametrize("kind", TWO_STAGE)
def test_two_stage_answers_are_detectron2s(kind):
    view = make_view(kind)
    inputs, image = unpadded(view)
    proposals = Boxes(BOXES.repeat(3, 1)[:10] + torch.rand(10, 4) * 4)
    proposals.clip((52, 61))
    expected = detectron2_answers(view.model, inputs, proposals.tensor)
    logits, deltas = view.forward(image[None], [proposals.tensor])
    scores = logits.softmax(1)[:, :-1]
    boxes = view.decode(deltas, proposals.tensor, 52, 61).unflatten(1, (-1, 4)).expand(-1, 2, 4)
    found = by_score(scores.flatten(), boxes.flatten(0, 1))
    assert torch.allclose(found[0], expected[0], atol=1e-5)
    assert torch.allclose(found[1], expected[1], atol=1e-3)
    assert scores.std() > 0.01


@torch.no_grad()
@pytest.mark.parametrize("kind", TWO_STAGE)
def test_images_of_a_batch_answer_for_their_own_proposals(kind):
    view, parts = make_view(kind), [BOXES[:3], BOXES[1:]]
    images = torch.stack([view.normalise(make_inputs(seed=s)["image"]) for s in (0, 1)])
    together = view.forward(images, parts)
    alone = [view.forward(images[i : i + 1], parts[i : i + 1]) for i in (0, 1)]
    for found, expected in zip(together, zip(*alone, strict=True), strict=True):
        assert torch.allclose(found, torch.cat(expected), atol=1e-5)


def keep_everything(model):
    model.test_nms_thresh = 1.0
    model.max_detections_per_image = model.test_topk_candidates = 10_000


@torch.no_grad()
def test_one_stage_answers_are_detectron2s():
    view = make_view("retina")
    keep_everything(view.model)
    view.model.test_score_thresh = 0.0
    inputs, image = unpadded(view)
    found = view.model([inputs])[0]["instances"]
    expected = by_score(found.scores, found.pred_boxes.tensor)
    answers, anchors = view.all_anchors(image)
    logits, deltas = view.forward(image[None], [torch.arange(len(answers.logits)).flip(0)])
    assert torch.allclose(logits.flip(0), answers.logits, atol=1e-5)
    assert torch.allclose(deltas.flip(0), answers.deltas, atol=1e-5)
    assert torch.equal(view.decode(answers.deltas, anchors, 52, 61), answers.decoded)
    boxes = answers.decoded[:, None].expand(-1, 2, 4).flatten(0, 1)
    kept = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)
    found = by_score(answers.logits.sigmoid().flatten()[kept], boxes[kept])
    assert torch.allclose(found[0], expected[0], atol=1e-5)
    assert torch.allclose(found[1].sum(0), expected[1].sum(0), rtol=1e-4)


@torch.no_grad()
def test_many_proposals_go_through_the_heads_in_parts(monkeypatch):
    view = make_view()
    image = view.normalise(make_inputs()["image"])[None]
    expected = view.forward(image, [BOXES])
    monkeypatch.setattr(module, "_CHUNK", 3)
    for found, whole in zip(view.forward(image, [BOXES]), expected, strict=True):
        assert torch.allclose(found, whole, atol=1e-5)
    assert view.forward(image, [BOXES[:0]])[0].shape == (0, 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threshold", [0.4, 0.6])
def test_detections_are_detectron2s_above_a_score(kind, threshold):
    view = make_view(kind)
    inputs, image = unpadded(view)
    if kind == "retina":  # Detectron2 suppresses before it cuts boxes to the image
        keep_everything(view.model)
    with torch.no_grad():
        expected = view.model([inputs])[0]["instances"]
    expected = expected[expected.scores > threshold]
    found = view.detections(image, threshold, STRIDE)
    assert 0 < len(found.targets) == len(expected)
    assert torch.allclose(found.scores, expected.scores, atol=1e-5)
    pairs = (found.boxes, found.classes), (expected.pred_boxes.tensor, expected.pred_classes)
    # equal scores may be swapped
    ours, theirs = (torch.cat([b, c[:, None]], dim=1).sort(dim=0).values for b, c in pairs)
    assert torch.allclose(ours, theirs, atol=2e-3)
    for target, label, score in zip(found.targets, found.classes, found.scores, strict=True):
        assert len(target.proposals) == 1 and target.class_index == label
        assert torch.allclose(target.scores, score, atol=1e-5)
        assert target.mask.any()
    proposals = torch.cat([target.proposals for target in found.targets])
    shown = view.all_anchors(image)[1][proposals] if kind == "retina" else proposals
    assert torch.equal(shown, found.proposals)


def test_one_stage_detections_do_not_repeat_each_other():
    view = make_view("retina")
    image = view.normalise(make_inputs()["image"])
    kept = view.detections(image, 0.6, STRIDE)
    overlap = pairwise_iou(Boxes(kept.boxes), Boxes(kept.boxes)).fill_diagonal_(0)
    assert len(kept.boxes) > 1
    assert overlap[kept.classes[:, None] == kept.classes].max() <= view.model.test_nms_thresh
    view.model.max_detections_per_image = 1
    assert torch.equal(view.detections(image, 0.6, STRIDE).boxes, kept.boxes[:1])


@pytest.mark.parametrize("kind", KINDS)
def test_given_boxes_never_run_the_rpn(kind, monkeypatch):
    view = make_view(kind)
    if kind != "retina":
        monkeypatch.setattr(view.model.proposal_generator, "forward", None)
    params = TargetParams(ProposalParams(12, 0.1, (0.7,), 5), STRIDE, seed=0)
    image = view.normalise(make_inputs()["image"])
    targets = view.targets(image, BOXES, [0] * 4, list(range(4)), params)
    assert len(targets) == 4 and all(0 < len(target.proposals) <= 5 for target in targets)


def test_show_reverses_normalise_and_inclusive_boxes_end_on_the_last_pixel():
    view = make_view("fpn", "MODEL.PIXEL_STD", "[57.375,57.12,58.395]")
    image = make_inputs()["image"]
    assert torch.equal(view.show(view.normalise(image)[None])[0], image)
    view = explainable(view.model, inclusive=True)
    moved = view.decode(torch.zeros(1, 8), torch.tensor([[3.0, 4, 70, 9]]), 52, 61)
    assert torch.allclose(moved, torch.tensor([[3.0, 4, 60, 9] * 2]))


def test_what_cannot_be_explained_is_refused():
    segmentor = SemanticSegmentor(make_cfg("fpn", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 3))
    rcnn = make_view().model
    rcnn.roi_heads = nn.Identity()
    for model, name in (
        (nn.Linear(1, 1), "Linear, expected RetinaNet"),
        (segmentor, "SemanticSegmentor"),
        (rcnn, "GeneralizedRCNN with Identity"),
    ):
        with pytest.raises(ConfigError, match=f"found {name}"):
            explainable(model)

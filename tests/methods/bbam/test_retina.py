from functools import partial

import torch
from detectron2.modeling.meta_arch.dense_detector import permute_to_N_HWA_K

from wsis.methods.bbam.box_coder import clip_inclusive, decode
from wsis.methods.bbam.retina import (
    AnchorAnswers,
    anchor_target,
    flatten_level,
    read_levels,
    select_anchors,
)
from wsis.methods.bbam.targets import StrideParams, initial_mask

ROW = torch.tensor([0.0, 0.0, 100.0, 1.0])


def rows(*widths):
    """Boxes whose IoU with ROW is their width / 100."""
    return torch.tensor([[0.0, 0.0, width, 1.0] for width in widths])


def test_rows_are_in_the_order_of_detectron2():
    level = torch.randn(2, 12, 3, 5)
    for per_anchor in (4, 2, 12):
        expected = permute_to_N_HWA_K(level, per_anchor)
        assert flatten_level(level, per_anchor).equal(expected)


def test_levels_follow_each_other():
    generator = torch.Generator().manual_seed(0)
    sizes, classes, per_location = [(3, 4), (2, 2)], 5, 2
    logits = [torch.randn(1, 10, *size, generator=generator) for size in sizes]
    deltas = [torch.zeros(1, 8, *size) for size in sizes]
    anchors = [
        torch.rand(per_location * h * w, 4, generator=generator).cumsum(dim=1) * 20
        for h, w in sizes
    ]

    def decoded(regression, boxes):
        return clip_inclusive(decode(regression, boxes), 50, 60)

    found = read_levels(logits, deltas, anchors, decoded)
    assert len(found.scores) == 2 * (12 + 4)
    torch.testing.assert_close(found.decoded, torch.cat(anchors).clamp(max=49.0), atol=11, rtol=0)
    # anchor 1 of column 3 in row 2 of the first level, channels anchor by anchor
    row = (2 * 4 + 3) * 2 + 1
    own = logits[0][0, classes : 2 * classes, 2, 3]
    assert found.labels[row] == own.argmax()
    torch.testing.assert_close(found.scores[row], own.max().sigmoid())
    assert found.logits[24].equal(logits[1][0, :classes, 0, 0])


def test_best_overlap_first_ties_in_order():
    labels = torch.tensor([2, 2, 1, 2, 2, 2])
    decoded = rows(85, 95, 99, 80, 85, 90)
    assert select_anchors(ROW, 2, decoded, labels).tolist() == [1, 5, 0, 4]
    assert select_anchors(ROW, 2, decoded, labels, limit=2).tolist() == [1, 5]
    assert select_anchors(ROW, 1, decoded, labels).tolist() == [2]
    assert select_anchors(ROW, 0, decoded, labels).tolist() == []


def test_targets_carry_anchor_numbers():
    box = torch.tensor([0.0, 0.0, 60.0, 40.0])
    decoded = torch.tensor([[0.0, 0, 60, 40], [30, 20, 60, 40], [0, 0, 58, 40]])
    logits = torch.tensor([[0.0, 2.0], [0.0, 3.0], [0.0, 1.0]])
    answers = AnchorAnswers(
        logits, torch.randn(3, 4), *logits.sigmoid().max(dim=1), decoded=decoded
    )
    make = partial(anchor_target, answers, box, height=80, width=120)
    stride = StrideParams(4.0, 12.0)
    target = make(class_index=1, stride_params=stride)
    assert target.proposals.tolist() == [0, 2] and target.class_index == 1
    torch.testing.assert_close(target.scores, torch.tensor([2.0, 1.0]).sigmoid())
    assert target.deltas.equal(answers.deltas[[0, 2]])
    assert target.mask.equal(initial_mask(decoded[[0, 2]], box, 80, 120, stride))
    nothing = make(class_index=0, stride_params=stride)
    assert len(nothing.proposals) == 0 and not nothing.mask.any()

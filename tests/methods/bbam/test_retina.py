from functools import partial

import torch
from detectron2.modeling.meta_arch.dense_detector import permute_to_N_HWA_K

from wsis.methods.bbam.retina import (
    AnchorAnswers,
    anchor_target,
    flatten_level,
    select_anchors,
)
from wsis.methods.bbam.targets import StrideParams, initial_mask


def test_rows_are_in_the_order_of_detectron2():
    level = torch.randn(2, 12, 3, 5)
    for per_anchor in (4, 2, 12):
        assert flatten_level(level, per_anchor).equal(permute_to_N_HWA_K(level, per_anchor))


def test_best_overlap_first_ties_in_order():
    row, labels = torch.tensor([0.0, 0, 100, 1]), torch.tensor([2, 2, 1, 2, 2, 2])
    # boxes whose IoU with the row is their width / 100
    decoded = torch.tensor([[0.0, 0, width, 1] for width in (85, 95, 99, 80, 85, 90)])
    for label, limit, chosen in ((2, 100, [1, 5, 0, 4]), (2, 2, [1, 5]), (1, 9, [2]), (0, 9, [])):
        assert select_anchors(row, label, decoded, labels, limit=limit).tolist() == chosen


def test_targets_carry_anchor_numbers():
    box, stride = torch.tensor([0.0, 0.0, 60.0, 40.0]), StrideParams(4.0, 12.0)
    decoded = torch.tensor([[0.0, 0, 60, 40], [30, 20, 60, 40], [0, 0, 58, 40]])
    logits = torch.tensor([[0.0, 2.0], [0.0, 3.0], [0.0, 1.0]])
    answers = AnchorAnswers(logits, torch.randn(3, 4), logits.argmax(dim=1), decoded)
    make = partial(anchor_target, answers, box, height=80, width=120, stride_params=stride)
    target, nothing = make(class_index=1), make(class_index=0)
    assert target.proposals.tolist() == [0, 2] and target.class_index == 1
    torch.testing.assert_close(target.scores, torch.tensor([2.0, 1.0]).sigmoid())
    assert target.deltas.equal(answers.deltas[[0, 2]])
    assert target.mask.equal(initial_mask(decoded[[0, 2]], box, 80, 120, stride))
    assert len(nothing.proposals) == 0 and not nothing.mask.any()

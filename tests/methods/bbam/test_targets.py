import pytest
import torch

from tests.golden.toy_detector import ToyDetector
from wsis.methods.bbam.box_coder import clip_inclusive, decode
from wsis.methods.bbam.proposals import ProposalParams, draw_proposals
from wsis.methods.bbam.targets import (
    StrideParams,
    box_targets,
    class_deltas,
    covered_cells,
    detection_targets,
    initial_mask,
    mask_size,
)

HEIGHT, WIDTH = 96, 128
STRIDE = StrideParams(4.0, 12.0)
PARAMS = ProposalParams(count=60, limit=8, min_iou=(0.3, 0.1))


def test_published_mask_sizes():
    sizes = [mask_size(800, 1066, StrideParams().stride(share)) for share in (0.0, 0.25, 1.0)]
    assert sizes == [(50, 66), (20, 26), (12, 16)]
    assert mask_size(10, 30, 16.0) == (1, 1)


@pytest.mark.parametrize(
    ("boxes", "cells"),
    [
        ([[9.9, 0, 30, 19.9]], [[1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]),
        ([[0, 0, 40, 30]], [[1] * 4] * 3),
        ([[10, 10, 20, 20], [30, 20, 40, 30]], [[0] * 4, [0, 1, 0, 0], [0, 0, 0, 1]]),
        ([[12, 12, 18, 30]], [[0] * 4] * 3),  # thinner than a cell
        ([], [[0] * 4] * 3),
    ],
)
def test_cells_run_from_that_of_the_near_edge_to_before_that_of_the_far_one(boxes, cells):
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    assert covered_cells(corners, (3, 4), 10.0).tolist() == cells


@pytest.mark.parametrize(
    ("box", "cell"),
    [
        ([50.0, 40.0, 51.0, 41.0], (9, 12)),  # one pixel
        ([127.0, 95.0, 128.0, 96.0], (22, 30)),  # the last one
        ([10.0, 21.0, 120.0, 22.0], (4, 12)),  # a line
        ([64.0, 48.0, 64.0, 48.0], (12, 16)),  # no area
    ],
)
def test_a_box_thinner_than_a_cell_starts_at_its_centre(box, cell):
    corners = torch.tensor(box)
    mask = initial_mask(corners[None], corners, HEIGHT, WIDTH, STRIDE)
    assert mask.nonzero().tolist() == [list(cell)]


def test_a_full_box_starts_full_and_one_without_positives_empty():
    box = torch.tensor([0.0, 0.0, 128.0, 96.0])
    mask = initial_mask(box[None], box, HEIGHT, WIDTH, STRIDE)
    assert mask.shape == (6, 8) and mask.eq(1).all()
    small = torch.tensor([0.0, 0.0, 5.0, 6.0])  # an image smaller than a cell
    assert initial_mask(small[None], small, 6, 5, StrideParams()).tolist() == [[1.0]]
    box = torch.tensor([10.0, 10.0, 60.0, 70.0])
    nothing = initial_mask(box[None][:0], box, HEIGHT, WIDTH, STRIDE)
    assert nothing.numel() > 1 and not nothing.any()


def test_the_regression_of_a_class_is_its_four_columns():
    deltas, classes = torch.arange(24.0).view(2, 12), torch.tensor([2, 0])
    assert class_deltas(deltas, classes).tolist() == [[8, 9, 10, 11], [12, 13, 14, 15]]
    assert class_deltas(deltas[:, :4], classes).equal(deltas[:, :4])


class Scene:
    """A toy detector, an image and boxes that it is sure of."""

    def __init__(self):
        self.detector = ToyDetector.random(3)
        self.detector.box_weight.mul_(0.3)
        generator = torch.Generator().manual_seed(3)
        self.image = 60 * torch.randn(3, HEIGHT, WIDTH, generator=generator)
        self.boxes = torch.tensor([[10.0, 12, 70, 60], [60, 30, 120, 90], [0, 0, 128, 96]])
        self.calls = []
        self.proposals = [
            draw_proposals(box, HEIGHT, WIDTH, 0, i, PARAMS) for i, box in enumerate(self.boxes)
        ]
        self.classes = self.answers(self.boxes)[0].argmax(dim=1).tolist()

    def answers(self, boxes):
        return self.detector(self.image[None], [boxes])

    def forward(self, images, proposals):
        self.calls.append(sum(map(len, proposals)))
        return self.detector(images, proposals)

    def decode(self, deltas, boxes):
        return clip_inclusive(decode(deltas, boxes), HEIGHT, WIDTH)

    def targets(self, index=(0, 1, 2), classes=None):
        boxes, drawn = self.boxes[list(index)], [self.proposals[i] for i in index]
        classes = classes or [self.classes[i] for i in index]
        how = self.decode, PARAMS, STRIDE
        return box_targets(self.forward, self.image, boxes, classes, drawn, *how)


def same(first, second):
    assert first.class_index == second.class_index
    return all(
        torch.allclose(getattr(first, name), getattr(second, name), atol=1e-6)
        for name in ("proposals", "scores", "deltas", "mask")
    )


def test_boxes_share_one_pass_and_nothing_else():
    scene = Scene()
    together = scene.targets()
    assert scene.calls == [180]
    assert all(0 < len(target.proposals) <= 8 for target in together)
    assert all(same(target, scene.targets([i])[0]) for i, target in enumerate(together))
    assert same(scene.targets([2, 0])[1], together[0])
    assert scene.targets([]) == [] and len(scene.calls) == 5


def test_scores_and_regressions_are_those_of_the_class_on_the_whole_image():
    scene = Scene()
    scene.detector.requires_grad_()
    target = scene.targets([1])[0]
    (logits, deltas), c = scene.answers(target.proposals), target.class_index
    torch.testing.assert_close(target.scores, logits.softmax(dim=1)[:, c].detach())
    torch.testing.assert_close(target.deltas, deltas[:, 4 * c : 4 * c + 4].detach())
    assert not target.scores.requires_grad and not target.mask.requires_grad


def test_another_class_finds_no_positive():
    scene = Scene()
    logits, _ = scene.answers(scene.proposals[0])
    wrong = min(set(range(4)) - set(logits.argmax(dim=1).tolist()))
    first, second = scene.targets([0, 1], [wrong, scene.classes[1]])
    assert len(first.proposals) == 0 and not first.mask.any()
    assert same(second, scene.targets([1])[0])


def test_a_detection_is_its_one_proposal():
    scene, classes = Scene(), torch.tensor([1, 0, 2])
    chosen, scores = class_deltas(scene.answers(scene.boxes)[1], classes), torch.rand(3)
    decoded = scene.decode(chosen, scene.boxes)
    known = scene.boxes, classes, scores, chosen, decoded
    target = detection_targets(*known, (HEIGHT, WIDTH), STRIDE)[1]
    assert target.class_index == 0 and target.proposals.equal(scene.boxes[1:2])
    assert target.deltas.equal(chosen[1:2]) and target.scores.equal(scores[1:2])
    # the predicted box, not the proposal, decides size and first mask
    assert target.mask.equal(initial_mask(decoded[1:2], decoded[1], HEIGHT, WIDTH, STRIDE))

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from wsis.methods.bbam.proposals import (
    ProposalParams,
    draw_proposals,
    select_positives,
    shift_box,
    truncated_iou,
)

BOX = torch.tensor([20.0, 30.0, 60.0, 50.0])


def draw(box=BOX, height=100, width=120, seed=1, annotation_id=7, **params):
    return draw_proposals(box, height, width, seed, annotation_id, ProposalParams(**params))


def digest(proposals):
    return hashlib.sha256(proposals.numpy().tobytes()).hexdigest()


def test_depend_on_seed_and_annotation_alone_in_every_process():
    first = draw()
    draw(annotation_id=8)  # another box in between
    torch.manual_seed(5)
    np.random.default_rng(5)
    assert torch.equal(draw(), first)
    others = [draw(seed=2), draw(seed=7, annotation_id=1)]
    others += [draw(annotation_id=number) for number in (8, 0, -3, 2**63 + 5)]  # any whole number
    assert len({digest(p) for p in [first, *others]}) == 7
    assert {p.shape for p in others} == {(1000, 4)}
    code = "from tests.methods.bbam.test_proposals import digest, draw; print(digest(draw()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [digest(first)]


def test_edges_move_uniformly_by_at_most_the_jitter():
    moved = (draw(count=4000) - BOX) / torch.tensor([40.0, 20.0, 40.0, 20.0])
    assert moved.abs().max() <= 0.3 + 1e-6
    assert torch.allclose(moved.mean(dim=0), torch.zeros(4), atol=0.01)
    assert torch.allclose(moved.var(dim=0), torch.full((4,), 0.6**2 / 12), atol=0.002)
    assert torch.corrcoef(moved.T).fill_diagonal_(0).abs().max() < 0.06
    assert draw(count=50, jitter=0.0).eq(BOX).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_are_cut_to_the_image_and_keep_their_edges_in_order(dtype):
    proposals = draw(torch.tensor([0.0, 0.0, 120.0, 100.0], dtype=dtype))
    assert proposals.dtype == dtype
    assert proposals.min() == 0 and proposals[:, 2:].amax(dim=0).tolist() == [120, 100]
    for made in (proposals, draw(torch.tensor([5.0, 6.0, 6.0, 7.0], dtype=dtype))):
        assert (made[:, 2:] > made[:, :2]).all()


def test_shifts_are_shares_of_width_and_height():
    offsets = torch.tensor([[-0.1, 0.1, 0.2, -0.25], [-0.3, -0.3, 0.3, 0.3]])
    expected = torch.tensor([[16.0, 32, 66, 45], [8, 24, 66, 52]])
    torch.testing.assert_close(shift_box(BOX, offsets, 52, 66), expected)


@pytest.mark.parametrize(
    ("first", "second", "iou"),
    [
        ([0, 0, 10, 10], [0, 0, 10, 10], 1.0),
        ([0.9, 0.9, 10.9, 10.9], [0, 0, 10, 10], 1.0),  # truncated before anything else
        ([0, 0, 10, 10], [5, 0, 15, 10], 50 / 150),
        ([0, 0, 10, 10], [10, 0, 20, 10], 0.0),
        ([0, 0, 10, 10], [30, 40, 50, 60], 0.0),
        ([3, 3, 3, 8], [3, 3, 3, 8], 0.0),  # no area
        ([-0.9, 0, 10, 10], [0, 0, 10, 10], 1.0),  # towards zero
    ],
)
def test_truncated_iou(first, second, iou):
    assert truncated_iou(torch.tensor(first), torch.tensor(second)).item() == pytest.approx(iou)


def select(counts, agrees=None, **options):
    """Of boxes whose IoU with the given one is k / 100, so many of each k."""
    boxes = [[0.0, 0, k, 1] for k, n in counts for _ in range(n)]
    agrees = torch.ones(len(boxes), dtype=torch.bool) if agrees is None else agrees
    decoded = torch.tensor(boxes).reshape(-1, 4)
    return select_positives(torch.tensor([0.0, 0, 100, 1]), decoded, agrees, **options).tolist()


@pytest.mark.parametrize(
    ("counts", "kept"),
    [
        ([(91, 6), (86, 9)], 5),  # more than the limit above 0.9: its first ones
        ([(91, 5), (86, 9)], 5),  # just the limit is not more: next threshold
        ([(86, 2), (91, 5)], 5),  # the first ones in drawing order, not the best
        ([(90, 9), (81, 1)], 5),  # thresholds are strict: all of 0.9 are above 0.85 only
        ([(81, 3), (80, 9)], 3),
        ([(91, 2), (86, 1), (81, 1)], 4),
        ([(80, 9)], 0),
    ],
)
def test_falling_thresholds(counts, kept):
    assert select(counts, limit=5) == list(range(kept))


def test_only_proposals_of_the_class_count():
    agrees = torch.arange(20) % 3 == 0
    assert select([(91, 20)], agrees, limit=5) == [0, 3, 6, 9, 12]
    assert select([(91, 20)], agrees & False, limit=5) == select([], agrees[:0]) == []

"""What a teacher returns: order, statuses, disjoint ignore regions, the dense form."""

import copy

import numpy as np
import pytest

from wsis.structures import ProxyMasks, Seed
from wsis.structures.rle import decode_mask

ONES = np.ones((3, 3), dtype=bool)


def make_seed(boxes):
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    n = len(boxes)
    return Seed(7, "a.png", 10, 12, boxes, np.arange(n), tuple(range(100, 100 + n)))


def test_masks_keep_order_ids_and_scores():
    seed = make_seed([[0, 0, 3, 3], [5, 5, 8, 8]])
    masks = ProxyMasks.from_crops(seed, [(ONES, 0, 0), (ONES, 5, 5)], scores=[0.25, 1.0])
    assert masks.annotation_ids == (100, 101)
    assert masks.scores == [0.25, 1.0]
    assert masks.status == ["ok", "ok"]
    assert decode_mask(masks.masks[1])[5:8, 5:8].all()
    assert decode_mask(masks.masks[1]).sum() == 9


def test_an_empty_mask_becomes_the_ignored_box_of_score_zero():
    seed = make_seed([[2, 2, 6, 4]])
    masks = ProxyMasks.from_crops(seed, [(np.zeros((3, 3), dtype=bool), 2, 2)], scores=[0.9])
    assert masks.status == ["empty"]
    assert masks.scores == [0.0]
    assert decode_mask(masks.masks[0]).sum() == 8
    assert masks.ignore_masks[0] == masks.masks[0]


def test_ignored_pixels_exclude_the_mask():
    seed = make_seed([[0, 0, 6, 6], [0, 0, 3, 3], [6, 6, 9, 9]])
    wide = (np.ones((6, 6), dtype=bool), 0, 0)
    masks = ProxyMasks.from_crops(
        seed, [(ONES, 1, 1), (ONES, 0, 0), (ONES, 6, 6)], ignore=[wide, (ONES, 0, 0), wide]
    )
    first = decode_mask(masks.ignore_masks[0])
    assert first.sum() == 36 - 9
    assert not (first & decode_mask(masks.masks[0])).any()
    assert masks.ignore_masks[1] is None  # nothing was left
    assert decode_mask(masks.ignore_masks[2]).sum() == 36  # windows that do not meet


def test_dense_form_of_two_boxes_and_of_none():
    seed = make_seed([[0, 0, 3, 3], [5, 5, 8, 8]])
    masks = ProxyMasks.from_crops(seed, [(ONES, 0, 0), (ONES, 5, 5)])
    instances = copy.deepcopy(masks.to_instances())
    assert instances.masks.masks == masks.masks and "_fields" not in vars(instances), (
        "not dense before it must be"
    )
    assert instances.image_size == (10, 12)
    assert instances.pred_masks.shape == (2, 10, 12)
    assert instances.pred_masks.dtype.is_floating_point is False
    assert instances.annotation_ids.tolist() == [100, 101]
    assert not instances.has("ignore_masks")
    assert instances[1:].pred_masks.shape == (1, 10, 12) and len(instances) == 2
    with_ignore = ProxyMasks.from_crops(seed, [(ONES, 0, 0)] * 2, ignore=[(ONES, 4, 4), None])
    assert with_ignore.to_instances().ignore_masks.sum(dim=(1, 2)).tolist() == [9, 0]
    none = ProxyMasks.from_crops(make_seed([]), [])
    assert len(none) == 0
    assert none.to_instances().pred_masks.shape == (0, 10, 12)


def test_wrong_lengths_and_statuses_are_refused():
    seed = make_seed([[0, 0, 3, 3]])
    with pytest.raises(ValueError, match="1 box, but 2 masks, 1 ignore mask, 1 score"):
        ProxyMasks.from_crops(seed, [(ONES, 0, 0)] * 2)
    with pytest.raises(ValueError, match="status 'fine'"):
        ProxyMasks.from_crops(seed, [(ONES, 0, 0)], status=["fine"])

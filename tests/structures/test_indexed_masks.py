"""Bit masks without copies behave as Detectron2's."""

import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances

from wsis.structures.indexed_masks import IndexedBitMasks


@pytest.fixture
def masks():
    return torch.rand(5, 20, 30) < 0.5


@pytest.mark.parametrize(
    "item",
    [
        torch.tensor([3, 3, 0]),
        torch.tensor([True, False, False, True, True]),
        torch.tensor([], dtype=torch.int64),
        slice(1, 4),
        2,
        -1,
    ],
)
def test_indexing_equals_the_plain_form_and_copies_nothing(masks, item):
    found = IndexedBitMasks(masks)[item]
    expected = BitMasks(masks)[item]
    assert torch.equal(found.tensor, expected.tensor)
    assert len(found) == len(expected)
    assert found.masks.data_ptr() == masks.data_ptr()
    assert found.image_size == expected.image_size
    if len(found) == 3:
        again = torch.tensor([0, 2, 2])
        assert torch.equal(found[again].tensor, expected.tensor[again])


def test_crop_and_resize_equals_the_plain_form(masks):
    index = torch.tensor([4, 1, 1, 3])
    boxes = torch.tensor([[0, 0, 30, 20], [3.3, 2.7, 18.1, 9.9], [1, 1, 2, 2], [20, 10, 40, 30]])
    found = IndexedBitMasks(masks)[index].crop_and_resize(boxes, 14)
    assert torch.equal(found, BitMasks(masks[index]).crop_and_resize(boxes, 14))
    assert found.any()
    with pytest.raises(ValueError, match="4 boxes for 5 masks"):
        IndexedBitMasks(masks).crop_and_resize(boxes, 14)


def test_no_entry_and_inside_instances(masks):
    none = IndexedBitMasks(masks)[torch.zeros(0, dtype=torch.int64)]
    assert none.crop_and_resize(torch.zeros(0, 4), 7).shape == (0, 7, 7)
    assert IndexedBitMasks(masks[:0]).tensor.shape == (0, 20, 30)
    instances = Instances((20, 30), gt_boxes=Boxes(torch.rand(5, 4)))
    instances.gt_masks = IndexedBitMasks(masks)
    picked = instances.to("cpu")[torch.tensor([2, 0])]
    both = Instances.cat([picked, picked])
    assert torch.equal(both.gt_masks.tensor, masks[[2, 0, 2, 0]])

"""Masks as runs behave as Detectron2's bit masks, bit for bit."""

import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances

from wsis.structures import run_masks
from wsis.structures.rle import encode_box, encode_mask
from wsis.structures.run_masks import RunMasks


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
    runs = RunMasks(masks)
    found = runs[item]
    assert found.starts.data_ptr() == runs.starts.data_ptr()
    expected = BitMasks(masks)[item]
    assert torch.equal(found.tensor, expected.tensor)
    assert len(found) == len(expected)
    assert torch.equal(found.nonempty(), expected.nonempty())
    assert found.image_size == expected.image_size
    if len(found) == 3:
        again = torch.tensor([0, 2, 2])
        assert torch.equal(found[again].tensor, expected.tensor[again])


@pytest.mark.parametrize("cells", [run_masks._CELLS, 1300, 1])
@pytest.mark.parametrize("share", [0.02, 0.5, 1.0])
def test_crop_and_resize_equals_the_plain_form(monkeypatch, share, cells):
    monkeypatch.setattr(run_masks, "_CELLS", cells)  # as many masks at a time as these pixels are
    masks = torch.rand(7, 20, 30) < share
    index = torch.randint(0, 6, (200,))  # the last one is not asked for
    boxes = torch.rand(200, 2) * torch.tensor([40, 30]) - 5
    boxes = torch.cat([boxes, boxes + torch.rand(200, 2) * 25], dim=1)
    boxes[:100] = boxes[:100].round()  # cells of which exactly half is covered
    found = RunMasks(masks)[index].crop_and_resize(boxes, 14)
    assert torch.equal(found, BitMasks(masks[index]).crop_and_resize(boxes, 14))
    assert found.any() and not found.all()


def test_values_at_points_are_those_of_the_pixels(masks):
    index = torch.tensor([1, 0, 1, 2])
    entries = RunMasks(masks)[index]
    entries = RunMasks.cat([entries.union(RunMasks(masks)[index.flip(0)]), entries])  # runs overlap
    height, width = masks.shape[1:]
    points = torch.rand(8, 300, 2) * torch.tensor([width + 4.0, height + 4.0]) - 2
    x, y = points.floor().long().unbind(-1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    at = torch.arange(8)[:, None], y.clamp(0, height - 1), x.clamp(0, width - 1)
    expected = entries.tensor[at] & inside
    assert torch.equal(entries.at(points), expected) and 0 < expected.sum() < inside.sum()
    nothing = RunMasks(torch.zeros(2, 4, 5))
    assert not nothing.at(torch.rand(2, 3, 2)).any()
    assert nothing[:0].at(torch.rand(0, 3, 2)).shape == (0, 3)


def test_as_many_boxes_as_masks(masks):
    with pytest.raises(ValueError, match="4 boxes for 5 masks"):
        RunMasks(masks).crop_and_resize(torch.zeros(4, 4), 14)


def test_union_is_entry_by_entry(masks):
    first, second = RunMasks(masks)[[4, 1, 1, 4, 0]], torch.rand(5, 20, 30) < 0.3
    index = torch.tensor([0, 2, 3, 0, 2])
    for other in (RunMasks(second)[index], BitMasks(second[index])):
        union = first.union(other)
        assert torch.equal(union.tensor, first.tensor | other.tensor)
    assert len(first.union(RunMasks(second)[index]).counts) == 4  # one pair is there twice


def test_from_every_form_of_segmentation(masks):
    masks = masks.numpy()
    masks[1] = True
    masks[2] = False
    codes = [None, *map(encode_mask, masks), [[2, 3, 20, 3, 20, 10, 2, 10]]]
    counts = [0, 0, 40, 0, 25, 535]  # runs without a pixel
    codes.append({"size": [20, 30], "counts": counts})
    found = RunMasks.from_segmentations(codes, 20, 30).tensor.numpy()
    assert not found[0].any()
    assert np.array_equal(found[1:6], masks)
    assert found[6].sum() == 18 * 7 and found[6, 3:10, 2:20].all()
    assert found[7].T.ravel().nonzero()[0].tolist() == list(range(65, 600))
    assert RunMasks.from_segmentations([], 20, 30).tensor.shape == (0, 20, 30)


def test_many_small_masks_of_a_large_image_need_no_pixel_but_theirs():
    codes = [encode_box((x, y, x + 9, y + 9), 4000, 6000) for x in range(20) for y in range(20)]
    runs = RunMasks.from_segmentations(codes, 4000, 6000)
    assert len(runs.starts) == 400 * 9 and (runs.lengths == 9).all()
    assert runs[399].tensor.nonzero().amin(dim=0).tolist() == [0, 19, 19]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ({"size": [20, 31], "counts": "0"}, r"size \[20, 31\], expected \[20, 30\]"),
        ({"size": [20, 30], "counts": "00"}, "counts add up to 0, expected 600"),
        ({"size": [20, 30], "counts": ""}, "not a run-length code"),
        ({"size": [20, 30], "counts": "o"}, "not a run-length code"),
        ([[1, 2, 3, 4]], "three x, y pairs"),
    ],
)
def test_a_code_that_is_none_among_good_ones(masks, code, message):
    good = encode_mask(masks[0].numpy())
    for codes in ([code], [good, code, good]):
        with pytest.raises(ValueError, match=message):
            RunMasks.from_segmentations(codes, 20, 30)


def test_no_entry_and_inside_instances(masks):
    none = RunMasks(masks)[torch.zeros(0, dtype=torch.int64)]
    assert none.crop_and_resize(torch.zeros(0, 4), 7).shape == (0, 7, 7)
    assert RunMasks(masks[:0]).tensor.shape == (0, 20, 30)
    instances = Instances((20, 30), gt_boxes=Boxes(torch.rand(5, 4)))
    instances.gt_masks = RunMasks(masks)
    picked = instances.to("cpu")[torch.tensor([2, 0])]
    both = Instances.cat([picked, picked])
    assert torch.equal(both.gt_masks.tensor, masks[[2, 0, 2, 0]])
    assert torch.equal(RunMasks.cat([picked.gt_masks, BitMasks(masks)])[3].tensor[0], masks[1])

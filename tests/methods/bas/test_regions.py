"""BAS' box mode with a shared trunk: regions of whole images' features."""

import numpy as np
import pytest
import torch

from tests.methods.bas.tiny import SIDE, STRIDE, asked, make_box_model, pixels, taught
from wsis.methods.bas.box_refiner import MAPS, WINDOWS
from wsis.methods.bas.config import BASBoxParams
from wsis.methods.bas.regions import cut_out, drawn_regions, mirrored


def test_a_box_of_the_whole_image_is_its_crop():
    seeds = []
    for region in ("crop", "shared"):
        model = make_box_model(region, context=1.0).eval()
        with torch.no_grad():
            seeds += model.propose([asked((0, 0, SIDE, SIDE))])
    crop, shared = (seed.maps for seed in seeds)
    assert crop[WINDOWS].tolist() == shared[WINDOWS].tolist() == [[0, 0, SIDE, SIDE]]
    assert np.ptp(crop[MAPS]) > 0
    np.testing.assert_allclose(shared[MAPS], crop[MAPS], atol=1e-6)


def test_whole_cells_are_cut_out_as_they_are():
    features = torch.rand(2, 5, 8, 8)
    windows = [torch.tensor([[8.0, 4.0, 24.0, 20.0]]), torch.tensor([[-16.0, 0.0, 16.0, 32.0]])]
    found = cut_out(features, windows, STRIDE, 4)
    torch.testing.assert_close(found[0], features[0, :, 1:5, 2:6])
    beyond = cut_out(features[1:], windows[1:], STRIDE, 8)[0]
    assert not beyond[:, :, :3].any()
    torch.testing.assert_close(beyond[:, :, 4:], features[1, :, :, :4])
    assert mirrored(windows[0], SIDE).tolist() == [[8, 4, 24, 20]]
    assert mirrored(windows[1], SIDE).tolist() == [[16, 0, 48, 32]]


def test_the_map_of_the_mirror_image_is_mirrored():
    boxes = (3, 4, 20, 28), (16, 2, 30, 12)
    model = make_box_model().eval()
    turned = [(SIDE - x1, y0, SIDE - x0, y1) for x0, y0, x1, y1 in boxes]
    with torch.no_grad():
        (one,) = model.propose([asked(*boxes)])
        (other,) = model.propose([asked(*turned, image=pixels()[:, ::-1].copy())])
    np.testing.assert_allclose(one.maps[MAPS], other.maps[MAPS][..., ::-1], atol=1e-5)


def test_windows_follow_the_size_that_the_network_sees():
    model = make_box_model(context=1.0).eval()
    model.network.backbone.trunk = torch.nn.AvgPool2d(STRIDE)
    inputs = asked((8, 0, 24, 32), enlarged=2)
    look = model._look_at_image(inputs)
    own, turned = look(np.array([[8, 0, 24, 32]]))
    torch.testing.assert_close(turned.flip(-1), own)
    whole = model.normalise(inputs["image"])[:, :, 16:48]
    expected = torch.nn.functional.avg_pool2d(whole, (8, 4))
    torch.testing.assert_close(own, expected)


@pytest.mark.parametrize(
    "boxes",
    [(), ((5, 5, 6, 6),), ((0, 0, 12, 9), (20, 25, 32, 32)), ((0, 31, 32, 32),)],
    ids=["no boxes", "one pixel", "at the borders", "a row"],
)
def test_any_box_gets_a_mask_in_it(boxes):
    model = make_box_model(boxes_per_batch=1).eval()
    inputs = asked(*boxes)
    with torch.no_grad():
        (seed,) = model.propose([inputs])
    assert len(seed.maps[MAPS]) == len(boxes) and np.isfinite(seed.maps[MAPS]).all()
    masks = model.refiner()(seed, inputs["original_image"]).to_instances().pred_masks
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = False
        assert not mask.any()


def test_training_reaches_the_trunk_from_every_image():
    model = make_box_model().train()
    batch = [taught((2, 2, 18, 20), (8, 8, 30, 30)), taught(), taught((0, 0, 32, 16))]
    losses = model(batch)
    sum(losses.values()).backward()
    assert all(
        p.grad is not None and p.grad.any() for p in model.network.backbone.trunk.parameters()
    )
    assert model.network.generator.weight.grad.any()


def test_a_batch_without_boxes_teaches_nothing():
    model = make_box_model(tightness_weight=1.0).train()
    some, none = model([taught((2, 2, 18, 20))]), model([taught(), taught((4, 4, 6, 20))])
    assert some.keys() == none.keys() and not any(none.values())
    sum(none.values()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_which_boxes_are_drawn():
    boxes = [(4 * i, 0, 4 * i + 8, 10) for i in range(5)] + [(0, 0, 3, 30)]
    params = BASBoxParams(min_side=4, boxes_per_batch=3, context_range=(1.5, 1.5))
    drawn = set()
    for seed in range(20):
        torch.manual_seed(seed)
        found = drawn_regions(taught(*boxes)["instances"], params)
        assert found.windows.shape == (3, 4) and found.boxes.shape == (3, 4)
        lefts = found.windows[:, 0] + found.boxes[:, 0] * (
            found.windows[:, 2] - found.windows[:, 0]
        )
        drawn |= set(lefts.round().int().tolist())
        sides = found.windows[:, 2:] - found.windows[:, :2]
        assert sides.tolist() == [[12, 16]] * 3  # 15 rows, rounded outwards
    assert drawn == {0, 4, 8, 12, 16}

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.golden.checks_icam_maps import icam_infer
from tests.golden.frame import read_arrays
from tests.masks import needs_crf
from tests.test_golden import DATA
from wsis.layers.dense_crf import DenseCRFParams
from wsis.layers.seeds import EPS
from wsis.methods.icam.maps import condition, crf_maps, tag_mask, winners
from wsis.modeling import class_maps


def made(seed=0, classes=3, size=(5, 6)):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, classes + 1, *size, generator=generator).mul(2).softmax(dim=1)


def test_classes_that_are_not_there_get_nothing():
    p = made()
    kept = condition(p, tag_mask([1], 3))
    assert not kept[:, [1, 3]].any()
    torch.testing.assert_close(kept.sum(dim=1), torch.ones(1, 5, 6))
    torch.testing.assert_close(kept[:, 2] / kept[:, 0], p[:, 2] / p[:, 0])
    assert not condition(torch.zeros(1, 4, 2, 2), tag_mask([], 3)).any()


def test_a_pixel_has_one_class_and_a_class_its_own_maximum():
    maps = torch.rand(3, 8, 9, generator=torch.Generator().manual_seed(1))
    maps[1] *= 0.01
    maps[1, 0, 0], maps[0, 0, 0], maps[2, 0, 0] = 0.5, 0.1, 0.1
    maps[2, :, 8] = maps[0, :, 8] = 2.0  # ties keep all
    best = winners(maps)
    counts = (best > 0).sum(dim=0)
    assert (counts[:, :8] == 1).all()
    assert (counts[:, 8] == 2).all()
    for number, top in enumerate((2.0, 0.5, 2.0)):
        assert best[number].max() == pytest.approx(top / (top + EPS))
    assert not winners(torch.stack([maps[0], maps[0] - 1]))[1].any()
    assert winners(maps[:0]).shape == (0, 8, 9)


def test_mirror_images_that_are_not_turned_back_are_found(monkeypatch):
    arrays = read_arrays(DATA / "icam" / "infer_two_classes.npz")
    monkeypatch.setattr(
        class_maps,
        "mirrored_sum",
        lambda network, image: network(image.expand(2, -1, -1, -1)).sum(0),
    )
    monkeypatch.setattr("tests.golden.checks_icam_maps.crf_maps", lambda _, maps, *rest: [maps] * 2)
    failed = {item.name for item in icam_infer(arrays) if not item.passed}
    assert {"mean_cam", "norm_cam"} <= failed


@needs_crf
def test_a_larger_power_leaves_less_background():
    crf = DenseCRFParams(3.0, 3.0, 10.0, 80.0, 13.0, iterations=1)
    image = np.full((16, 16, 3), 100, dtype=np.uint8)
    low, high = crf_maps(image, torch.linspace(0, 1, 256).view(1, 16, 16), (2.0, 4.0), crf)
    assert high[0].mean() < low[0].mean()

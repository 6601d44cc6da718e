from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.golden.checks_icam_maps import icam_infer
from tests.golden.frame import read_arrays
from tests.masks import needs_crf
from tests.test_golden import DATA
from wsis.layers.dense_crf import DenseCRFParams
from wsis.methods.icam import maps as module
from wsis.methods.icam.maps import (
    EPS,
    best_class,
    condition,
    crf_maps,
    mean_maps,
    multi_scale,
    tag_mask,
    winners,
)


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


def test_background_wins_where_a_class_is_not_above_a_half():
    maps = torch.tensor([[[0.5, 0.51, 0.0]], [[0.0, 0.0, 0.9]]])
    assert best_class(maps, [4, 7]).tolist() == [[0, 4, 7]]
    assert best_class(maps[:0], []).tolist() == [[0, 0, 0]]


def test_sizes_and_mirror_images_go_through_one_batch_each():
    batches = []

    def network(images):
        batches.append(images.shape)
        return torch.cat([images.mean(dim=1, keepdim=True), 1 - images[:, :1], images[:, 1:2]], 1)

    images = [
        torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
        for size in ((4, 5), (8, 10))
    ]
    found = multi_scale(network, images, tag_mask([0, 1], 2), (8, 10))
    assert batches == [(2, 3, 4, 5), (2, 3, 8, 10)]
    assert found.shape == (2, 8, 10)
    alone = [network(image[None]) for image in images]
    torch.testing.assert_close(found, mean_maps(alone, [False] * 2, tag_mask([0, 1], 2), (8, 10)))


def test_mirror_images_that_are_not_turned_back_are_found(monkeypatch):
    arrays = read_arrays(DATA / "icam" / "infer_two_classes.npz")
    plain = module.mean_over_scales
    monkeypatch.setattr(
        module,
        "mean_over_scales",
        lambda maps, mirrored, *a, **k: plain(maps, [False] * len(maps), *a, **k),
    )
    monkeypatch.setattr("tests.golden.checks_icam_maps.crf_maps", lambda image, maps, *_: maps)
    failed = {item.name for item in icam_infer(arrays) if not item.passed}
    assert {"mean_cam", "norm_cam"} <= failed


def test_an_image_without_a_class_is_all_background():
    crf = DenseCRFParams(3.0, 3.0, 10.0, 80.0, 13.0, iterations=1)
    image = np.zeros((4, 5, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        crf_maps(image, np.zeros((0, 4, 5)), 2.0, crf), np.ones((1, 4, 5))
    )


@needs_crf
def test_a_larger_power_leaves_less_background():
    crf = DenseCRFParams(3.0, 3.0, 10.0, 80.0, 13.0, iterations=1)
    image = np.full((16, 16, 3), 100, dtype=np.uint8)
    maps = np.linspace(0, 1, 256, dtype=np.float32).reshape(1, 16, 16)
    low, high = (crf_maps(image, maps, alpha, crf)[0].mean() for alpha in (2.0, 4.0))
    assert high < low

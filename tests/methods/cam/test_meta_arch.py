"""Class activation maps: the sum over scales and mirror images, whose classes, and what is made of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.methods.cam.tiny import make_inputs, make_model
from wsis.modeling.class_maps import maps_over_scales
from wsis.structures import ImageMaps

IMAGE = np.zeros((41, 57, 3), np.uint8)


def made_of(model, inputs) -> ImageMaps:
    with torch.no_grad():
        (seed,) = model.propose([inputs])
    return model.refiner()(seed, IMAGE)


@torch.no_grad()
def test_maps_are_the_sum_over_scales_and_mirror_images():
    given, model = make_inputs(0, 2), make_model(stride=4, scales=(1.0, 0.5, 2.0))
    (seed,) = model.propose([given])
    expected = torch.zeros(2, 11, 15)
    for scale in (1.0, 0.5, 2.0):
        size = [round(scale * side) for side in (41, 57)]
        options = {"mode": "bicubic", "antialias": True, "align_corners": False}
        scaled = functional.interpolate(given["image"][None], size, **options)
        for turned in (False, True):
            view = scaled.flip(-1) if turned else scaled
            found = functional.avg_pool2d(view, 8, ceil_mode=True)[:, [0, 2]].relu()
            found = found.flip(-1) if turned else found
            expected += functional.interpolate(found, (11, 15), mode="bilinear")[0]
    np.testing.assert_allclose(seed.maps["cam"], expected.numpy(), atol=1e-5)
    assert seed.tags == (0, 2) and len(seed) == 0


def test_one_pass_per_scale_has_the_image_and_its_mirror_image():
    seen = []

    def network(images):
        seen.append(tuple(images.shape))
        return images

    image = torch.rand(3, 10, 14)
    (whole, *_) = maps_over_scales(network, image, (1.0, 0.5, 0.01))
    assert seen == [(2, 3, 10, 14), (2, 3, 5, 7), (2, 3, 1, 1)]
    torch.testing.assert_close(whole, 2 * image)


def test_the_refiner_scales_each_class_by_its_maximum_and_labels_the_image():
    made = made_of(make_model(sem_seg=True, background=0.3), make_inputs(0, 2))
    maps = made.score_maps["cam"]
    assert maps.classes.tolist() == [1, 3] and (maps.stride, maps.scores.shape) == (4, (2, 11, 15))
    np.testing.assert_allclose(maps.scores.max(axis=(1, 2)), [1, 1], atol=1e-5)
    label = made.sem_seg["cam_labels"]
    assert label.shape == (41, 57) and label.dtype == np.uint8
    assert [label[35, 2], label[2, 30], label[35, 50]] == [1, 3, 0], "the right side has no tag"
    assert made_of(make_model(), make_inputs(0, 2)).sem_seg == {}


@pytest.mark.parametrize(
    ("loss", "sign", "found"),
    [("soft_margin", 1, [1, 2, 3]), ("cross_entropy", 1, [1]), ("soft_margin", -1, [4])],
)
def test_tags_may_be_predicted(loss, sign, found):
    """Those that are probable, and the best one in any case."""
    given = make_inputs()
    given["image"] = sign * (given["image"] + 0.01)
    model = make_model(loss, tags="predicted", min_probability=0.5)
    assert made_of(model, given).score_maps["cam"].classes.tolist() == found
    model.cam = replace(model.cam, min_probability=1.0)
    assert made_of(model, given).score_maps["cam"].classes.tolist() == [found[0]]


def test_a_class_that_is_nowhere_has_a_map_of_zeros():
    scores = made_of(make_model(scales=(1.0,)), make_inputs(3)).score_maps["cam"].scores
    assert scores.shape == (1, 11, 15) and not scores.any()

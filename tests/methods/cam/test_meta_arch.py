"""Class activation maps: the sum over scales and mirror images, whose classes, and what is made of them."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from wsis.methods.cam.config import CAMParams
from wsis.methods.cam.meta_arch import CAM
from wsis.modeling.class_maps import maps_over_scales
from wsis.modeling.tag_classifier import TagClassifierParams


class Pools(nn.Module):
    """A backbone: means of 8 x 8 pixels."""

    def output_shape(self):
        return {"pools": type("Shape", (), {"channels": 3, "stride": 8})}

    def forward(self, images):
        return {"pools": functional.avg_pool2d(images, 8, ceil_mode=True)}


@pytest.fixture
def make():
    """``make(loss, **of CAMParams)``: a model whose class c is the channel c of the image, and class 3 is dark."""

    def model(loss="soft_margin", sem_seg=False, **cam):
        made = CAM(
            backbone=Pools(),
            num_classes=4,
            pixel_mean=[0.0] * 3,
            pixel_std=[1.0] * 3,
            params=TagClassifierParams(loss=loss),
            cam=CAMParams(**cam),
            sem_seg=sem_seg,
        )
        weight = torch.cat([torch.eye(3), -torch.ones(1, 3)])
        made.classifier.weight.data = weight[:, :, None, None]
        return made.eval().requires_grad_(False)

    return model


def inputs(tags=(0, 2), size=(41, 57)):
    """Class 0 is on the left, class 1 on the right, class 2 above."""
    image = torch.zeros(3, *size)
    image[0, :, :16], image[1, :, -24:], image[2, :24] = 4.0, 2.0, 1.0
    given = {"image": image, "height": size[0], "width": size[1], "tags": list(tags)}
    return given | {"image_id": 1, "file_name": "a.png"}


def test_maps_are_the_sum_over_scales_and_mirror_images(make):
    given, model = inputs(), make(stride=4, scales=(1.0, 0.5, 2.0))
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


def test_the_refiner_scales_each_class_by_its_maximum_and_labels_the_image(make):
    model = make(sem_seg=True, background=0.3)
    (seed,) = model.propose([inputs()])
    made = model.refiner()(seed, np.zeros((41, 57, 3), np.uint8))
    maps = made.score_maps["cam"]
    assert maps.classes.tolist() == [1, 3] and (maps.stride, maps.scores.shape) == (4, (2, 11, 15))
    np.testing.assert_allclose(maps.scores.max(axis=(1, 2)), [1, 1], atol=1e-5)
    label = made.sem_seg["cam_labels"]
    assert label.shape == (41, 57) and label.dtype == np.uint8
    assert [label[35, 2], label[2, 30], label[35, 50]] == [1, 3, 0], "the right side has no tag"
    assert make().refiner()(seed, np.zeros((41, 57, 3), np.uint8)).sem_seg == {}


@pytest.mark.parametrize(
    ("loss", "given", "found"),
    [
        ("soft_margin", inputs(()), (0, 1, 2)),
        ("cross_entropy", inputs(()), (0,)),
        ("soft_margin", inputs(()) | {"image": torch.full((3, 41, 57), -0.1)}, (3,)),
    ],
)
def test_tags_may_be_predicted(make, loss, given, found):
    model = make(loss, tags="predicted")
    (seed,) = model.propose([given])
    assert seed.tags == found and seed.maps["cam"].shape == (len(found), 11, 15)


def test_a_class_that_is_nowhere_has_a_map_of_zeros(make):
    model = make(scales=(1.0,))
    (seed,) = model.propose([inputs((3,))])
    scores = model.refiner()(seed, np.zeros((41, 57, 3), np.uint8)).score_maps["cam"].scores
    assert scores.shape == (1, 11, 15) and not scores.any()

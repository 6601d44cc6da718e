"""Masks as runs follow their image as label maps do, pixel for pixel."""

import numpy as np
import pytest
from detectron2.data import transforms as T

from wsis.data.mask_transform import source_axes, transform_masks
from wsis.structures.rle import encode_mask
from wsis.structures.run_masks import RunMasks


def resized(h, w, new_h, new_w):
    return T.ResizeTransform(h, w, new_h, new_w)


def mirrored(*places):
    return [T.HFlipTransform(places[1]), T.VFlipTransform(places[0])]


CASES = {
    "nothing": ((48, 64), []),
    "enlarged": ((48, 64), [resized(48, 64, 77, 131)]),
    "made smaller": ((48, 64), [resized(48, 64, 13, 29)]),
    "mirrored": ((48, 64), mirrored(48, 64)),
    "cut, resized, mirrored": (
        (48, 64),
        [T.CropTransform(3, 2, 50, 40), resized(40, 50, 80, 107), *mirrored(80, 107)],
    ),
    "other colours": ((48, 64), [T.BlendTransform(np.float32(0), 0.5, 0.5)]),
    "254 rows, 255 columns": ((254, 255), [resized(254, 255, 100, 333)]),
    "256 rows, 300 columns": ((256, 300), [resized(256, 300, 91, 40), T.HFlipTransform(40)]),
    "more columns than 16 bits hold": ((2, 65536), [resized(2, 65536, 3, 700)]),
    "turned": ((48, 64), [T.RotationTransform(48, 64, 30, expand=False)]),
    "turned by a right angle": ((48, 64), [T.RotationTransform(48, 64, 90)]),
    "padded": ((48, 64), [T.PadTransform(3, 4, 5, 6), *mirrored(58, 70)]),
}
PACKED = ("turned", "turned by a right angle", "padded")


@pytest.mark.parametrize("number", [0, 1, 9])
@pytest.mark.parametrize("case", CASES)
def test_as_label_maps_one_by_one(case, number):
    size, listed = CASES[case]
    transforms = T.TransformList(listed)
    rng = np.random.default_rng(number)
    masks = rng.random((number, *size)) < rng.random((number, 1, 1))
    codes = [None if i == 3 else encode_mask(mask) for i, mask in enumerate(masks)]
    masks[3:4] = False
    shape = transforms.apply_segmentation(np.zeros(size, dtype=np.uint8)).shape
    assert (source_axes(transforms, size, shape) is None) == (case in PACKED)
    found = transform_masks(RunMasks.from_segmentations(codes, *size), transforms, shape)
    assert found.tensor.shape == (number, *shape)
    assert found.nonempty().tolist() == found.tensor.flatten(1).any(dim=1).tolist()
    for row, mask in zip(found.tensor, masks, strict=True):
        assert np.array_equal(row, transforms.apply_segmentation(mask.astype(np.uint8)) != 0)


def test_what_mixes_pixels_is_left_to_the_label_maps():
    """Smoothing has no axes, however it looks at a first glance."""

    class Smooth(T.Transform):
        def apply_image(self, img):
            return (img // 2 + np.roll(img, 1, axis=1) // 2).astype(img.dtype)

        def apply_coords(self, coords):
            return coords

    assert source_axes(T.TransformList([Smooth()]), (20, 30), (20, 30)) is None

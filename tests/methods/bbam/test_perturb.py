import numpy as np
import pytest
import torch
from torch.nn import functional

from wsis.methods.bbam.perturb import MaskBatch, blurred, blurred_with_noise, fill_outside, perturb
from wsis.methods.bbam.proposals import box_generator


def masks():
    generator = torch.Generator().manual_seed(0)
    sizes = (1, 1), (1, 5), (4, 1), (2, 2), (3, 7), (40, 56)
    return [torch.rand(size, generator=generator, dtype=torch.float64) for size in sizes]


def interpolated(mask, size, aligned=True):
    return functional.interpolate(mask[None, None], size, mode="bilinear", align_corners=aligned)


@pytest.mark.parametrize("size", [(40, 56), (33, 47), (1, 1), (1, 9)])
def test_upsampling_is_bilinear_with_aligned_corners(size):
    found = MaskBatch(masks(), *size).upsample()
    aligned, half_pixel = (
        torch.cat([interpolated(mask, size, each) for mask in masks()]) for each in (True, False)
    )
    torch.testing.assert_close(found, aligned, rtol=0, atol=1e-12)
    assert size != (40, 56) or (found - half_pixel).abs().max() > 0.1


def test_a_batch_gives_each_mask_its_own_gradient_and_padding_none():
    batch, weights = MaskBatch(masks(), 20, 30), torch.rand(20, 30, dtype=torch.float64)
    batch.values.requires_grad_()
    (batch.upsample()[:, 0] * weights).sum().backward()
    assert (batch.values.grad * (1 - batch.valid)).abs().max() == 0
    for mask, gradient in zip(masks(), batch.split(batch.values.grad), strict=True):
        alone = mask.requires_grad_()
        (interpolated(alone, (20, 30))[0, 0] * weights).sum().backward()
        torch.testing.assert_close(gradient, alone.grad)


def test_split_returns_copies_of_what_went_in():
    batch = MaskBatch(masks(), 20, 30)
    parts = batch.split(batch.values)
    batch.values.zero_()
    assert all(part.equal(mask) for part, mask in zip(parts, masks(), strict=True))


def test_fills_and_the_box_variant_that_leaves_the_box():
    image, fill = torch.rand(2, 3, 8, 9)
    up = torch.tensor([0.0, 0.25, 1.0])[:, None, None, None].expand(3, 1, 8, 9)
    constant, other = perturb(image[None], up), perturb(image[None], up, fill)
    assert constant[0].eq(0).all() and constant[2].equal(image)
    torch.testing.assert_close(constant[1], image / 4)
    assert other[0].equal(fill) and other[2].equal(image)
    torch.testing.assert_close(other[1], image / 4 + 3 * fill / 4)
    each = perturb(image[None], up, torch.stack([fill, image, fill]))
    assert each[0].equal(fill) and torch.allclose(each[1], image)
    before, inside = fill.clone(), torch.zeros(8, 9, dtype=torch.bool)
    inside[1:7, 2:5] = True
    out = fill_outside(image, fill, torch.tensor([2.9, 1.0, 5.2, 7.9]))
    assert out.equal(torch.where(inside, image, fill)) and fill.equal(before)


def test_blur_keeps_flat_images_and_type():
    image = np.full((20, 30, 3), (10, 100, 250), dtype=np.uint8)
    np.testing.assert_array_equal(blurred(image), image)
    image[10, 15] = 0
    assert blurred(image).dtype == np.uint8 and 0 < blurred(image)[10, 15, 2] < 250


def test_noise_is_that_of_the_box():
    image = np.full((60, 80, 3), 128, dtype=np.uint8)
    first, again, other = (
        blurred_with_noise(image, box_generator(0, number, stream=1)) for number in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.9
    assert first.dtype == np.float32 and first.min() == 0 and first.max() == 255
    assert np.abs(np.median(first) - 128) < 2
    assert np.std(first) == pytest.approx(0.2 * 255, rel=0.05)

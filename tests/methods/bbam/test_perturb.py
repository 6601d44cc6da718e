import numpy as np
import pytest
import torch
from torch.nn import functional

from wsis.methods.bbam.perturb import (
    MaskBatch,
    blurred,
    blurred_with_noise,
    make_fill,
)
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


IMAGE = torch.randn(3, 20, 24)
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
BOXES = torch.tensor([[2.0, 3, 9, 11], [5, 0, 24, 20]])


def prepare(pixels):
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float() - 100


def fill(mode, outside=False, ids=(4, 5), seed=0):
    def original():
        assert mode != "mean"
        return PIXELS

    return make_fill(mode, outside, IMAGE, BOXES[: len(ids)], ids, seed, original, prepare)


def test_noise_follows_from_seed_and_annotation_and_the_others_are_shared():
    assert fill("mean") is None
    assert torch.equal(fill("blur"), prepare(blurred(PIXELS)))
    both = fill("blurrandom")
    assert both.shape == (2, 3, 20, 24)
    assert torch.equal(fill("blurrandom", ids=(5,))[0], both[1])
    assert not torch.equal(both[0], both[1])
    assert not torch.equal(fill("blurrandom", seed=1), both)
    assert 20 < (both[0] - prepare(blurred(PIXELS))).std() < 60


@pytest.mark.parametrize("mode", ["mean", "blur", "blurrandom"])
def test_inside_of_the_box_the_image_stays(mode):
    made = fill(mode, outside=True)
    plain = fill(mode) if mode != "mean" else torch.zeros(3, 20, 24)
    plain = plain.expand(2, 3, 20, 24)
    for i, (x0, y0, x1, y1) in enumerate(BOXES.int().tolist()):
        inside = torch.zeros(20, 24, dtype=torch.bool)
        inside[y0:y1, x0:x1] = True
        assert torch.equal(made[i], torch.where(inside, IMAGE, plain[i]))

import numpy as np
import pytest
import torch

from wsis.methods.bbam.fills import make_fill
from wsis.methods.bbam.perturb import blurred

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

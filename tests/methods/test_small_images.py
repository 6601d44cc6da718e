"""Images of few pixels: every method of image tags, and those of boxes that stand on them, still answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.config_files import load
from tests.methods.bas import tiny as tiny_bas
from tests.methods.irn import tiny as tiny_irn
from tests.models import METHODS
from wsis.engine import WsisTrainer
from wsis.structures import ProxyMasks, ScoreMaps

MAKERS = ["tags_soft_margin", "icam", "affinity_net", "bas", "bas_crop", "bas_shared", "icam_box"]


def inputs(size):
    """An image with a tag, a box of one pixel and a large one, and score maps."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    found = tiny_bas.asked((0, 0, size[1], size[0]), (2, 3, 3, 4))
    found |= {"original_image": pixels, "height": size[0], "width": size[1], "tags": [1]}
    found["image"] = torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float()
    maps = ScoreMaps(np.array([1, 2]), np.random.default_rng(1).random((2, *size)), *size)
    return found | {"score_maps": {"icam": maps}}


def check(model, given):
    with torch.no_grad():
        (seed,) = model.eval().propose([given])
    made = model.refiner()(seed, given["original_image"])
    if isinstance(made, ProxyMasks):
        assert len(made.masks) == 2
    else:
        assert made.score_maps
    for maps in made.score_maps.values():
        assert np.isfinite(maps.scores).all() and len(maps.classes)


@pytest.mark.parametrize("size", [(16, 16), (5, 40), (8, 8)], ids=str)
@pytest.mark.parametrize("name", MAKERS)
def test_it_answers(name, size):
    check(METHODS[name]()[0], inputs(size))


def test_a_walk_along_edges():
    model = tiny_irn.make_model()
    model.reader = lambda seed, stride: ([2], torch.rand(1, 16 // stride, 16 // stride))
    check(model, inputs((16, 16)))


@pytest.mark.parametrize("top_k", [1, 0])
def test_the_published_network_of_seeds_and_maps(top_k):
    names = ["MODEL.ROI_HEADS.NUM_CLASSES", "3", "MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu"]
    more = ["MODEL.BAS.TOP_K", str(top_k), "MODEL.BAS.SCALES", "(1.0, 0.5)"]
    model = WsisTrainer.build_model(load("BAS/bas_R_50_cub.yaml", *names, *more))
    check(model, inputs((16, 16)))
    with torch.no_grad():
        (found,) = model([inputs((16, 16))])
    assert found["tags"].isfinite().all()

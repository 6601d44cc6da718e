"""Recorded maps of IRNet, with weights made from their names."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import torch
from detectron2.modeling import build_model

from tests.golden.compare import Comparison, exact, relative
from tests.golden.frame import Arrays, check
from wsis.config import get_cfg
from wsis.methods.irn import IRN
from wsis.methods.irn.key_map import from_irnet


def value_of(name: str, shape: Sequence[int]) -> torch.Tensor:
    """What a weight of a name is filled with."""
    random = np.random.RandomState(zlib.crc32(name.encode()))  # noqa: NPY002
    if name.endswith("running_var"):
        value = 0.5 + random.rand(*shape)
    elif name.endswith(("running_mean", "bias")):
        value = 0.1 * random.randn(*shape)
    elif len(shape) == 1:
        value = 0.5 + 0.5 * random.rand(*shape)
    else:
        value = random.randn(*shape) * np.sqrt(2 / np.prod(shape[1:]))
    return torch.from_numpy(value.astype(np.float32))


@cache
def make_network(names: tuple[str, ...], side: int) -> tuple[IRN, list[str]]:
    """The network with a weight of each name, and the names of its weights that they do not give."""
    cfg = get_cfg()
    cfg.merge_from_list(
        ["MODEL.META_ARCHITECTURE", "IRN", "MODEL.DEVICE", "cpu", "MODEL.IRN.MIN_SIDE", side]
        + ["MODEL.BACKBONE.NAME", "build_resnet_stride16_backbone", "MODEL.RESNETS.DEPTH", 50]
        + ["MODEL.RESNETS.OUT_FEATURES", ["stem", "res2", "res3", "res4", "res5"]]
        + ["MODEL.RESNETS.STRIDE_IN_1X1", False]
        + ["MODEL.PIXEL_MEAN", [0.0] * 3, "MODEL.PIXEL_STD", [1.0] * 3]
    )
    network = build_model(cfg).eval()
    # the new name of each weight is seen from a weight that holds the place of its old one
    places = from_irnet({name: torch.tensor(i) for i, name in enumerate(names)})
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    old = {names[int(place)]: name for name, place in places.items()}
    weights = {name: value_of(name, shapes[ours]) for name, ours in old.items()}
    missing, unexpected = network.load_state_dict(from_irnet(weights), strict=False)
    return network, [*missing, *unexpected, *(set(names) - set(old))]


@check("bas", "net_irn", "image_seed size crop_size edge displacement keys")
def bas_net_irn(arrays: Arrays) -> Iterator[Comparison]:
    """Edges of an image and its mirror image, displacements of the image, on a padded image."""
    size = arrays["size"].tolist()
    network, unknown = make_network(tuple(arrays["keys"].tolist()), int(arrays["crop_size"]))
    image = np.random.RandomState(int(arrays["image_seed"])).randn(1, 3, *size)  # noqa: NPY002
    with torch.no_grad():
        edge, displacement = network.maps(torch.from_numpy(image[0].astype(np.float32)))
    yield exact("keys", len(unknown), 0)
    yield relative("edge", edge[None], arrays["edge"], 1e-3)
    yield relative("displacement", displacement, arrays["displacement"], 1e-3)

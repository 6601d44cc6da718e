"""Recorded blocks of ResNet-38, and the network that ICAM's maps come from."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from tests.golden.compare import Comparison, absolute
from tests.golden.frame import Arrays, check, tensor
from wsis.modeling.backbones.resnet38 import ResNet38Params, basic_block, bottleneck

PARAMS = ResNet38Params()


@check("icam", "resblock", "x out pre args p.conv_branch2a.weight p.bn_branch2a.weight")
def icam_resblock(arrays: Arrays) -> Iterator[Comparison]:
    """A block of each kind; a plain one's stride or dilation is 1 where the file does not name it."""
    first, *inner, last = arrays["args"].tolist()
    dilation = int(arrays.get("dilation", 1))
    if inner and "first_dilation" not in arrays:
        stride, first_dilation = int(arrays.get("stride", 1)), dilation
    else:
        stride, first_dilation = int(arrays["stride"]), int(arrays.get("first_dilation", 1))
    if inner:
        block = basic_block((first, inner[0], last), stride, (first_dilation, dilation), PARAMS)
    else:
        block = bottleneck(first, last, stride, dilation, float(arrays["dropout"]), PARAMS)
    weights = {n.removeprefix("p."): tensor(v) for n, v in arrays.items() if n.startswith("p.")}
    block.eval().load_state_dict(weights)
    with torch.no_grad():
        out, activated = block(tensor(arrays["x"]))
    yield absolute("out", out, arrays["out"], 1e-5)
    yield absolute("pre", activated, arrays["pre"], 1e-5)

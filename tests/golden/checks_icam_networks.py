"""Recorded blocks of ResNet-38, and the network that ICAM's maps come from."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from torch.nn import functional

from tests.golden.compare import Comparison, absolute, each, relative
from tests.golden.frame import Arrays, check, tensor
from wsis.methods.icam.losses import probability_logit
from wsis.methods.icam.network import CamNetwork, refine
from wsis.modeling.backbones.resnet38 import ResNet38, ResNet38Params, basic_block, bottleneck

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


@check("icam", "pcm", "cam_logits feat f9_weight cam_rv_logits cotangent grad_cam grad_feat grad_w")
def icam_pcm(arrays: Arrays) -> Iterator[Comparison]:
    """Refined maps, and the gradients of maps, features and their convolution."""
    logits, feat, weight = (
        tensor(arrays[name]).requires_grad_() for name in ("cam_logits", "feat", "f9_weight")
    )
    refined = refine(logits, functional.conv2d(feat, weight))
    refined.backward(tensor(arrays["cotangent"]))
    yield absolute("cam_rv_logits", refined, arrays["cam_rv_logits"], 1e-5)
    gradients = {"grad_cam": logits.grad, "grad_feat": feat.grad, "grad_w": weight.grad}
    yield from each(arrays, gradients, relative, 1e-4)


@torch.no_grad()
def fill(net: torch.nn.Module) -> None:
    """Gives each parameter and statistic, sorted by the names of the release, its values."""
    state = {name.removeprefix("backbone."): value for name, value in net.state_dict().items()}
    for number, (name, value) in enumerate(sorted(state.items())):
        noise = np.random.RandomState(1000 + number).standard_normal(value.numel())
        noise = noise.reshape(value.shape)
        if name.endswith("running_var"):
            noise = 1 + 0.1 * np.abs(noise)
        elif name.endswith(("running_mean", "bias")):
            noise *= 0.1
        elif noise.ndim == 1:
            noise = 0.5 + 0.05 * noise
        else:
            noise *= np.sqrt(2 / value[0].numel())
        value.copy_(torch.from_numpy(noise.astype(np.float32)))


def make_network() -> CamNetwork:
    """The published network, 420 MB, which nothing keeps."""
    net = CamNetwork(ResNet38(PARAMS), num_classes=20, channels=(64, 128), dropout=0.5).eval()
    fill(net)
    return net


@cache
def network_maps(image: bytes, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """All that a file records of one image."""
    net = make_network()
    x = torch.from_numpy(np.frombuffer(image, dtype=np.float32).reshape(shape).copy())
    with torch.no_grad():
        features, maps = net.backbone(x), net(x)
    found = {name: values[:, :64] for name, values in features.items()}
    found |= {f"{name}_chmean": values.mean(dim=(2, 3)) for name, values in features.items()}
    found |= {"cam_logits": maps.plain, "cam_rv_logits": maps.refined}
    found |= {"cam": maps.plain.softmax(dim=1), "cam_rv": maps.refined.softmax(dim=1)}
    found["pred"] = probability_logit(found["cam"].amax(dim=(2, 3), keepdim=True))
    return {name: values.numpy() for name, values in found.items()}


MAPS = "conv4 conv5 conv6 conv4_chmean conv5_chmean conv6_chmean pred cam cam_logits cam_rv cam_rv_logits"


@check("icam", "resnet38_cam_rule", f"x {MAPS}")
def icam_resnet38_cam_rule(arrays: Arrays) -> Iterator[Comparison]:
    """The whole network with weights made by a rule."""
    image = np.ascontiguousarray(arrays["x"], dtype=np.float32)
    found = network_maps(image.tobytes(), image.shape)
    yield from each(arrays, {name: found[name] for name in MAPS.split()}, absolute, 1e-4)

"""The network: a trunk with a weak head for boxes and a full head for masks."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from detectron2.modeling import Backbone
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from wsis.layers.top_down import TopDown
from wsis.methods.boxcaseg.config import NetworkParams
from wsis.methods.boxcaseg.hrnet import HRNet
from wsis.methods.boxcaseg.transforms import MEAN, STD

HEAD_STD = 0.001
TRANSFER_STD = 0.01
NEGATIVE_SLOPE = 0.1
EXPANSION = 4


class WeightTransfer(nn.Module):
    """Predicts a 1x1 convolution from another one, row by row, without a gradient to the latter.

    W'_r = fc2(LeakyReLU(fc1(W_r))) for each row r, bias' = k bias + b.
    """

    def __init__(self, channels: int) -> None:
        """
        Args:
            channels: input channels of the convolutions.
        """
        super().__init__()
        self.k = nn.Parameter(torch.ones(1))
        self.b = nn.Parameter(torch.zeros(1))
        self.fc1 = nn.Linear(channels, EXPANSION * channels)
        self.fc2 = nn.Linear(EXPANSION * channels, channels)

    def forward(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias of the other convolution.

        Args:
            weight: (O, C, 1, 1) or (O, C).
            bias: (O,).

        Returns:
            Of the same shapes.
        """
        rows = weight.detach().flatten(1)
        predicted = self.fc2(F.leaky_relu(self.fc1(rows), NEGATIVE_SLOPE))
        return predicted.view_as(weight), self.k * bias.detach() + self.b


class TwoHeads(nn.Module):
    """A trunk and its two heads; the names of the heads' parameters are those of the original release.

    The weak head (``last_layer``) learns from boxes. The full head is ``fcn_ratio`` times a head of its own (``fcn``)
    and the rest one whose convolutions are predicted from the weak head's, which gets no gradient by that.

    Attributes:
        stride: of the trunk's map and the logits.
    """

    stride: int = 4

    def add_heads(self, channels: int, momentum: float, fcn_ratio: float) -> None:
        """To be called once by a trunk's constructor.

        Args:
            channels: of the trunk's map.
            momentum: of the heads' batch norms.
            fcn_ratio: see :class:`NetworkParams`.
        """
        self.fcn_ratio = fcn_ratio
        self.last_layer = _head(channels, momentum)
        self.fcn = _head(channels, momentum)
        self.transfer1 = WeightTransfer(channels)
        self.transfer2 = WeightTransfer(channels)
        self.transfer_bn = nn.BatchNorm2d(channels, momentum=momentum)
        for module in (*self.last_layer, *self.fcn):
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=HEAD_STD)
        for transfer in (self.transfer1, self.transfer2):
            for linear in (transfer.fc1, transfer.fc2):
                nn.init.normal_(linear.weight, std=TRANSFER_STD)
                nn.init.normal_(linear.bias, std=TRANSFER_STD)

    def features(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) to the trunk's map (N, channels, ceil(H / stride), ceil(W / stride))."""
        raise NotImplementedError

    def fold(self) -> None:
        """Makes the trunk faster in eval mode, in place, where that is known to leave its map the same."""

    def forward(self, images: Tensor, salient: Tensor) -> tuple[Tensor, Tensor]:
        """Both heads, as training needs them.

        Args:
            images: (N, 3, H, W) float, normalised.
            salient: (N,) bool, the M samples that the full head is for.

        Returns:
            Logits of the weak head (N, 1, h, w) and of the full head (M, 1, h, w). With M = 0 the full
            head does not run, and its batch norms stay as they are; unless norms are shared by several processes and
            another one runs it, which would wait for this one: then the first sample, whatever it is, passes through.
        """
        features = self.features(images)
        weak = self.last_layer(features)
        elsewhere = self._runs_elsewhere(salient)
        chosen = features[salient]
        if len(chosen):
            return weak, self.full(chosen)
        return weak, self.full(features[:1])[:0] if elsewhere else weak[:0]

    def _runs_elsewhere(self, salient: Tensor) -> bool:
        """Whether some process has a salient sample, where batch norms are those of all processes together."""
        shared = isinstance(self.transfer_bn, nn.SyncBatchNorm) and self.training
        if not (shared and distributed.is_initialized()):
            return False
        count = salient.sum()
        distributed.all_reduce(count)
        return bool(count)

    def full(self, features: Tensor) -> Tensor:
        """Logits of the full head, (N, 1, h, w), from (N, channels, h, w)."""
        first, _, last = _layers(self.last_layer)
        hidden = F.conv2d(features, *self.transfer1(first.weight, first.bias))
        hidden = F.relu(self.transfer_bn(hidden))
        transferred = F.conv2d(hidden, *self.transfer2(last.weight, last.bias))
        return self.fcn_ratio * self.fcn(features) + (1 - self.fcn_ratio) * transferred

    def full_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters that the full head alone trains."""
        for module in (self.fcn, self.transfer1, self.transfer2, self.transfer_bn):
            yield from module.parameters()


class BoxCasegNetwork(HRNet, TwoHeads):
    """HRNet and its two heads; the names of all parameters are those of the original release."""

    def __init__(
        self, *args: Any, fcn_ratio: float = NetworkParams.fcn_ratio, **kwargs: Any
    ) -> None:
        """
        Args:
            args, kwargs: see :class:`HRNet`.
            fcn_ratio: see :class:`NetworkParams`.
        """
        super().__init__(*args, **kwargs)
        self.add_heads(self.channels, self.norm_momentum, fcn_ratio)

    def fold(self) -> None:
        """See :class:`TwoHeads`; every batch norm of HRNet comes right after a convolution."""
        fold_norms(self)


class BackboneNetwork(TwoHeads):
    """Any backbone of Detectron2's registry, a decoder and the two heads."""

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        backbone: Backbone,
        params: NetworkParams,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        bgr: bool,
    ) -> None:
        """
        Args:
            backbone: its maps are joined at the finest one.
            params: of the decoder and the heads.
            pixel_mean, pixel_std: that the backbone's weights want, of 0 to 255.
            bgr: the order of its channels.
        """
        super().__init__()
        self.backbone = backbone
        shapes = backbone.output_shape()
        self.decoder = TopDown(shapes, params.decoder_channels)
        self.stride = min(shape.stride or 1 for shape in shapes.values())
        self.bgr = bgr
        order = -1 if bgr else 1
        mean, std = (np.array(values, dtype=np.float32) / 255 for values in (pixel_mean, pixel_std))
        scale, shift = STD[::order] / std, (MEAN[::order] - mean) / std
        self.register_buffer("scale", torch.from_numpy(scale).view(3, 1, 1), persistent=False)
        self.register_buffer("shift", torch.from_numpy(shift).view(3, 1, 1), persistent=False)
        self.add_heads(params.decoder_channels, params.norm_momentum, params.fcn_ratio)

    def features(self, images: Tensor) -> Tensor:
        """See :class:`TwoHeads`; images of the "unified" normalisation."""
        pixels = images.flip(1) if self.bgr else images
        return self.decoder(self.backbone(pixels * self.scale + self.shift))


class FoldedNetwork(nn.Module):
    """One head of a trained network, ready for inference: the same map to float rounding.

    Predicted weights are computed once, batch norms are part of the convolutions, the two branches of the full head are
    one, and the other head is not there. A copy: later changes of the network do not reach it.
    """

    def __init__(self, network: TwoHeads, head: str = "full") -> None:
        """
        Args:
            network: with its running statistics.
            head: "full" or "weak".
        """
        super().__init__()
        self.body = copy.deepcopy(network).eval().requires_grad_(False)
        with torch.no_grad():
            convolutions = _weak_head if head == "weak" else _full_head
            self.hidden, self.last = convolutions(self.body)
        for name in ("last_layer", "fcn", "transfer1", "transfer2", "transfer_bn"):
            delattr(self.body, name)
        self.body.fold()

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the head, (N, 1, h, w), for (N, 3, H, W) normalised images."""
        # channels last: a seventh less time on a CPU
        features = self.body.features(images.contiguous(memory_format=torch.channels_last))
        return self.last(F.relu(self.hidden(features)))


def fold_norms(module: nn.Module) -> None:
    """Makes every batch norm that comes right after a convolution part of it, in place, in eval mode."""
    children = list(module.named_children())
    for (before, convolution), (name, norm) in pairwise(children):
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, _BatchNorm):
            setattr(module, before, fuse_conv_bn_eval(convolution, norm))
            setattr(module, name, nn.Identity())
    for _, child in children:
        fold_norms(child)


def _weak_head(network: TwoHeads) -> tuple[nn.Conv2d, nn.Conv2d]:
    first, norm, last = _layers(network.last_layer)
    return fuse_conv_bn_eval(first, norm), last


def _full_head(network: TwoHeads) -> tuple[nn.Conv2d, nn.Conv2d]:
    """Both branches as one: the hidden channels of one beside those of the other."""
    weak_first, _, weak_last = _layers(network.last_layer)
    first, norm, last = _layers(network.fcn)
    predicted = _convolution(*network.transfer1(weak_first.weight, weak_first.bias))
    hidden = fuse_conv_bn_eval(first, norm), fuse_conv_bn_eval(predicted, network.transfer_bn)
    ratio, other = network.fcn_ratio, network.transfer2(weak_last.weight, weak_last.bias)
    weights, biases = zip(*((part.weight, part.bias) for part in hidden), strict=True)
    return _convolution(torch.cat(weights), torch.cat(biases)), _convolution(
        torch.cat([ratio * last.weight, (1 - ratio) * other[0]], dim=1),
        ratio * cast(Tensor, last.bias) + (1 - ratio) * other[1],
    )


def _convolution(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """A 1x1 convolution with given weights, which need no gradient."""
    convolution = nn.Conv2d(weight.shape[1], weight.shape[0], 1, device="meta").eval()
    convolution.weight = nn.Parameter(weight, requires_grad=False)
    convolution.bias = nn.Parameter(bias, requires_grad=False)
    return convolution


def _head(channels: int, momentum: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 1),
        nn.BatchNorm2d(channels, momentum=momentum),
        nn.ReLU(),
        nn.Conv2d(channels, 1, 1),
    )


def _layers(head: nn.Sequential) -> tuple[nn.Conv2d, nn.BatchNorm2d, nn.Conv2d]:
    """Both convolutions of a head, and the norm between them."""
    first, norm, _, last = head
    return cast(nn.Conv2d, first), cast(nn.BatchNorm2d, norm), cast(nn.Conv2d, last)

"""BAS' network: a generator of foreground maps on the tapped features, a classifier behind them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsis.methods.bas.backbones import TAIL, TAP, TappedBackbone, xavier_
from wsis.methods.bas.losses import erased_logits
from wsis.modeling.backbones.vgg16 import TORCHVISION_CONVS, conv_names


class Activations(NamedTuple):
    """What a training step needs of the network.

    Attributes:
        logits: (B, K, h, w).
        foreground: (B, 1, H, W), the label's map.
        erased: (B, K, h, w) logits of the background, see :func:`wsis.methods.bas.losses.erased_logits`.
    """

    logits: Tensor
    foreground: Tensor
    erased: Tensor


class BASNetwork(nn.Module):
    """Trunk, generator, tail and head.

    Args:
        backbone: gives the tapped map and the last one.
        num_classes: K.
        head_channels: of the two 3x3 convolutions before the last one; 0 = the head is a 1x1 convolution, and neither
            it nor the generator has a bias (the network of semantic seeds).
        gain: of the tapped features before the generator.
    """

    def __init__(
        self,
        backbone: TappedBackbone,
        num_classes: int,
        head_channels: int = 1024,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.gain = gain
        self.backbone = backbone
        shapes = backbone.output_shape()
        channels = shapes[TAIL].channels
        if head_channels:
            self.head: nn.Module = nn.Sequential(
                nn.Conv2d(channels, head_channels, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(head_channels, head_channels, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(head_channels, num_classes, 1),
            )
        else:
            self.head = nn.Conv2d(channels, num_classes, 1, bias=False)
        self.generator = nn.Conv2d(
            shapes[TAP].channels, num_classes, 3, padding=1, bias=bool(head_channels)
        )
        xavier_(self.head)
        xavier_(self.generator)

    @property
    def classifier(self) -> nn.Sequential:
        """Tail and head, (B, C, H, W) to logits (B, K, h, w), as a module that holds the network's own parameters."""
        return nn.Sequential(OrderedDict(tail=self.backbone.tail, head=self.head))

    def forward(self, features: Tensor, classes: Tensor) -> Activations:
        """The training pass behind the trunk.

        Args:
            features: (B, C, H, W) tapped.
            classes: (B,) int64 labels.
        """
        classifier = self.classifier
        foreground = self.foreground(features, classes)
        erased = erased_logits(classifier, features, foreground)
        return Activations(classifier(features), foreground, erased)

    def foreground(self, features: Tensor, classes: Tensor | None = None) -> Tensor:
        """Foreground maps in (0, 1).

        Args:
            features: (B, C, H, W) tapped.
            classes: (B,) int64, the only class of each sample whose map is computed; None = all.

        Returns:
            (B, 1, H, W) or (B, K, H, W).
        """
        if classes is None:
            return self.class_maps(features, slice(None))
        bias = self.generator.bias
        logits = class_convolution(features, self.gain * self.generator.weight[classes])
        return (logits if bias is None else logits + bias[classes].view(-1, 1, 1, 1)).sigmoid()

    def class_maps(self, features: Tensor, classes: Sequence[int] | slice) -> Tensor:
        """The maps of some classes in every sample: (B, C, H, W) to (B, T, H, W) in (0, 1)."""
        weight, bias = self.generator.weight[classes], self.generator.bias
        bias = bias if bias is None else bias[classes]
        return functional.conv2d(features, self.gain * weight, bias, padding=1).sigmoid()

    def placed(self, weights: Mapping[str, Any]) -> dict[str, Any] | None:
        """Weights of the original release, or of the backbone's network by torchvision or timm, under our names.

        The release names the classifier's head ``classifier_cls``, the generator ``classifier_loc.0`` and VGG's
        convolutions ``conv1_1``; all else is torchvision's. ``module.`` before the names is dropped.

        Returns:
            None where no weight is the backbone's.
        """
        plain = {name.removeprefix("module."): value for name, value in weights.items()}
        found = self.backbone.placed({_torchvision_name(n): value for n, value in plain.items()})
        if found is None:
            return None
        ours = {f"backbone.{name}": value for name, value in found.items()}
        for theirs, own in (("classifier_cls.", "head."), ("classifier_loc.0.", "generator.")):
            ours |= {
                own + name.removeprefix(theirs): value
                for name, value in plain.items()
                if name.startswith(theirs)
            }
        return ours


_VGG_CONVS = {
    name: f"features.{number}" for name, number in zip(conv_names(), TORCHVISION_CONVS, strict=True)
}


def _torchvision_name(name: str) -> str:
    layer, _, part = name.rpartition(".")
    return f"{_VGG_CONVS.get(layer, layer)}.{part}"


def class_convolution(features: Tensor, weights: Tensor) -> Tensor:
    """A convolution with one output channel and weights of its own for each sample.

    The channels are summed up first, by one matrix product per sample; then the maps of the kernel's cells are shifted
    and added, so that no window of the features is ever copied.

    Args:
        features: (B, C, H, W).
        weights: (B, C, k, k), k odd; zero padding keeps the size.

    Returns:
        (B, 1, H, W).
    """
    size = features.shape[2:]
    side = weights.shape[-1]
    cells = weights.flip(2, 3).flatten(2).transpose(1, 2) @ features.flatten(2)
    return functional.fold(cells, size, side, padding=side // 2)


def combined(maps: Tensor, scores: Tensor, number: int) -> Tensor:
    """The plain mean of the maps of the classes with the highest scores.

    Args:
        maps: (B, K, H, W) of all classes.
        scores: (B, K) of the classifier.
        number: of classes; K = a map of whatever is an object.

    Returns:
        (B, 1, H, W).
    """
    if number == maps.shape[1]:
        return maps.mean(dim=1, keepdim=True)
    rows = torch.arange(len(maps), device=maps.device)[:, None]
    return maps[rows, scores.topk(number, dim=1).indices].mean(dim=1, keepdim=True)

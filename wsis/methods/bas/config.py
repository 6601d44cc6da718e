"""Keys of BAS; the defaults are the published values for ResNet-50 on CUB."""

from __future__ import annotations

from dataclasses import dataclass

from wsis.config.params import key, node
from wsis.config.rules import Rule, at_least, each, length, one_of, positive
from wsis.layers.tag_losses import TAG_LOSSES


@node("MODEL.BAS")
@dataclass(frozen=True)
class BASParams:
    """Meta-architecture "BAS"; its backbone is :class:`wsis.methods.bas.backbones.TappedParams`, what it trains on
    :class:`wsis.data.tag_loader.TagCropParams`.

    Attributes:
        head_channels: Channels of the two 3x3 convolutions of the classifier's head; 0 = the head is a 1x1 convolution,
            and neither it nor the generator has a bias (semantic seeds).
        loss: The classifier's loss is "cross_entropy" (images of one tag each), "exclusive" or "soft_margin" (of any
            tags). Of several tags one is drawn anew in each step, and the map of this class learns.
        guidance_weight: Weight alpha of the cross-entropy of the foreground region; 0 leaves it out.
        detach_guidance: The foreground region teaches the map only, not the classifier (semantic seeds).
        area_weight: Weight beta of the mean of the foreground map, which decides how large it becomes.
        outlier: Value of the suppression, without gradient, where the background excites the class more than the image
            does: 1, or 0 as published with VGG-16.
        lr_factors: Learning rate of the backbone's biases, of weights of head and generator, and of their biases, in
            units of SOLVER.BASE_LR.
        top_k: The map is that of the given class (1), or the plain mean of the maps of the k classes with the highest
            scores; 0 = of all classes, which tells object from background whatever its class.
        ten_crop: Evaluation takes the class scores as the mean of the probabilities of ten crops, INPUT.TAG_CROP.TEST
            being "centre"; the map is that of the centre crop all the same.
        scales: Factors of the image's size at which score maps are made; those of the scaled images and of their mirror
            images are added up.
        stride: Stride in pixels of the grid that the score maps have.
    """

    head_channels: int = key(1024, at_least(0))
    loss: str = key("cross_entropy", one_of(TAG_LOSSES))
    guidance_weight: float = key(0.5, at_least(0))
    detach_guidance: bool = key(False)
    area_weight: float = key(1.5, at_least(0))
    outlier: float = key(1.0, Rule("0 or 1", lambda value: value in (0, 1)))
    lr_factors: tuple[float, float, float] = key(
        (2.0, 10.0, 20.0), length(3, "three numbers: bias, new weight, new bias")
    )
    top_k: int = key(1, at_least(0))
    ten_crop: bool = key(False)
    scales: tuple[float, ...] = key((1.0,), each("one or more numbers above 0", positive))
    stride: int = key(4, at_least(1))

"""Keys of BAS; the defaults are the published values for ResNet-50 on CUB."""

from __future__ import annotations

from dataclasses import dataclass

from wsis.config.params import key, node, part
from wsis.config.rules import (
    Rule,
    above,
    at_least,
    each,
    either,
    length,
    one_of,
    pair,
    positive,
)
from wsis.layers.box_maps import BoxMapParams
from wsis.layers.tag_losses import TAG_LOSSES


@node("MODEL.BAS")
@dataclass(frozen=True)
class BASParams:
    """Meta-architecture "BAS"; its backbone is :class:`wsis.methods.bas.backbones.TappedParams`, what it trains on
    :class:`wsis.data.tag_loader.TagCropParams`.

    Attributes:
        head_channels: Channels of the two 3x3 convolutions of the classifier's head; 0 = the head is a 1x1 convolution,
            and neither it nor the generator has a bias (semantic seeds).
        gain: The features are multiplied by it before the map's convolution. Where they are large (a standard deviation
            of 7 in EfficientNet-Lite0), maps are 0 or 1 from the first step on and learn nothing.
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
    gain: float = key(1.0, above(0))
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


@node("MODEL.BAS_BOX")
@dataclass(frozen=True)
class BASBoxParams:
    """Meta-architecture "BASBox", BAS on crops of boxes; network and losses are :class:`BASParams`.

    Attributes:
        region: Of each box the network sees a "crop" of the image, or the trunk sees the whole image once ("shared"),
            as INPUT.MIN_SIZE_TRAIN and the like say, and the tapped features are cut out around its boxes. Small boxes
            have blurry features then; SOLVER.IMS_PER_BATCH counts images and not boxes.
        size: Side in pixels of the square that a crop becomes, whatever its form; features that are cut out have as
            many cells as those of such a crop.
        context: Factor of a box's sides for the crop that its mask is made of; the rest is the background that the map
            is told from.
        context_range: Lowest and highest such factor in training.
        min_side: Boxes with a shorter side in pixels (with REGION "shared", of the resized image) are not trained on.
        outside_weight: Weight of the mean of the foreground map outside of the box.
        tightness_weight: Weight of the multiple-instance loss of a tight box: each of its rows and columns has
            foreground.
        boxes_per_batch: Largest number of boxes in one pass of the network; in training with REGION "shared", of an
            image, drawn anew in each step.
    """

    region: str = key("crop", either("crop", "shared"))
    size: int = key(224, at_least(32))
    context: float = key(1.3, at_least(1))
    context_range: tuple[float, float] = key(
        (1.1, 1.6), pair("two numbers from 1 up", lambda low, high: 1 <= low <= high)
    )
    min_side: float = key(16.0, at_least(1))
    outside_weight: float = key(1.0, at_least(0))
    tightness_weight: float = key(0.0, at_least(0))
    boxes_per_batch: int = key(16, at_least(1))
    map: BoxMapParams = part(BoxMapParams())

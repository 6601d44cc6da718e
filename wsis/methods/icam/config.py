"""Keys of ICAM's maps and of AffinityNet; the defaults are the published values."""

from __future__ import annotations

from dataclasses import dataclass

from wsis.config.params import key, node, part
from wsis.config.rules import (
    above,
    above_at_most,
    at_least,
    at_least_below,
    each,
    either,
    length,
    positive,
)
from wsis.layers.dense_crf import DenseCRFParams
from wsis.methods.icam.losses import LossParams

_FACTORS = length(3, "three numbers: bias, new weight, new bias")


@dataclass(frozen=True)
class CamParams:
    """The network of ICAM's maps, of tags and of boxes.

    Attributes:
        channels: Channels of the features of the backbone's two lower maps by which pixels are compared.
        dropout: Share of the channels of the last map that are dropped in training.
        gain: Scale of the classifier's initial weights, in units of the published one (Xavier's), which suits features
            below 1; with larger ones the first maps are sharp at random, and one channel wins everywhere.
        second_scale: Size of the smaller copy of each image in training, in units of the image's.
        lr_factors: Learning rate of the backbone's biases, of the new layers' weights and of their biases, in units of
            SOLVER.BASE_LR.
        scales: Factors of the image's size; the maps are means over the scaled images and their mirror images.
    """

    channels: tuple[int, int] = key((64, 128), each("two numbers above 0", positive, 2))
    dropout: float = key(0.5, at_least_below(0, 1))
    gain: float = key(1.0, above(0))
    second_scale: float = key(0.3, above_at_most(0, 1))
    lr_factors: tuple[float, float, float] = key((2.0, 10.0, 20.0), _FACTORS)
    scales: tuple[float, ...] = key(
        (0.5, 1.0, 1.5, 2.0), each("one or more numbers above 0", positive)
    )


@node("MODEL.ICAM")
@dataclass(frozen=True)
class ICAMParams:
    """The meta-architecture "ICAM"; what it trains on is :class:`wsis.data.tag_loader.TagCropParams`.

    Attributes:
        stride: Stride in pixels of the grid that the score maps have.
        tags: Maps are made of the classes that are "given" with the image, or of those that are "predicted".
        min_probability: A class is predicted from this probability on, and the best class always.
        crf_alphas: Exponents of the background score (1 - the best class); for each of them a dense CRF makes the score
            maps crf_alpha<exponent>. AffinityNet needs two.
    """

    cam: CamParams = part(CamParams())
    losses: LossParams = part(LossParams(), "LOSS")
    stride: int = key(1, at_least(1))
    tags: str = key("given", either("given", "predicted"))
    min_probability: float = key(0.5, above_at_most(0, 1))
    crf_alphas: tuple[float, ...] = key((2.0, 4.0))
    crf: DenseCRFParams = part(DenseCRFParams(3.0, 3.0, 10.0, 80.0, 13.0, iterations=10), "CRF")


@node("MODEL.AFFINITY_NET")
@dataclass(frozen=True)
class AffinityNetParams:
    """The meta-architectures "AffinityNet" and "AffinityNetBox", which train on crops as INPUT.SCALED_CROP says.

    Attributes:
        low: Name of the score maps (DATASETS.CUSTOM_SCORE_MAPS) whose background has a low power: there is much of it,
            and what is an object all the same is trusted in training.
        high: Name of those whose background has a high power; where it wins all the same, it is trusted.
        maps: Name of the score maps that walk.
        channels: Channels of the features of the backbone's three maps; a pair's affinity is that of all together.
        cell: Side in pixels of the cells that pairs are made of.
        radius: Cells that are closer than this are pairs.
        lr_factors: Learning rate of the backbone's biases, of the new layers' weights and of their biases, in units of
            SOLVER.BASE_LR.
        alpha: Exponent of the background score (1 - the best class) that walks along.
        beta: Exponent of the affinities in the walk; the larger, the less passes between cells that are unlike.
        steps: Steps of the walk.
    """

    low: str = key("crf_alpha2")
    high: str = key("crf_alpha4")
    maps: str = key("icam")
    channels: tuple[int, int, int] = key((64, 128, 256), each("three numbers above 0", positive, 3))
    cell: int = key(8, at_least(1))
    radius: int = key(5, at_least(2))
    lr_factors: tuple[float, float, float] = key((2.0, 10.0, 20.0), _FACTORS)
    alpha: float = key(6.0, at_least(0))
    beta: float = key(8.0, at_least(0))
    steps: int = key(64, at_least(0))

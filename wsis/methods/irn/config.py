"""The keys of IRNet and of the labels that it learns from."""

from __future__ import annotations

from dataclasses import dataclass

from wsis.config.params import key, node, part
from wsis.config.rules import above, at_least, each
from wsis.layers.seeds import ConfidentParams

_NAMES = each("one or more names of score maps", lambda name: isinstance(name, str) and name != "")


@dataclass(frozen=True)
class WalkParams:
    """How scores walk along the edges' affinities.

    Attributes:
        radius: Cells of stride 4 that are closer than this have an affinity: 1 - the largest edge between them.
        beta: Exponent of the affinities; the larger, the harder an edge is to pass.
        steps: Steps of the walk.
        score_power: Exponent of the scores before the walk; above 1 it starts from what is most certain.
        background: Score of background in the label map, where the image's largest score after the walk is 1.
    """

    radius: int = key(5, at_least(2))
    beta: float = key(10.0, at_least(0))
    steps: int = key(256, at_least(0))
    score_power: float = key(1.5, above(0))
    background: float = key(0.22, at_least(0))


@node("MODEL.IRN")
@dataclass(frozen=True)
class IRNParams:
    """The network and its training; MODEL.SEGMENTOR.LABELS names the label that it learns from.

    Attributes:
        maps: Names of the score maps (DATASETS.CUSTOM_SCORE_MAPS) from which the walk starts; several are joined.
        radius: Cells of stride 4 that are closer than this are pairs in training.
        displacement_lr_factor: Learning rate of the displacement branch in units of SOLVER.BASE_LR, which is that of
            the edge branch.
        min_side: In eval mode an image is padded with zeros to a square of this side if it is smaller, as in the
            published walk; 0 = never.
    """

    maps: tuple[str, ...] = key(("seed",), _NAMES)
    radius: int = key(10, at_least(2))
    displacement_lr_factor: float = key(10.0, at_least(0))
    min_side: int = key(512, at_least(0))
    walk: WalkParams = part(WalkParams(), "WALK")


@node("MODEL.CONFIDENT_SEEDS")
@dataclass(frozen=True)
class SeedParams:
    """What "ConfidentSeeds" reads and makes.

    Attributes:
        maps: Names of the score maps (DATASETS.CUSTOM_SCORE_MAPS) that it reads; several, such as those of BAS and of
            class activation maps, are joined: each is divided by its largest score, and so is their sum.
    """

    maps: tuple[str, ...] = key(("cam",), _NAMES)
    labels: ConfidentParams = part(ConfidentParams())

"""Keys of BBAM, and what they are turned into."""

from __future__ import annotations

from detectron2.config import CfgNode as CN

from wsis.config import register_config
from wsis.config.crf import add_crf_keys
from wsis.errors import ConfigError
from wsis.layers.dense_crf import DenseCRFParams
from wsis.methods.bbam.explainer import ExplainerParams
from wsis.methods.bbam.losses import ObjectiveParams
from wsis.methods.bbam.proposals import ProposalParams
from wsis.methods.bbam.targets import StrideParams
from wsis.methods.bbam.top_crf import TopCRFParams

FILLS = ("mean", "blur", "blurrandom")


@register_config
def add_bbam_config(cfg: CN) -> None:
    """Adds ``MODEL.BBAM``; the defaults are the published values for VOC.

    Args:
        cfg: changed in place.
    """
    cfg.MODEL.BBAM = CN()
    # Meta-architecture of the detector that is explained; MODEL.WEIGHTS is its checkpoint, unchanged.
    cfg.MODEL.BBAM.DETECTOR = "GeneralizedRCNN"
    # Seed of proposals and noise; with the annotation's id it decides both.
    cfg.MODEL.BBAM.SEED = 0
    # Proposals drawn around each box.
    cfg.MODEL.BBAM.NUM_PROPOSALS = 1000
    # Largest shift of each edge of a proposal, in box sides, below 0.5.
    cfg.MODEL.BBAM.JITTER = 0.3
    # Thresholds of a positive's IoU with the box, tried in this order; the first that more than MAX_POSITIVES
    # proposals pass holds, else the last one. One-stage detectors: the last one.
    cfg.MODEL.BBAM.MIN_IOU = [0.9, 0.85, 0.8]
    # Most positives per box.
    cfg.MODEL.BBAM.MAX_POSITIVES = 100
    # Width of a mask cell in network pixels, s = base + slope sqrt(box area / image area): the base.
    cfg.MODEL.BBAM.STRIDE_BASE = 16.0
    # The slope.
    cfg.MODEL.BBAM.STRIDE_SLOPE = 48.0
    # lambda, weight of the sum of the mask's cells. Each cell pulls alike, so with a larger stride, that is fewer
    # cells, the mask shrinks less: keep lambda times the number of cells.
    cfg.MODEL.BBAM.LAMBDA = 0.007
    # lambda_tv, weight of the total variation.
    cfg.MODEL.BBAM.TV_WEIGHT = 1e-4
    # beta, exponent of the total variation.
    cfg.MODEL.BBAM.TV_BETA = 3.0
    # Learning rate of Adam.
    cfg.MODEL.BBAM.LEARNING_RATE = 0.02
    # Steps of Adam.
    cfg.MODEL.BBAM.STEPS = 300
    # What takes the place of hidden pixels: "mean" (colour), "blur" (of the image) or "blurrandom" (blur and noise).
    cfg.MODEL.BBAM.FILL = "mean"
    # Hide pixels outside the box only.
    cfg.MODEL.BBAM.FILL_OUTSIDE_BOX = False
    # Boxes of an image that are explained together; memory grows with it.
    cfg.MODEL.BBAM.BOXES_PER_BATCH = 4
    # Pixels of the network's input around a box's proposals that are kept while it is explained; -1 = the whole image,
    # as published. A small box then costs a fraction, at nearly the same masks. Not for RetinaNet.
    cfg.MODEL.BBAM.CONTEXT = -1
    # The far edges of boxes belong to them, as in weights of the original release; not so in Detectron2's.
    cfg.MODEL.BBAM.INCLUSIVE_BOXES = False
    _add_demo_keys(cfg)
    _add_refinement_keys(cfg)


def _add_demo_keys(cfg: CN) -> None:
    cfg.MODEL.BBAM.DEMO = CN()
    # tools/explain.py explains the detections above this score.
    cfg.MODEL.BBAM.DEMO.SCORE_THRESHOLD = 0.7
    # lambda there, where one proposal speaks for the object.
    cfg.MODEL.BBAM.DEMO.LAMBDA = 0.07
    # lambda_tv there.
    cfg.MODEL.BBAM.DEMO.TV_WEIGHT = 1e-3


def _add_refinement_keys(cfg: CN) -> None:
    cfg.MODEL.BBAM.TOP_CRF = CN()
    # The mask is made with the first, the region outside of which is background with the second threshold: t saturates
    # the share 1 - t of the box.
    cfg.MODEL.BBAM.TOP_CRF.THRESHOLDS = [0.85, 0.2]
    # Standard deviation of the blur in pixels of the original image, base + slope sqrt(box area / image area): the
    # base.
    cfg.MODEL.BBAM.TOP_CRF.BLUR_BASE = 16.0
    # The slope.
    cfg.MODEL.BBAM.TOP_CRF.BLUR_SLOPE = 48.0
    # Least and greatest foreground probability inside the box before the CRF. A least value above 0 says that a tight
    # box is mostly object, which is what small objects need, whose maps are coarse.
    cfg.MODEL.BBAM.TOP_CRF.PRIOR_RANGE = [0.0, 1.0]
    # Side of the window around a box that the CRF sees, in box sides; 0 = the whole image. With many small boxes a
    # window of 2 costs a fraction of the time.
    cfg.MODEL.BBAM.TOP_CRF.WINDOW = 0.0
    # Foreground probability after the CRF above which a pixel is kept.
    cfg.MODEL.BBAM.TOP_CRF.MARGINAL = 0.9
    # Share of the box that a mask must exceed, unless the box is large.
    cfg.MODEL.BBAM.TOP_CRF.MIN_SHARE = 0.2
    # Share of the image above which a box is large.
    cfg.MODEL.BBAM.TOP_CRF.LARGE_SHARE = 0.1
    # Probabilities inside a box whose mask was too small, tried in this order.
    cfg.MODEL.BBAM.TOP_CRF.PRIORS = [0.7, 0.8, 0.9, 0.95, 0.96]
    # Share of the box that a mask from such a prior must exceed to be taken at once.
    cfg.MODEL.BBAM.TOP_CRF.PRIOR_SHARE = 1 / 3
    # The priors for a box without attribution (status "fallback"); the first mask above MIN_SHARE is taken.
    cfg.MODEL.BBAM.TOP_CRF.MISSING_PRIORS = [0.7, 0.8, 0.9, 0.95]
    # Weight of the CRF's smoothness kernel.
    add_crf_keys(
        cfg.MODEL.BBAM.TOP_CRF, spatial_xy_std=1.0, bilateral_xy_std=80.0, bilateral_rgb_std=3.0
    )

    # Replace masks by MCG segment proposals.
    cfg.MODEL.BBAM.USE_MCG = False
    # Folders that are searched for an image's proposals, <image name>.mat or, for VOC 2007, the name without its 2007_.
    # Images without a file, and boxes under 32 x 32 pixels, keep their masks.
    cfg.MODEL.BBAM.MCG_FOLDERS = [
        "datasets/MCG-Pascal-Main_trainvaltest_2012-proposals",
        "datasets/MCG-Pascal-Main_trainvaltest_2007-proposals",
    ]


def check_keys(keys: CN) -> None:
    """Checks the values of ``MODEL.BBAM`` that nothing else checks.

    Args:
        keys: ``cfg.MODEL.BBAM``.

    Raises:
        ConfigError: the first value out of its range.
    """
    rules = (
        ("NUM_PROPOSALS", keys.NUM_PROPOSALS >= 1, "at least 1"),
        ("JITTER", 0 <= keys.JITTER < 0.5, "at least 0, below 0.5"),
        ("MIN_IOU", _shares(keys.MIN_IOU), "one or more numbers in [0, 1)"),
        ("MAX_POSITIVES", keys.MAX_POSITIVES >= 1, "at least 1"),
        ("STRIDE_BASE", keys.STRIDE_BASE > 0, "above 0"),
        ("STRIDE_SLOPE", keys.STRIDE_SLOPE >= 0, "at least 0"),
        ("LAMBDA", keys.LAMBDA >= 0, "at least 0"),
        ("TV_WEIGHT", keys.TV_WEIGHT >= 0, "at least 0"),
        ("TV_BETA", keys.TV_BETA >= 1, "at least 1"),
        ("LEARNING_RATE", keys.LEARNING_RATE > 0, "above 0"),
        ("STEPS", keys.STEPS >= 1, "at least 1"),
        ("FILL", keys.FILL in FILLS, f"one of {', '.join(FILLS)}"),
        ("CONTEXT", keys.CONTEXT >= 0 or keys.CONTEXT == -1, "at least 0, or -1"),
        ("BOXES_PER_BATCH", keys.BOXES_PER_BATCH >= 1, "at least 1"),
    )
    for name, holds, expected in rules:
        if not holds:
            raise ConfigError(f"MODEL.BBAM.{name}: found {keys[name]!r}, expected {expected}")
    window, prior = keys.TOP_CRF.WINDOW, keys.TOP_CRF.PRIOR_RANGE
    if not (window == 0 or window > 1):
        raise ConfigError(f"MODEL.BBAM.TOP_CRF.WINDOW: found {window!r}, expected 0 or above 1")
    if len(prior) != 2 or not 0 <= prior[0] <= prior[1] <= 1:
        raise ConfigError(
            f"MODEL.BBAM.TOP_CRF.PRIOR_RANGE: found {prior!r}, expected two rising numbers in [0, 1]"
        )
    thresholds = keys.TOP_CRF.THRESHOLDS
    if not _shares(thresholds) or len(thresholds) != 2:
        raise ConfigError(
            f"MODEL.BBAM.TOP_CRF.THRESHOLDS: found {thresholds!r}, expected two numbers in [0, 1)"
        )


def _shares(values: list[float]) -> bool:
    return len(values) > 0 and all(0 <= value < 1 for value in values)


def proposal_params(keys: CN) -> ProposalParams:
    """How proposals are drawn and chosen, from ``cfg.MODEL.BBAM``."""
    return ProposalParams(
        count=keys.NUM_PROPOSALS,
        jitter=keys.JITTER,
        min_iou=tuple(keys.MIN_IOU),
        limit=keys.MAX_POSITIVES,
    )


def stride_params(keys: CN) -> StrideParams:
    """Resolution of the masks, from ``cfg.MODEL.BBAM``."""
    return StrideParams(base=keys.STRIDE_BASE, slope=keys.STRIDE_SLOPE)


def explainer_params(keys: CN, demo: bool = False) -> ExplainerParams:
    """The optimisation, from ``cfg.MODEL.BBAM``.

    Args:
        keys: the node.
        demo: with the weights for explaining detections.
    """
    weights = keys.DEMO if demo else keys
    objective = ObjectiveParams(
        sparsity_weight=weights.LAMBDA, tv_weight=weights.TV_WEIGHT, tv_power=keys.TV_BETA
    )
    return ExplainerParams(objective, learning_rate=keys.LEARNING_RATE, steps=keys.STEPS)


def top_crf_params(keys: CN) -> TopCRFParams:
    """From attribution to masks, from ``cfg.MODEL.BBAM``."""
    node = keys.TOP_CRF
    first, second = node.THRESHOLDS
    low, high = node.PRIOR_RANGE
    return TopCRFParams(
        thresholds=(first, second),
        blur_base=node.BLUR_BASE,
        blur_slope=node.BLUR_SLOPE,
        prior_range=(low, high),
        window=node.WINDOW,
        crf=DenseCRFParams.from_keys(node),
        marginal=node.MARGINAL,
        min_share=node.MIN_SHARE,
        large_share=node.LARGE_SHARE,
        priors=tuple(node.PRIORS),
        prior_share=node.PRIOR_SHARE,
        missing_priors=tuple(node.MISSING_PRIORS),
    )

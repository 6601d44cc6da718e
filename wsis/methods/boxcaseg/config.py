"""Keys of BoxCaseg, and what they are turned into."""

from __future__ import annotations

from detectron2.config import CfgNode as CN

from wsis.config import register_config
from wsis.errors import ConfigError

NORMALISATIONS = ("legacy", "unified")
CONFIDENCES = ("legacy", "exact")
HEADS = ("full", "weak")
SALIENT_CROPS = ("image", "box")


@register_config
def add_boxcaseg_config(cfg: CN) -> None:
    """Adds ``MODEL.BOXCASEG``; the defaults are the published values for VOC.

    Args:
        cfg: changed in place.
    """
    cfg.MODEL.BOXCASEG = CN()
    _add_network_keys(cfg)
    # Datasets with masks of single objects, by name: what the full head learns from. None may be in DATASETS.TRAIN.
    cfg.MODEL.BOXCASEG.SALIENT_DATASETS = []
    # Share of box crops in a batch over all processes, rounded down to whole samples; an epoch is one pass over the
    # salient images. 0 = no fixed share: boxes and salient images are shuffled together.
    cfg.MODEL.BOXCASEG.WEAK_SHARE = 0.0
    # Boxes that overlap another one of their image by more than this IoU
    cfg.MODEL.BOXCASEG.OVERLAP_IOU = 0.5
    # are left out of an epoch with this probability.
    cfg.MODEL.BOXCASEG.OVERLAP_DROP = 0.0
    # Largest shift of a box crop's centre in training, in half sides.
    cfg.MODEL.BOXCASEG.JITTER_SHIFT = 0.25
    # Smallest and largest factor of its half sides.
    cfg.MODEL.BOXCASEG.JITTER_SCALE = [0.5, 1.5]
    # Side of the samples in training, in pixels.
    cfg.MODEL.BOXCASEG.CROP_SIZE = 288
    # What is cut out of a salient image. "image": a window of the whole image, as published; "box": a crop around its
    # masks, jittered like that of a box (the original release has that too, unused).
    cfg.MODEL.BOXCASEG.SALIENT_CROP = "image"
    # Side to which whole salient images are resized, in pixels; a window of CROP_SIZE is cut out of them.
    cfg.MODEL.BOXCASEG.SALIENT_SIZE = 320
    # Side to which each box is resized when masks are made, in pixels.
    cfg.MODEL.BOXCASEG.TEST_SIZE = 320
    # "legacy": the means and scales of the original release, which differ between boxes and salient images; its
    # checkpoints need them. "unified": ImageNet's mean and deviation for both, for training from scratch.
    cfg.MODEL.BOXCASEG.NORMALISATION = "legacy"
    # How a mask's confidence compares its tight box with the given one. "legacy": the given box counts as one pixel
    # wider and higher than it is, as the published threshold of 0.95 expects; "exact": a mask that fills its box has 1.
    cfg.MODEL.BOXCASEG.CONFIDENCE = "legacy"
    # Which head makes the masks: "full", or "weak" for a training without salient images.
    cfg.MODEL.BOXCASEG.TEST_HEAD = "full"
    # Boxes of an image that pass through the network together when masks are made.
    cfg.MODEL.BOXCASEG.BOXES_PER_BATCH = 64


def _add_network_keys(cfg: CN) -> None:
    # Channels of HRNet's finest branch; each coarser one has twice as many. 18, 30, 32, 40, 44, 48 and 64 exist with
    # ImageNet weights: MODEL.WEIGHTS "timm://hrnet_w48".
    cfg.MODEL.BOXCASEG.WIDTH = 48
    # Channels in the bottlenecks of the first stage.
    cfg.MODEL.BOXCASEG.STAGE1_WIDTH = 64
    # Residual blocks of the first stage, and of every branch of every module.
    cfg.MODEL.BOXCASEG.NUM_BLOCKS = 4
    # Modules in the second, third and fourth stage.
    cfg.MODEL.BOXCASEG.NUM_MODULES = [1, 4, 3]
    # Momentum of the batch norms.
    cfg.MODEL.BOXCASEG.NORM_MOMENTUM = 0.01
    # Batch statistics over all processes, where these have GPUs.
    cfg.MODEL.BOXCASEG.SYNC_NORM = True
    # alpha, the share of the full head's own branch; the rest is the branch whose weights are predicted from the weak
    # head's.
    cfg.MODEL.BOXCASEG.FCN_RATIO = 0.7
    # Weight of the smoothness loss.
    cfg.MODEL.BOXCASEG.PAIRWISE_WEIGHT = 0.05


def check_keys(keys: CN) -> None:
    """Checks the values of ``MODEL.BOXCASEG``.

    Args:
        keys: ``cfg.MODEL.BOXCASEG``.

    Raises:
        ConfigError: the first value out of its range.
    """
    rules = (
        ("WIDTH", keys.WIDTH >= 1, "at least 1"),
        ("STAGE1_WIDTH", keys.STAGE1_WIDTH >= 1, "at least 1"),
        ("NUM_BLOCKS", keys.NUM_BLOCKS >= 1, "at least 1"),
        (
            "NUM_MODULES",
            len(keys.NUM_MODULES) == 3 and min(keys.NUM_MODULES) >= 1,
            "three numbers, each at least 1",
        ),
        ("NORM_MOMENTUM", 0 < keys.NORM_MOMENTUM <= 1, "above 0, at most 1"),
        ("FCN_RATIO", 0 <= keys.FCN_RATIO <= 1, "0 to 1"),
        ("PAIRWISE_WEIGHT", keys.PAIRWISE_WEIGHT >= 0, "at least 0"),
        ("WEAK_SHARE", 0 <= keys.WEAK_SHARE < 1, "at least 0, below 1"),
        ("OVERLAP_IOU", 0 <= keys.OVERLAP_IOU <= 1, "0 to 1"),
        ("OVERLAP_DROP", 0 <= keys.OVERLAP_DROP <= 1, "0 to 1"),
        ("JITTER_SHIFT", 0 <= keys.JITTER_SHIFT < 1, "at least 0, below 1"),
        (
            "JITTER_SCALE",
            len(keys.JITTER_SCALE) == 2 and 0 < keys.JITTER_SCALE[0] <= keys.JITTER_SCALE[1],
            "two rising numbers above 0",
        ),
        ("CROP_SIZE", keys.CROP_SIZE >= 32, "at least 32"),
        (
            "SALIENT_SIZE",
            keys.SALIENT_SIZE >= keys.CROP_SIZE,
            f"at least CROP_SIZE {keys.CROP_SIZE}",
        ),
        ("SALIENT_CROP", keys.SALIENT_CROP in SALIENT_CROPS, " or ".join(SALIENT_CROPS)),
        ("TEST_SIZE", keys.TEST_SIZE >= 32, "at least 32"),
        ("NORMALISATION", keys.NORMALISATION in NORMALISATIONS, " or ".join(NORMALISATIONS)),
        ("CONFIDENCE", keys.CONFIDENCE in CONFIDENCES, " or ".join(CONFIDENCES)),
        ("TEST_HEAD", keys.TEST_HEAD in HEADS, " or ".join(HEADS)),
        ("BOXES_PER_BATCH", keys.BOXES_PER_BATCH >= 1, "at least 1"),
    )
    for name, holds, expected in rules:
        if not holds:
            raise ConfigError(f"MODEL.BOXCASEG.{name}: found {keys[name]!r}, expected {expected}")

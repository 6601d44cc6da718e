"""Keys of BANA's classifier (stages 1 and 2), and what they are turned into."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode as CN

from wsis.config import register_config
from wsis.config.crf import add_crf_keys
from wsis.data.crop_transform import SampleParams
from wsis.errors import ConfigError
from wsis.layers.dense_crf import DenseCRFParams
from wsis.methods.bana.pooling import PoolingParams
from wsis.methods.bana.pseudo_labels import IGNORE, LABELS, LabelParams

POOLINGS = ("bap", "gap")


@register_config
def add_bana_config(cfg: CN) -> None:
    """Adds ``MODEL.BANA``; the defaults are the published values for VOC.

    Args:
        cfg: changed in place.
    """
    cfg.MODEL.BANA = CN()
    # How a box's features are averaged for the classifier: "bap" weighs each point with 1 - background attention, "gap"
    # weighs all alike.
    cfg.MODEL.BANA.POOLING = "bap"
    # G: the features of the background are averaged in a grid of G x G cells, each of which becomes a query.
    cfg.MODEL.BANA.GRID_SIZE = 4
    # Rows and columns of the windows that a box is pooled into.
    cfg.MODEL.BANA.ROI_SIZE = [2, 2]
    # Boxes and sampling points share one convention. False repeats the original release, whose samples are up to half a
    # feature pixel off.
    cfg.MODEL.BANA.ROI_ALIGN_CORNERS = True
    # Share of background above which an image's boxes are pooled with attention.
    cfg.MODEL.BANA.MIN_BACKGROUND = 0.125
    # The near edges of boxes one pixel further to the right and down, as the original release reads VOC's boxes.
    cfg.MODEL.BANA.LEGACY_BOX_SHIFT = False
    # Learning rate of biases, of new weights and of new biases, in units of SOLVER.BASE_LR.
    cfg.MODEL.BANA.LR_FACTORS = [2.0, 10.0, 20.0]
    _add_sample_keys(cfg)
    _add_label_keys(cfg)


def _add_sample_keys(cfg: CN) -> None:
    # Side in pixels of the crops that BANA's networks train on.
    cfg.MODEL.BANA.CROP_SIZE = 321
    # Lowest and highest factor that an image is scaled by before the crop.
    cfg.MODEL.BANA.SCALE_RANGE = [0.5, 1.5]
    # j: brightness, contrast and saturation are multiplied by factors in 1 - j to 1 + j, below 1.
    cfg.MODEL.BANA.JITTER = 0.5


def _add_label_keys(cfg: CN) -> None:
    # Background attention below this share of the image's highest counts as none.
    cfg.MODEL.BANA.BG_THRESHOLD = 0.99
    # u0: the background attention takes part in the pseudo labels. False: "w/o u0", inside boxes nothing speaks for
    # background before the CRF.
    cfg.MODEL.BANA.USE_ATTENTION = True
    # The label that the instance masks are cut from: "y_crf" (CRF), "y_ret" (retrieval) or "intersection" (where both
    # agree; the student ignores the other pixels of the box).
    cfg.MODEL.BANA.MASK_LABEL = "y_crf"
    # The dataset is COCO and the weights are those of a classifier of VOC's classes: classes that VOC lacks are found
    # by the background attention alone.
    cfg.MODEL.BANA.VOC_CLASSIFIER = False

    cfg.MODEL.BANA.CRF = CN()
    # Weight of the smoothness kernel of the CRF that makes Y_crf.
    add_crf_keys(
        cfg.MODEL.BANA.CRF, spatial_xy_std=3.0, bilateral_xy_std=55.0, bilateral_rgb_std=3.0
    )


def check_keys(keys: CN) -> None:
    """Checks the values of ``MODEL.BANA`` that nothing else checks.

    Args:
        keys: ``cfg.MODEL.BANA``.

    Raises:
        ConfigError: the first value out of its range.
    """
    low, high = _pair(keys.SCALE_RANGE)
    rules: tuple[tuple[str, bool, str], ...] = (
        ("POOLING", keys.POOLING in POOLINGS, f"one of {', '.join(POOLINGS)}"),
        ("GRID_SIZE", keys.GRID_SIZE >= 1, "at least 1"),
        ("ROI_SIZE", min(_pair(keys.ROI_SIZE)) >= 1, "two numbers of at least 1"),
        ("MIN_BACKGROUND", 0 <= keys.MIN_BACKGROUND < 1, "at least 0, below 1"),
        ("LR_FACTORS", len(keys.LR_FACTORS) == 3, "three numbers: bias, new weight, new bias"),
        ("CROP_SIZE", keys.CROP_SIZE >= 16, "at least 16"),
        ("SCALE_RANGE", 0 < low <= high, "two numbers above 0, the lower one first"),
        ("JITTER", 0 <= keys.JITTER < 1, "at least 0, below 1"),
        ("BG_THRESHOLD", 0 <= keys.BG_THRESHOLD <= 1, "in [0, 1]"),
        ("MASK_LABEL", keys.MASK_LABEL in LABELS, f"one of {', '.join(LABELS)}"),
    )
    for name, holds, expected in rules:
        if not holds:
            raise ConfigError(f"MODEL.BANA.{name}: found {keys[name]!r}, expected {expected}")


def number_of_classes(cfg: CN) -> int:
    """``MODEL.SEM_SEG_HEAD.NUM_CLASSES``, background included.

    Raises:
        ConfigError: less than two, or more than a label in one byte can name.
    """
    number = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    if not 2 <= number <= IGNORE:
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.NUM_CLASSES: found {number}, expected 2 to {IGNORE}, background included"
        )
    return int(number)


def _pair(values: Any) -> tuple[float, float]:
    """Both values, or numbers that no range admits."""
    return (values[0], values[1]) if len(values) == 2 else (-1, -2)


def pooling_params(keys: CN) -> PoolingParams:
    """How boxes are pooled, from ``cfg.MODEL.BANA``."""
    rows, columns = keys.ROI_SIZE
    return PoolingParams(
        aware=keys.POOLING == "bap",
        grid_size=keys.GRID_SIZE,
        roi_size=(rows, columns),
        align_corners=keys.ROI_ALIGN_CORNERS,
        min_background=keys.MIN_BACKGROUND,
    )


def sample_params(keys: CN) -> SampleParams:
    """What the crops of training are drawn from, from ``cfg.MODEL.BANA``."""
    low, high = keys.SCALE_RANGE
    return SampleParams(keys.CROP_SIZE, (low, high), keys.JITTER)


def label_params(keys: CN) -> LabelParams:
    """Constants of the pseudo labels, from ``cfg.MODEL.BANA``."""
    return LabelParams(DenseCRFParams.from_keys(keys.CRF), keys.BG_THRESHOLD, keys.USE_ATTENTION)

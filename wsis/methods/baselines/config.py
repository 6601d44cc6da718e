"""Keys of the baseline teachers."""

from __future__ import annotations

from detectron2.config import CfgNode as CN

from wsis.config import register_config
from wsis.errors import ConfigError


@register_config
def add_baselines_config(cfg: CN) -> None:
    """Adds ``MODEL.GRABCUT`` and ``MODEL.BOX_CRF``.

    Args:
        cfg: changed in place.
    """
    cfg.MODEL.GRABCUT = CN()
    # Rounds of colour model and cut.
    cfg.MODEL.GRABCUT.ITERATIONS = 5
    # Side of the window that GrabCut sees, in box sides; what lies outside the box is background.
    cfg.MODEL.GRABCUT.WINDOW = 2.0

    cfg.MODEL.BOX_CRF = CN()
    # Foreground probability of every pixel in the box before the CRF, in (0, 1); outside it is 0.
    cfg.MODEL.BOX_CRF.PRIOR = 0.7
    # Foreground probability after the CRF above which a pixel belongs to the mask.
    cfg.MODEL.BOX_CRF.THRESHOLD = 0.5
    # Side of the window that the CRF sees, in box sides.
    cfg.MODEL.BOX_CRF.WINDOW = 2.0
    # Mean-field iterations.
    cfg.MODEL.BOX_CRF.ITERATIONS = 10
    # Weight of the smoothness kernel.
    cfg.MODEL.BOX_CRF.SPATIAL_WEIGHT = 3.0
    # Standard deviation of the smoothness kernel, in pixels.
    cfg.MODEL.BOX_CRF.SPATIAL_XY_STD = 1.0
    # Weight of the appearance kernel.
    cfg.MODEL.BOX_CRF.BILATERAL_WEIGHT = 4.0
    # Standard deviation of the appearance kernel in space, in pixels.
    cfg.MODEL.BOX_CRF.BILATERAL_XY_STD = 30.0
    # Standard deviation of the appearance kernel in colour, on the 0..255 scale.
    cfg.MODEL.BOX_CRF.BILATERAL_RGB_STD = 10.0


def check_grabcut_keys(keys: CN) -> None:
    """Checks ``cfg.MODEL.GRABCUT``.

    Raises:
        ConfigError: a value out of its range.
    """
    _check("ITERATIONS", keys.ITERATIONS >= 1, "at least 1", keys, "GRABCUT")
    _check("WINDOW", keys.WINDOW > 1, "above 1", keys, "GRABCUT")


def check_box_crf_keys(keys: CN) -> None:
    """Checks what ``cfg.MODEL.BOX_CRF`` has beside the CRF's own keys.

    Raises:
        ConfigError: a value out of its range.
    """
    _check("PRIOR", 0 < keys.PRIOR < 1, "above 0 and below 1", keys, "BOX_CRF")
    _check("THRESHOLD", 0 <= keys.THRESHOLD < 1, "at least 0, below 1", keys, "BOX_CRF")
    _check("WINDOW", keys.WINDOW > 1, "above 1", keys, "BOX_CRF")


def _check(name: str, holds: bool, expected: str, keys: CN, node: str) -> None:
    if not holds:
        raise ConfigError(f"MODEL.{node}.{name}: found {keys[name]!r}, expected {expected}")

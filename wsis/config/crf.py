"""The keys of a dense CRF, which several nodes of the config have."""

from __future__ import annotations

from detectron2.config import CfgNode as CN


def add_crf_keys(
    node: CN, spatial_xy_std: float, bilateral_xy_std: float, bilateral_rgb_std: float
) -> None:
    """Adds what :meth:`wsis.layers.dense_crf.DenseCRFParams.from_keys` reads; all published settings agree in weights
    and steps. The comment above a call of it is that of its first key.

    Args:
        node: changed in place.
        spatial_xy_std, bilateral_xy_std, bilateral_rgb_std: defaults, above 0.
    """
    # Weight of the smoothness kernel.
    node.SPATIAL_WEIGHT = 3.0
    # Standard deviation of the smoothness kernel, in pixels.
    node.SPATIAL_XY_STD = spatial_xy_std
    # Weight of the appearance kernel.
    node.BILATERAL_WEIGHT = 4.0
    # Standard deviation of the appearance kernel in space, in pixels.
    node.BILATERAL_XY_STD = bilateral_xy_std
    # Standard deviation of the appearance kernel in colour, on the 0..255 scale.
    node.BILATERAL_RGB_STD = bilateral_rgb_std
    # Mean-field steps.
    node.ITERATIONS = 10

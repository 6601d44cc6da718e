"""The edges of an image, to look at."""

from __future__ import annotations

import numpy as np

from wsis.methods.irn.meta_arch import EDGE
from wsis.methods.irn.network import FINE
from wsis.structures import ScoreMaps, Seed


def edge_map(seed: Seed) -> np.ndarray:
    """How likely each pixel is an edge.

    Args:
        seed: what :meth:`wsis.methods.irn.IRN.propose` returned for the image.

    Returns:
        (H, W) float32 in [0, 1].
    """
    maps = ScoreMaps(np.ones(1), seed.maps[EDGE][None], seed.height, seed.width, FINE)
    return maps.enlarged()[0].numpy()

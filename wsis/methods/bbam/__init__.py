"""BBAM, bounding box attribution maps (Lee et al., CVPR 2021).

Finds, for a detector trained on boxes, the smallest part of the image that keeps its answer for a
box: a mask over the image is optimised by gradient descent through the frozen detector. Trains on
boxes with classes; returns one mask per box with a region of doubt around it.
"""

from wsis.methods.bbam import key_map as _key_map  # noqa: F401  # names of weights
from wsis.methods.bbam.meta_arch import BBAM

__all__ = ["BBAM"]

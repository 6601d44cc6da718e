"""ICAM, importance-sampled class activation maps with a feature-similarity loss (Jonnarth and Felsberg, ICASSP 2022).

A classifier of pixels learns from image tags: pixels drawn in proportion to their probability stand for the image, maps
of two image sizes and refined maps have to agree, and edges of the maps follow edges of the colours. The maps, cut by
affinities of pixels, are labels that a segmentation network is trained on.
"""

from wsis.methods.icam.affinity_net import AffinityNet
from wsis.methods.icam.box_teacher import ICAMBox
from wsis.methods.icam.box_walk import AffinityNetBox
from wsis.methods.icam.meta_arch import ICAM

__all__ = ["ICAM", "AffinityNet", "AffinityNetBox", "ICAMBox"]

"""BANA, background-aware pooling and noise-aware loss (Oh et al., CVPR 2021).

Outside of every box lies background, and background looks alike within an image: features of the outside find it
inside the boxes. A classifier of box features that leaves it out gives two semantic pseudo labels, Y_crf and Y_ret,
and one mask per box; a segmentation network is trained on both, trusting them where they agree.
"""

from wsis.methods.bana import key_map as _key_map  # noqa: F401  # names of weights
from wsis.methods.bana.classifier import BANAClassifier
from wsis.methods.bana.segmentor import BANASegmentor

__all__ = ["BANAClassifier", "BANASegmentor"]

"""Several teachers' masks of the same boxes made one: a vote, STAPLE, or the one that fits its box best.

Warfield, Zou and Wells, *Simultaneous Truth and Performance Level Estimation (STAPLE)*, IEEE TMI 2004. It has no
network and trains on nothing: ``MODEL.FUSION.FILES`` are proxy-mask files that other teachers wrote. Where they
disagree too much a pixel is ignored, and how well they agree with the result is its score.
"""

from wsis.methods.fusion.meta_arch import Fusion

__all__ = ["Fusion"]

"""The teachers that any method must beat: filled box, inscribed ellipse, GrabCut, box + dense CRF.

They have no weights and train on nothing. Given an image and its boxes each returns one mask per
box; see :mod:`wsis.methods.baselines.masks` for the rules.
"""

from wsis.methods.baselines.meta_arch import BoxCRF, FilledBox, GrabCut, InscribedEllipse

__all__ = ["BoxCRF", "FilledBox", "GrabCut", "InscribedEllipse"]

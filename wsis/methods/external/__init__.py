"""Masks that another tool made (SAM, an annotation tool, another repository), in the place of a teacher's.

It has no network and trains on nothing. It joins the masks of ``MODEL.EXTERNAL.FILE`` to the boxes of the dataset, see
:mod:`wsis.data.external_masks`, and returns one mask per box: status ``ok``, or ``empty`` where no mask fits.
"""

from wsis.methods.external.meta_arch import ExternalMasks

__all__ = ["ExternalMasks"]

"""BAS, background activation suppression (Wu et al., CVPR 2022; Zhai et al., IJCV 2023).

A generator predicts a foreground map on a middle feature of a classifier. What is left of the feature without the
foreground must not excite the classifier's logit of the class, while the map stays small: so the map grows from the
telling parts to the whole object. Trains on image tags, or on crops of boxes; returns score maps, or a mask per box.
"""

from wsis.methods.bas.box_mode import BASBox
from wsis.methods.bas.meta_arch import BAS

__all__ = ["BAS", "BASBox"]

"""Keys of BANA; the defaults are the published values for VOC."""

from __future__ import annotations

from dataclasses import dataclass

from wsis.config.params import key, node, part
from wsis.config.rules import length, one_of
from wsis.layers.box_shapes import StandInParams
from wsis.layers.label_to_masks import CONTESTED
from wsis.methods.bana.nal import LOSSES, NoiseParams
from wsis.methods.bana.pooling import PoolingParams
from wsis.methods.bana.pseudo_labels import LABELS, LabelParams


@node("MODEL.BANA")
@dataclass(frozen=True)
class BANAParams:
    """The classifier and its labels; the crops of training are :class:`wsis.data.crop_transform.CropParams`.

    Attributes:
        kind: How a box's features are averaged for the classifier: "bap" weighs each point with 1 - background
            attention, "gap" weighs all alike.
        legacy_box_shift: The near edges of boxes are one pixel further to the right and down, as the original release
            reads VOC's boxes.
        lr_factors: Learning rate of biases, of new weights and of new biases, in units of SOLVER.BASE_LR.
        mask_label: The label that the instance masks are cut from: "y_crf" (CRF), "y_ret" (retrieval) or "intersection"
            (where both agree; the student ignores the other pixels of the box).
        contested: Whose a pixel of that label is that several boxes of its class claim: the "smallest" one, or
            the one whose middle is "nearest", see :func:`wsis.layers.merge.merge_by_distance`, for objects of
            one size that touch, such as cells.
        voc_classifier: The dataset is COCO and the weights are those of a classifier of VOC's classes: classes that VOC
            lacks are found by the background attention alone.
    """

    kind: str = key("bap", one_of(("bap", "gap")), "POOLING")
    pooling: PoolingParams = part(PoolingParams())
    legacy_box_shift: bool = key(False)
    lr_factors: tuple[float, float, float] = key(
        (2.0, 10.0, 20.0), length(3, "three numbers: bias, new weight, new bias")
    )
    labels: LabelParams = part(LabelParams())
    mask_label: str = key("y_crf", one_of(LABELS))
    contested: str = key("smallest", one_of(CONTESTED))
    voc_classifier: bool = key(False)
    stand_in: StandInParams = part(StandInParams())


@node("MODEL.BANA_SEG")
@dataclass(frozen=True)
class BANASegmentorParams:
    """The loss of stage 3; its network is :class:`wsis.modeling.segmentor.SegmentorParams`.

    Attributes:
        loss: The loss is "NAL" (noise-aware), "ER" (entropy regularisation), "BS" (bootstrapping), "BASELINE" (only
            where both labels agree), "CE_CRF" or "CE_RET" (cross-entropy on the first or the second label everywhere).
    """

    loss: str = key("NAL", one_of(LOSSES))
    noise: NoiseParams = part(NoiseParams())

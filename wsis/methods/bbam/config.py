"""Keys of BBAM; the defaults are the published values for VOC."""

from __future__ import annotations

from dataclasses import dataclass

from wsis.config.params import key, node, part
from wsis.config.rules import Rule, at_least, one_of
from wsis.methods.bbam.detector import TargetParams
from wsis.methods.bbam.explainer import ExplainerParams
from wsis.methods.bbam.top_crf import TopCRFParams


@dataclass(frozen=True)
class DemoParams:
    """What is different where detections are explained, of which one proposal speaks for the object.

    Attributes:
        score_threshold: The detections above this score are explained.
        sparsity_weight: Weight lambda of the sum of the mask's cells.
        tv_weight: Weight lambda_tv of the total variation.
    """

    score_threshold: float = key(0.7)
    sparsity_weight: float = key(0.07, name="LAMBDA")
    tv_weight: float = key(1e-3)


@node("MODEL.BBAM")
@dataclass(frozen=True)
class BBAMParams:
    """The teacher.

    Attributes:
        detector: Meta-architecture of the detector that is explained; MODEL.WEIGHTS is its checkpoint, unchanged.
        fill: What takes the place of hidden pixels: "mean" (colour), "blur" (of the image) or "blurrandom" (blur and
            noise).
        fill_outside_box: Hide pixels outside the box only.
        context: Pixels of the network's input around a box's proposals that are kept while it is explained; -1 = the
            whole image, as published. A small box then costs a fraction, at nearly the same masks. Not for RetinaNet.
        boxes_per_batch: Boxes of an image that are explained together; memory grows with it.
        inclusive_boxes: The far edges of boxes belong to them, as in weights of the original release; not so in
            Detectron2's.
        use_mcg: Replace masks by MCG segment proposals.
        mcg_folders: Folders that are searched for an image's proposals, <image name>.mat or, for VOC 2007, the name
            without its 2007_. Images without a file, and boxes under 32 x 32 pixels, keep their masks.
    """

    detector: str = key("GeneralizedRCNN")
    targets: TargetParams = part(TargetParams())
    explainer: ExplainerParams = part(ExplainerParams())
    fill: str = key("mean", one_of(("mean", "blur", "blurrandom")))
    fill_outside_box: bool = key(False)
    context: int = key(-1, Rule("at least 0, or -1", lambda value: value >= -1))
    boxes_per_batch: int = key(4, at_least(1))
    inclusive_boxes: bool = key(False)
    demo: DemoParams = part(DemoParams(), "DEMO", "This is for tools/explain.py.")
    top_crf: TopCRFParams = part(TopCRFParams(), "TOP_CRF")
    use_mcg: bool = key(False)
    mcg_folders: tuple[str, ...] = key(
        (
            "datasets/MCG-Pascal-Main_trainvaltest_2012-proposals",
            "datasets/MCG-Pascal-Main_trainvaltest_2007-proposals",
        )
    )

"""Keys of the teacher that fuses masks."""

from __future__ import annotations

from dataclasses import dataclass

from wsis.config.params import key, node
from wsis.config.rules import Rule, one_of, within
from wsis.methods.fusion.rules import RULES


@node("MODEL.FUSION")
@dataclass(frozen=True)
class FusionParams:
    """The files, and how their masks become one.

    Attributes:
        files: Proxy-mask files of the boxes of DATASETS.TRAIN, two or more.
        rule: Which pixels an object has. "vote": those that more than half of the votes have, weighted by the masks'
            scores; "staple": those that belong to it with a probability above 0.5, by expectation maximisation over
            each file's sensitivity and specificity in the box; "best": those of the mask whose tight box has the
            largest IoU with the given one.
        min_agreement: Pixels with a smaller share of the votes for what they are labelled as ("staple": of the
            probability) become ignore_segmentation; 0 = none.
    """

    files: tuple[str, ...] = key((), Rule("paths of two or more files", lambda v: len(v) > 1))
    rule: str = key("vote", one_of(RULES))
    min_agreement: float = key(0.6, within(0, 1))

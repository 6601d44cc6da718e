"""What to begin with on a dataset, by what was measured on photos, nuclei and drawn shapes (docs/choosing.md)."""

from __future__ import annotations

from typing import Any

SMALL = 48
"""Side in pixels: among objects of this size a dense CRF is as good as GrabCut and three times as fast."""

FULLER = "; MODEL.BOX_CRF.PRIOR above 0.57 (cells: 0.66) if objects fill more of their boxes than its masks"

BETTER = "; from hundreds of its masks photos/boxcaseg_lite2_boxes.yaml learns better ones"


def advice(facts: dict[str, Any]) -> str:
    """The teacher to begin with, and its config, in a line.

    Args:
        facts: of a dataset, see :class:`wsis.data.inspection.DatasetReport`.

    Returns:
        "" where the dataset has nothing to learn from.
    """
    masks, boxes = facts["masks"], facts["boxes"]
    total, without = sum(masks.values()), masks.get("none", 0)
    if facts["proxy_of"]:
        return "these masks were made: train a student on them, photos/mask_rcnn_lite0_FPN_photos.yaml or a larger one"
    if 0 < without < total:
        return (
            f"{total - without} of {total} annotations have masks: a student of these makes the others, "
            "photos/student_teacher_lite0_photos.yaml"
        )
    if boxes["count"]:
        side = boxes["square_root_of_area"]["median"]
        config, then = ("box_crf", FULLER) if side < SMALL else ("grabcut", BETTER)
        begin = f"begin with baselines/{config}.yaml, which needs no training{then}"
        return f"boxes with a side of {side:g} pixels: {begin}"
    if facts["images"]["count"] and facts["classes"]:
        return "no boxes: image tags make labels, beginning with photos/cam_lite0_photos.yaml"
    return ""

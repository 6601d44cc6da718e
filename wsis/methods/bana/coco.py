"""COCO's pseudo labels from a classifier of VOC's classes."""

from __future__ import annotations

from wsis.errors import ConfigError

VOC_ROWS = 21
"""Of a classifier of VOC's 20 classes and background."""

VOC_OF_COCO = {
    **{5: 1, 2: 2, 16: 3, 9: 4, 44: 5, 6: 6, 3: 7, 17: 8, 62: 9, 21: 10},
    **{67: 11, 18: 12, 19: 13, 4: 14, 1: 15, 64: 16, 20: 17, 63: 18, 7: 19, 72: 20},
}
"""COCO's category id to VOC's label."""

_UNUSED = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_IDS = [i for i in range(1, 91) if i not in _UNUSED]
"""COCO's 80 category ids, in the order of the contiguous index."""


def voc_rows(num_classes: int) -> list[int | None]:
    """Of each of COCO's 80 classes its row in a VOC classifier, None for the 60 that VOC lacks.

    Args:
        num_classes: of the dataset, to be sure that it is COCO.

    Raises:
        ConfigError: it has another number of classes.
    """
    if num_classes != len(COCO_IDS):
        raise ConfigError(
            f"MODEL.BANA.VOC_CLASSIFIER: found a dataset of {num_classes} classes, expected COCO's {len(COCO_IDS)}"
        )
    return [VOC_OF_COCO.get(i) for i in COCO_IDS]

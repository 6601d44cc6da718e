"""Keys of the teacher that takes masks of another tool."""

from __future__ import annotations

from detectron2.config import CfgNode as CN

from wsis.config import register_config


@register_config
def add_external_config(cfg: CN) -> None:
    """Adds ``MODEL.EXTERNAL``.

    Args:
        cfg: changed in place.
    """
    cfg.MODEL.EXTERNAL = CN()
    # The masks: a COCO list of results, or a COCO JSON file; see docs/external_masks.md.
    cfg.MODEL.EXTERNAL.FILE = ""
    # How masks find their boxes. "id": by annotation_id, else id; "box": by IoU of the boxes, one to one, the largest
    # first; "auto": by annotation_id where it is given, by id if all of them agree with the dataset, else by box.
    cfg.MODEL.EXTERNAL.JOIN = "auto"
    # Smallest IoU of the given box, or of the mask's tight box, with the dataset's box, for a mask that is joined by
    # box.
    cfg.MODEL.EXTERNAL.MIN_IOU = 0.5
    # A mask whose class the file says goes to boxes of that class only.
    cfg.MODEL.EXTERNAL.MATCH_CLASS = True

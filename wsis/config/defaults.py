"""The keys that every part shares. Each has a comment; ``docs/config.md`` is made from them.

Methods add their own keys under ``MODEL.<NAME>`` in ``wsis/methods/<name>/config.py``.
"""

from __future__ import annotations

from detectron2.config import CfgNode as CN

from wsis.config.crf import add_crf_keys


def add_wsis_config(cfg: CN) -> None:
    """Adds the shared keys to Detectron2's.

    Args:
        cfg: changed in place.
    """
    _add_data_keys(cfg)

    cfg.WSIS = CN()
    # What DATASETS.TRAIN may be used for: "box" (masks in the files are deleted before anything sees them), "image"
    # (the same, and boxes may be missing), "proxy" (masks only from files that a teacher wrote) or "mask" (true masks).
    cfg.WSIS.SUPERVISION = "box"
    # CPU threads of each process while proxy masks are made; part of the result's identity, since the order of
    # floating-point sums depends on it.
    cfg.WSIS.NUM_THREADS = 1
    # Module prefixes that training leaves untouched, for example ["backbone", "proposal_generator"]; their batch norms
    # keep their statistics.
    cfg.WSIS.FREEZE = []
    # Exponent of the schedule SOLVER.LR_SCHEDULER_NAME "WarmupPolyLR", which wsis adds to Detectron2's.
    cfg.SOLVER.POLY_LR_POWER = 0.9
    # Evaluation also writes the label maps of a semantic model: OUTPUT_DIR/inference/<dataset>/<map>/<image>.png.
    cfg.TEST.SAVE_LABELS = False

    cfg.PROXY = CN()
    # Make the proxy masks of DATASETS.TRAIN with the trained teacher as soon as its training ends.
    cfg.PROXY.GENERATE_AFTER_TRAIN = False
    # Copy the true masks that the source has (status "given") and make only the others. The teacher sees none of them.
    cfg.PROXY.KEEP_TRUE_MASKS = False
    # Also make semantic pseudo labels, where the teacher can: OUTPUT_DIR/pseudo_labels/<dataset>/<label>/<image>.png.
    cfg.PROXY.SEM_SEG = False
    # CPU processes for refinement (CRF, GrabCut, merging); -1 = one per core, 0 = in the main process.
    cfg.PROXY.NUM_WORKERS = -1

    _add_mask_head_keys(cfg)
    _add_backbone_keys(cfg)

    # The number of classes comes from the dataset unless it is set: 0 = as the dataset says.
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 0
    # As MODEL.ROI_HEADS.NUM_CLASSES, for one-stage detectors.
    cfg.MODEL.RETINANET.NUM_CLASSES = 0
    # As MODEL.ROI_HEADS.NUM_CLASSES, for semantic heads; the dataset's classes and background.
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 0


def _add_mask_head_keys(cfg: CN) -> None:
    # Mask head of a student trained on proxy masks ("ProxyMaskHead"): how the per-mask score enters the loss. "none":
    # not at all, "weight": as the weight of the mask, "threshold": masks not above SCORE_THRESHOLD are left out.
    # Masks of score 0 (status empty or failed) never enter it.
    cfg.MODEL.ROI_MASK_HEAD.SCORE_MODE = "none"
    # Score that a mask must exceed to enter the mask loss with SCORE_MODE "threshold", in [0, 1).
    cfg.MODEL.ROI_MASK_HEAD.SCORE_THRESHOLD = 0.0
    # Mask head "PairMaskHead" (BBAM's student), whose ignored pixels are a region of doubt: such a pixel counts as
    # foreground where the head's own probability for it is above this,
    cfg.MODEL.ROI_MASK_HEAD.GROW_ABOVE = 0.9
    # and as background where it is below this.
    cfg.MODEL.ROI_MASK_HEAD.GROW_BELOW = 0.1

    cfg.MODEL.ROI_MASK_HEAD.CRF = CN()
    # Weight of the smoothness kernel of the dense CRF by which meta-architecture "CRFMaskRCNN" refines each predicted
    # mask, at test time only.
    add_crf_keys(
        cfg.MODEL.ROI_MASK_HEAD.CRF,
        spatial_xy_std=1.0,
        bilateral_xy_std=67.0,
        bilateral_rgb_std=3.0,
    )


def _add_data_keys(cfg: CN) -> None:
    # Your own data, without Python: a list of [name, COCO JSON file, image folder]; use the name in DATASETS.TRAIN or
    # DATASETS.TEST.
    cfg.DATASETS.CUSTOM = []
    # The same for semantic datasets: a list of [name, COCO JSON file, image folder, {label name: PNG folder}]. A PNG
    # has the name of its image; 0 = background, 1, 2, ... = the classes by ascending category id, 255 = void.
    cfg.DATASETS.CUSTOM_SEM_SEG = []
    # Treat all classes of the datasets as one class named "object".
    cfg.DATASETS.CLASS_AGNOSTIC = False
    # A box wholly outside its image or without area: "error" stops, "skip" leaves the box out of training and gives it
    # the status "empty" in a proxy-mask file.
    cfg.DATASETS.BAD_BOX = "error"
    # 16-bit images: "minmax" stretches each image to 0..255, "shift" keeps the upper 8 bits.
    cfg.INPUT.HIGH_BIT_DEPTH = "minmax"


def _add_backbone_keys(cfg: CN) -> None:
    cfg.MODEL.VGG = CN()
    # Backbone "build_atrous_vgg16_backbone": dilation of fc6; 12 is DeepLab's LargeFOV.
    cfg.MODEL.VGG.FC6_DILATION = 1
    # Channels in units of VGG-16's, in (0, 1].
    cfg.MODEL.VGG.WIDTH = 1.0
    # Norm after each convolution, as in Detectron2; "" = none, as published. Needed for training from scratch.
    cfg.MODEL.VGG.NORM = ""
    # Share of the channels that fc6 and fc7 drop in training.
    cfg.MODEL.VGG.DROPOUT = 0.5

"""The keys that every part shares; backbones, heads and methods add their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wsis.config.params import key, node


@node("")
@dataclass(frozen=True)
class SharedParams:
    """Keys that are read one by one.

    Attributes:
        supervision: What DATASETS.TRAIN may be used for: "box" (masks in the files are deleted before anything sees
            them), "image" (the same, and boxes may be missing), "proxy" (masks only from files that a teacher wrote) or
            "mask" (true masks).
        num_threads: CPU threads of each process while proxy masks are made; part of the result's identity, since the
            order of floating-point sums depends on it.
        freeze: Module prefixes that training leaves untouched, for example ["backbone", "proposal_generator"]; their
            batch norms keep their statistics.
        optimizer: Optimizer of training: "SGD" as Detectron2 has it, or "AdamW", which wants rates of 0.001 and less.
        poly_lr_power: Exponent of the schedule that wsis adds to Detectron2, SOLVER.LR_SCHEDULER_NAME "WarmupPolyLR".
        poly_lr_horizon: Iteration at which the rate of "WarmupPolyLR" would be 0; 0 = SOLVER.MAX_ITER. In a longer run
            the rate stays what it was just before; at the end of a shorter one it is still high, as in the published
            training of BAS' semantic networks, whose schedule is four times as long as their training.
        save_labels: Evaluation also writes the label maps of a semantic model:
            OUTPUT_DIR/inference/<dataset>/<map>/<image>.png.
        generate_after_train: Make the proxy masks (of a teacher of image tags: labels and score maps) of DATASETS.TRAIN
            with the trained teacher as soon as its training ends.
        keep_true_masks: Copy the true masks that the source has (status "given") and make only the others. The teacher
            sees none of them.
        sem_seg: Also make semantic pseudo labels, where the teacher can:
            OUTPUT_DIR/pseudo_labels/<dataset>/<label>/<image>.png.
        num_workers: CPU processes for refinement (CRF, GrabCut, merging); -1 = one per core, 0 = in the main process.
        custom: Your own data, without Python: a list of [name, COCO JSON file, image folder]; use the name in
            DATASETS.TRAIN or DATASETS.TEST.
        custom_sem_seg: Your own semantic data: a list of [name, COCO JSON file, image folder, {label name: PNG
            folder}]. A PNG has the name of its image; 0 = background, 1, 2, ... = the classes by ascending category id,
            255 = void.
        custom_score_maps: Score maps that an earlier stage made, for methods that read them: a list of [dataset, map
            name, folder]; the folder is OUTPUT_DIR/score_maps/<dataset>/<map name> of the run that made them.
        class_agnostic: Treat all classes of the datasets as one class named "object".
        bad_box: What a box wholly outside its image or without area does: "error" stops, "skip" leaves the box out of
            training and gives it the status "empty" in a proxy-mask file.
        bad_image: What an image that is missing or cannot be decoded does in training: "error" stops before the first
            iteration, "skip" decodes every image before it, leaves out those that cannot be, and ends with exit status
            3.
        high_bit_depth: How images of 16 bits are read: "minmax" stretches each image to 0..255, "shift" keeps the upper
            8 bits.
        num_classes: The number of classes comes from the dataset unless it is set: 0 = as the dataset says.
        retinanet_num_classes: As MODEL.ROI_HEADS.NUM_CLASSES, for one-stage detectors.
        point_head_num_classes: As MODEL.ROI_HEADS.NUM_CLASSES, for the point head of PointRend.
        sem_seg_num_classes: As MODEL.ROI_HEADS.NUM_CLASSES, for semantic heads; the dataset's classes and background.
    """

    supervision: str = key("box", name="WSIS.SUPERVISION")
    num_threads: int = key(1, name="WSIS.NUM_THREADS")
    freeze: tuple[str, ...] = key((), name="WSIS.FREEZE")
    optimizer: str = key("SGD", name="SOLVER.OPTIMIZER")
    poly_lr_power: float = key(0.9, name="SOLVER.POLY_LR_POWER")
    poly_lr_horizon: int = key(0, name="SOLVER.POLY_LR_HORIZON")
    save_labels: bool = key(False, name="TEST.SAVE_LABELS")
    generate_after_train: bool = key(False, name="PROXY.GENERATE_AFTER_TRAIN")
    keep_true_masks: bool = key(False, name="PROXY.KEEP_TRUE_MASKS")
    sem_seg: bool = key(False, name="PROXY.SEM_SEG")
    num_workers: int = key(-1, name="PROXY.NUM_WORKERS")
    custom: tuple[Any, ...] = key((), name="DATASETS.CUSTOM")
    custom_sem_seg: tuple[Any, ...] = key((), name="DATASETS.CUSTOM_SEM_SEG")
    custom_score_maps: tuple[Any, ...] = key((), name="DATASETS.CUSTOM_SCORE_MAPS")
    class_agnostic: bool = key(False, name="DATASETS.CLASS_AGNOSTIC")
    bad_box: str = key("error", name="DATASETS.BAD_BOX")
    bad_image: str = key("error", name="DATASETS.BAD_IMAGE")
    high_bit_depth: str = key("minmax", name="INPUT.HIGH_BIT_DEPTH")
    num_classes: int = key(0, name="MODEL.ROI_HEADS.NUM_CLASSES")
    retinanet_num_classes: int = key(0, name="MODEL.RETINANET.NUM_CLASSES")
    point_head_num_classes: int = key(0, name="MODEL.POINT_HEAD.NUM_CLASSES")
    sem_seg_num_classes: int = key(0, name="MODEL.SEM_SEG_HEAD.NUM_CLASSES")

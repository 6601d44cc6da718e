"""Keys of the student that is a teacher; the student's own keys stand where they always do."""

from __future__ import annotations

from dataclasses import dataclass

from wsis.config.params import key, node, part
from wsis.config.rules import at_least, each, positive, within
from wsis.layers.window_crf import WindowCRFParams


@node("MODEL.STUDENT_TEACHER")
@dataclass(frozen=True)
class StudentTeacherParams:
    """Which student, and how its masks are made.

    Attributes:
        student: Meta-architecture of the student; a Detectron2 model with a mask head.
        classes_of: Name of a dataset whose classes the weights know, for example "coco_2017_val" for public models. ""
            = as a checkpoint of wsis says, else those of the data. The data's classes are found among them by name.
        num_classes: Number of classes that the weights know, if it is not that of the data: 0 = the same. Filled in
            from the names.
        class_map: For each class of the data the student's class whose mask it takes; [] = the same numbers. Filled in
            from the names.
        scales: Factors of the image's size at test; a mask is the mean of the probabilities over them.
        flip: Masks are made of the mean over the image and its mirror image.
        threshold: Probability from which a pixel belongs to the mask.
        boxes_per_batch: Boxes of an image that pass through the mask head together.
    """

    student: str = key("GeneralizedRCNN")
    classes_of: str = key("")
    num_classes: int = key(0, at_least(0))
    class_map: tuple[int, ...] = key(())
    scales: tuple[float, ...] = key((1.0,), each("one or more numbers above 0", positive))
    flip: bool = key(False)
    threshold: float = key(0.5, within(0, 1))
    boxes_per_batch: int = key(128, at_least(1))
    colours: WindowCRFParams = part(WindowCRFParams())

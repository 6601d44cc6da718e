"""Keys of class activation maps; the classifier's are :class:`wsis.modeling.tag_classifier.TagClassifierParams`."""

from __future__ import annotations

from dataclasses import dataclass

from wsis.config.params import key, node
from wsis.config.rules import above_at_most, at_least, each, either, positive


@node("MODEL.CAM")
@dataclass(frozen=True)
class CAMParams:
    """What is made of a trained classifier.

    Attributes:
        scales: Factors of the image's size; the maps of the scaled images and of their mirror images are added up.
        stride: Stride in pixels of the grid that the score maps have.
        tags: Maps are made of the classes that are "given" with the image, or of those that are "predicted".
        min_probability: A class is predicted from this probability on, and the best class always; with the loss
            "cross_entropy" the best class only.
        background: Score of background, where the largest one of each class is 1, in the labels that PROXY.SEM_SEG asks
            for.
    """

    scales: tuple[float, ...] = key(
        (1.0, 0.5, 1.5, 2.0), each("one or more numbers above 0", positive)
    )
    stride: int = key(4, at_least(1))
    tags: str = key("given", either("given", "predicted"))
    min_probability: float = key(0.5, above_at_most(0, 1))
    background: float = key(0.3, above_at_most(0, 1))

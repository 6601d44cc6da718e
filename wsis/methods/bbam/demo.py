"""Demo mode: the explanation of a detector's own detections, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from detectron2.config import CfgNode
from torch import Tensor

from wsis.config.params import read
from wsis.methods.bbam.config import BBAMParams
from wsis.methods.bbam.detector import Detections, ExplainableDetector
from wsis.methods.bbam.explainer import ExplainerParams, Step, explain
from wsis.methods.bbam.targets import StrideParams, class_deltas


class Frame(NamedTuple):
    """One detection at one step.

    Attributes:
        detection: its index.
        step: from 0.
        image: (3, H, W) uint8 in the detector's channel order, what the mask leaves of the image.
        proposal, clean, perturbed: (4,) XYXY in network pixels: what the detector was asked about, its answer on the
            unchanged image, and its answer on this one.
    """

    detection: int
    step: int
    image: Tensor
    proposal: Tensor
    clean: Tensor
    perturbed: Tensor


@dataclass(frozen=True)
class DemoSettings:
    """What to explain, and how.

    Attributes:
        explainer: of the optimisation.
        stride: resolution of the masks.
        threshold: least score of a detection.
        boxes_per_batch: detections that are explained together.
    """

    explainer: ExplainerParams
    stride: StrideParams
    threshold: float
    boxes_per_batch: int = 1


def demo_settings(cfg: CfgNode) -> DemoSettings:
    """The settings of ``MODEL.BBAM`` and ``MODEL.BBAM.DEMO``."""
    params = read(cfg, BBAMParams)
    demo, explainer = params.demo, params.explainer
    objective = replace(
        explainer.objective, sparsity_weight=demo.sparsity_weight, tv_weight=demo.tv_weight
    )
    return DemoSettings(
        replace(explainer, objective=objective),
        params.targets.stride,
        demo.score_threshold,
        params.boxes_per_batch,
    )


def explain_detections(
    view: ExplainableDetector,
    image: Tensor,
    settings: DemoSettings,
    watch: Callable[[Frame], None] | None = None,
    every: int = 1,
) -> tuple[Detections, list[Tensor]]:
    """Explains what a detector finds in an image.

    Args:
        view: the detector, in eval mode; its parameters need no gradient.
        image: (3, H, W), see :meth:`ExplainableDetector.normalise`.
        settings: see there.
        watch: called with every detection at the first, the last and each ``every``-th step.
        every: see ``watch``.

    Returns:
        The detections, and one mask (h, w) in [0, 1] for each.
    """
    params = settings.explainer
    found = view.detections(image, settings.threshold, settings.stride)
    decode = view.decode_in(image)
    masks: list[Tensor] = []
    for start in range(0, len(found.targets), settings.boxes_per_batch):
        part = slice(start, start + settings.boxes_per_batch)

        def observe(step: Step, part: slice = part) -> None:
            if watch is None or (step.index % every and step.index != params.steps - 1):
                return
            perturbed = decode(
                class_deltas(step.deltas, found.classes[part]), found.proposals[part]
            )
            for i, shown in enumerate(view.show(step.images)):
                number = part.start + i
                boxes = found.proposals[number], found.boxes[number], perturbed[i]
                watch(Frame(number, step.index, shown, *boxes))

        masks += explain(
            view.forward, image, found.targets[part], params, scores=view.scores, observe=observe
        )
    return found, masks

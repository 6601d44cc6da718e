"""Detectron2's detectors as the explainer sees them: answers for given proposals, without the RPN."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from detectron2.layers import batched_nms
from detectron2.modeling.meta_arch.retinanet import RetinaNet
from detectron2.modeling.roi_heads import CascadeROIHeads, Res5ROIHeads, StandardROIHeads
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference_single_image
from detectron2.structures import Boxes, ImageList
from torch import Tensor, nn
from torch.nn import functional

from wsis.config.params import key, part
from wsis.errors import ConfigError
from wsis.methods.bbam.box_coder import clip_inclusive
from wsis.methods.bbam.box_coder import decode as decode_inclusive
from wsis.methods.bbam.proposals import ProposalParams, draw_proposals
from wsis.methods.bbam.retina import AnchorAnswers, anchor_target, flatten_level, read_levels
from wsis.methods.bbam.targets import (
    Scores,
    StrideParams,
    Target,
    box_targets,
    class_deltas,
    detection_targets,
    size_of,
    softmax_scores,
)

Answers = tuple[Tensor, Tensor]
Levels = list[Tensor]
Size = tuple[int, int]
_CHUNK = 4096
"""Proposals that go through the heads at a time in a pass without gradient."""
_THIN = 1e-3
"""Least side in pixels of a box whose regression is computed."""


@dataclass(frozen=True)
class TargetParams:
    """How the targets of given boxes are made.

    Attributes:
        seed: Seed of proposals and noise; with the annotation's id it decides both.
    """

    proposals: ProposalParams = part(ProposalParams())
    stride: StrideParams = part(StrideParams())
    seed: int = key(0)


class Detections(NamedTuple):
    """The detections of one image, by falling score.

    Attributes:
        targets: N; each has the one proposal that the detection came from.
        proposals: (N, 4) XYXY in network pixels, that proposal's or anchor's box.
        boxes: (N, 4) XYXY in network pixels, cut to the image.
        classes: (N,) int64 from 0.
        scores: (N,) in [0, 1].
    """

    targets: list[Target]
    proposals: Tensor
    boxes: Tensor
    classes: Tensor
    scores: Tensor


class ExplainableDetector(ABC):
    """What the explainer needs of a detector; holds it without owning it.

    Attributes:
        scores: how its logits become probabilities.
        divisor: windows of an image must start at multiples of it to be seen like the image; 0 where proposals
            belong to the whole image.

    Args:
        model: a Detectron2 detector, to be used in eval mode.
        inclusive: the far edges of boxes belong to them, see :mod:`wsis.methods.bbam.box_coder`.
    """

    scores: Scores
    divisor: int = 0

    def __init__(self, model: nn.Module, inclusive: bool = False) -> None:
        self.model: Any = model
        self.inclusive = inclusive

    def normalise(self, image: Tensor) -> Tensor:
        """An image as the network wants it: (3, H, W) in 0-255 to the same minus mean, by standard deviation."""
        return (image.to(self.model.device) - self.model.pixel_mean) / self.model.pixel_std

    def show(self, image: Tensor) -> Tensor:
        """The reverse of :meth:`normalise`: (..., 3, H, W) uint8."""
        shown = image * self.model.pixel_std + self.model.pixel_mean
        return shown.round().clamp(0, 255).to(torch.uint8)

    def decode(self, deltas: Tensor, proposals: Tensor, height: int, width: int) -> Tensor:
        """Regressions (N, 4 K) and proposals (N, 4) to boxes (N, 4 K) XYXY, cut to the image; type of the deltas."""
        coder = self._coder()
        if self.inclusive:
            moved = decode_inclusive(deltas, proposals, tuple(coder.weights))
            return clip_inclusive(moved, height, width)
        corners = coder.apply_deltas(deltas, proposals).to(deltas).unflatten(1, (-1, 4))
        limit = corners.new_tensor([width, height] * 2)
        return torch.minimum(corners.clamp(min=0), limit).flatten(1)

    def decode_in(self, image: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """:meth:`decode` for one image (3, H, W)."""
        height, width = size_of(image)
        return partial(self.decode, height=height, width=width)

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """The backbone's answer to (B, 3, H, W), padded as the detector itself pads."""
        return self.model.backbone(self._padded(images))

    def _padded(self, images: Tensor) -> Tensor:
        divisor = max(self.model.backbone.size_divisibility, 1)
        down, right = (-size % divisor for size in images.shape[-2:])
        return functional.pad(images, (0, right, 0, down))

    @abstractmethod
    def _coder(self) -> Any:
        """Detectron2's box coder."""

    @abstractmethod
    def forward(self, images: Tensor, proposals: list[Tensor]) -> Answers:
        """See :data:`wsis.methods.bbam.targets.Forward`."""

    @abstractmethod
    def targets(
        self,
        image: Tensor,
        boxes: Tensor,
        classes: Sequence[int],
        annotation_ids: Sequence[int],
        params: TargetParams,
    ) -> list[Target]:
        """What the masks of given boxes must preserve, from one pass over the unchanged image.

        Args:
            image: (3, H, W), see :meth:`normalise`.
            boxes: (N, 4) XYXY in network pixels, cut to the image.
            classes: N, from 0.
            annotation_ids: N, which decide the proposals.
            params: how.
        """

    @abstractmethod
    def detections(self, image: Tensor, threshold: float, stride: StrideParams) -> Detections:
        """What the detector finds in (3, H, W) with a score above the threshold."""


class TwoStageDetector(ExplainableDetector):
    """A ``GeneralizedRCNN`` with FPN, C4, C5 or cascade heads."""

    scores = staticmethod(softmax_scores)

    def __init__(self, model: nn.Module, inclusive: bool = False) -> None:
        super().__init__(model, inclusive)
        backbone = self.model.backbone
        strides = [shape.stride for shape in backbone.output_shape().values()]
        self.divisor = max(backbone.size_divisibility, *strides)

    def _predictors(self) -> Sequence[Any]:
        """One per stage."""
        found = self.model.roi_heads.box_predictor
        return list(found) if isinstance(found, nn.ModuleList) else [found]

    def _coder(self) -> Any:
        return self._predictors()[0].box2box_transform

    def forward(self, images: Tensor, proposals: list[Tensor]) -> Answers:
        """See :data:`wsis.methods.bbam.targets.Forward`."""
        return self._answers(self.features(images), proposals, size_of(images))

    def _answers(self, features: dict[str, Tensor], proposals: list[Tensor], size: Size) -> Answers:
        heads = self.model.roi_heads
        levels = [features[name] for name in heads.in_features]
        run = next(run for kind, run in _HEADS if isinstance(heads, kind))
        if torch.is_grad_enabled() or len(proposals) > 1:
            return run(heads, levels, proposals, size)
        parts = [run(heads, levels, [part], size) for part in proposals[0].split(_CHUNK)]
        logits, deltas = zip(*parts, strict=True)
        return torch.cat(logits), torch.cat(deltas)

    def targets(
        self,
        image: Tensor,
        boxes: Tensor,
        classes: Sequence[int],
        annotation_ids: Sequence[int],
        params: TargetParams,
    ) -> list[Target]:
        """See :meth:`ExplainableDetector.targets`."""
        proposals = [
            draw_proposals(box, *size_of(image), params.seed, number, params.proposals)
            for box, number in zip(boxes, annotation_ids, strict=True)
        ]
        how = self.decode_in(image), params.proposals, params.stride
        return box_targets(self.forward, image, boxes, classes, proposals, *how)

    @torch.no_grad()
    def detections(self, image: Tensor, threshold: float, stride: StrideParams) -> Detections:
        """See :meth:`ExplainableDetector.detections`; proposals are the RPN's."""
        size = size_of(image)
        padded = self._padded(image[None])
        features = self.model.backbone(padded)
        found, _ = self.model.proposal_generator(ImageList(padded, [size]), features, None)
        proposals = found[0].proposal_boxes.tensor.to(image)
        logits, deltas = self._answers(features, [proposals], size)
        predictor = self._predictors()[-1]
        limits = threshold, predictor.test_nms_thresh, predictor.test_topk_per_image
        decoded = self.decode(deltas, proposals, *size)
        made, index = fast_rcnn_inference_single_image(
            decoded, softmax_scores(logits), size, *limits
        )
        proposals, boxes, classes = proposals[index], made.pred_boxes.tensor, made.pred_classes
        answers = classes, made.scores, class_deltas(deltas[index], classes)
        targets = detection_targets(proposals, *answers, boxes, size, stride)
        return Detections(targets, proposals, boxes, classes, made.scores)


class OneStageDetector(ExplainableDetector):
    """A ``RetinaNet``; its proposals are anchor indices (n,)."""

    scores = staticmethod(torch.sigmoid)

    def _coder(self) -> Any:
        return self.model.box2box_transform

    def _levels(self, images: Tensor) -> tuple[list[Tensor], ...]:
        """Per level features, logits (B, A K, h, w) and regressions (B, 4 A, h, w)."""
        features = self.features(images)
        levels = [features[name] for name in self.model.head_in_features]
        return levels, *self.model.head(levels)

    def forward(self, images: Tensor, proposals: list[Tensor]) -> Answers:
        """See :data:`wsis.methods.bbam.targets.Forward`."""
        _, logits, deltas = self._levels(images)
        image = torch.cat([torch.full_like(part, i) for i, part in enumerate(proposals)])
        rows = image, torch.cat(proposals)

        def chosen(levels: Levels, values: int) -> Tensor:
            return torch.cat([flatten_level(level, values) for level in levels], dim=1)[rows]

        return chosen(logits, self.model.num_classes), chosen(deltas, 4)

    @torch.no_grad()
    def all_anchors(self, image: Tensor) -> tuple[AnchorAnswers, Tensor]:
        """The answers for all R anchors of (3, H, W), and the anchors, (R, 4) XYXY in network pixels."""
        levels, logits, deltas = self._levels(image[None])
        anchors = [boxes.tensor.to(image) for boxes in self.model.anchor_generator(levels)]
        answers = read_levels(logits, deltas, anchors, self.decode_in(image))
        return answers, torch.cat(anchors)

    def targets(
        self,
        image: Tensor,
        boxes: Tensor,
        classes: Sequence[int],
        annotation_ids: Sequence[int],
        params: TargetParams,
    ) -> list[Target]:
        """See :meth:`ExplainableDetector.targets`; nothing is drawn."""
        answers, _ = self.all_anchors(image)
        height, width = size_of(image)
        min_iou, limit = params.proposals.min_iou[-1], params.proposals.limit
        return [
            anchor_target(answers, box, label, height, width, params.stride, min_iou, limit)
            for box, label in zip(boxes, classes, strict=True)
        ]

    @torch.no_grad()
    def detections(self, image: Tensor, threshold: float, stride: StrideParams) -> Detections:
        """See :meth:`ExplainableDetector.detections`; an anchor may stand for several classes."""
        answers, anchors = self.all_anchors(image)
        probabilities = answers.logits.sigmoid()
        seen = (answers.decoded[:, 2:] > answers.decoded[:, :2]).all(dim=1)
        index, labels = (seen[:, None] & (probabilities > threshold)).nonzero(as_tuple=True)
        scores, limit = probabilities[index, labels], self.model.max_detections_per_image
        kept = batched_nms(answers.decoded[index], scores, labels, self.model.test_nms_thresh)
        index, labels = index[kept[:limit]], labels[kept[:limit]]
        boxes, scores = answers.decoded[index], probabilities[index, labels]
        known = index, labels, scores, answers.deltas[index], boxes
        targets = detection_targets(*known, size_of(image), stride)
        return Detections(targets, anchors[index], boxes, labels, scores)


def explainable(model: nn.Module, inclusive: bool = False) -> ExplainableDetector:
    """The view of a detector that fits it.

    Args:
        model: a Detectron2 detector.
        inclusive: see :class:`ExplainableDetector`.

    Raises:
        ConfigError: a kind of detector that cannot be explained.
    """
    if isinstance(model, RetinaNet):
        return OneStageDetector(model, inclusive)
    heads = getattr(model, "roi_heads", None)
    if isinstance(heads, tuple(kind for kind, _ in _HEADS)):
        return TwoStageDetector(model, inclusive)
    found = type(model).__name__ + (f" with {type(heads).__name__}" if heads is not None else "")
    raise ConfigError(
        f"MODEL.BBAM.DETECTOR: found {found}, expected RetinaNet, or GeneralizedRCNN with StandardROIHeads, "
        "Res5ROIHeads or CascadeROIHeads"
    )


def _standard(heads: Any, levels: Levels, proposals: list[Tensor], size: Size) -> Answers:
    pooled = heads.box_pooler(levels, [Boxes(part) for part in proposals])
    return heads.box_predictor(heads.box_head(pooled))


def _res5(heads: Any, levels: Levels, proposals: list[Tensor], size: Size) -> Answers:
    pooled = heads.res5(heads.pooler(levels, [Boxes(part) for part in proposals]))
    return heads.box_predictor(pooled.mean(dim=[2, 3]))


def _cascade(heads: Any, levels: Levels, proposals: list[Tensor], size: Size) -> Answers:
    """Logits whose softmax is the mean over the stages, and the regression from a proposal to the last stage's box."""
    counts = [len(part) for part in proposals]
    start = boxes = torch.cat(proposals)
    limit = start.new_tensor([size[1], size[0]] * 2)
    means: list[Tensor] = []
    for stage in range(heads.num_cascade_stages):
        if stage:
            boxes = torch.minimum(boxes.clamp(min=0), limit)
        pooled = heads.box_pooler(levels, [Boxes(part) for part in boxes.detach().split(counts)])
        predictor = heads.box_predictor[stage]
        logits, deltas = predictor(heads.box_head[stage](pooled))
        means.append(logits.softmax(dim=1) / heads.num_cascade_stages)
        boxes = predictor.box2box_transform.apply_deltas(deltas, boxes).to(start)
    boxes = torch.cat([boxes[:, :2], torch.maximum(boxes[:, 2:], boxes[:, :2] + _THIN)], dim=1)
    moved = heads.box_predictor[0].box2box_transform.get_deltas(start, boxes)
    return torch.stack(means).sum(dim=0).log(), moved


_HEADS = ((CascadeROIHeads, _cascade), (StandardROIHeads, _standard), (Res5ROIHeads, _res5))
"""Kinds of RoI heads, special ones first, and what runs their box branch."""

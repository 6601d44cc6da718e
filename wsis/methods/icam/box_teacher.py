"""ICAM as a teacher of boxes: one mask per box, from maps that know where each class may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import ImageList
from torch import Tensor

from wsis.config.params import key, node, part
from wsis.config.rules import at_least, either
from wsis.layers.box_maps import BoxMapParams
from wsis.layers.dense_crf import crf_packages
from wsis.layers.feature_similarity import SimilarityParams, colours_at
from wsis.layers.seeds import strided_sum
from wsis.methods.icam.boxes import (
    BoxBatch,
    allowed_by_boxes,
    box_masks,
    box_tightness,
    class_coverage,
    inside_loss,
    outside_loss,
)
from wsis.methods.icam.cam_model import CamModel
from wsis.methods.icam.config import CamParams
from wsis.methods.icam.losses import Maps, equivariance_losses
from wsis.methods.icam.maps import condition
from wsis.methods.icam.refiner import ICAM_MAP
from wsis.modeling.class_maps import maps_over_scales
from wsis.modeling.teacher import Refiner, Teacher, seed_from_inputs
from wsis.structures import ProxyMasks, ScoreMaps, Seed


@node("MODEL.ICAM_BOX")
@dataclass(frozen=True)
class ICAMBoxParams:
    """The meta-architecture "ICAMBox", which trains as a detector does (INPUT.MIN_SIZE_TRAIN and the like).

    Attributes:
        activation: Probabilities of the classes are a "sigmoid" of each, as boxes of several classes may overlap, or a
            "softmax" over all and background.
        tightness_weight: Weight of the loss of rows and columns of a box in which nothing is found; 0 leaves it out.
        stride: Stride in pixels of the grid on which the maps are made.
    """

    cam: CamParams = part(CamParams())
    activation: str = key("sigmoid", either("sigmoid", "softmax"))
    tightness_weight: float = key(0.0, at_least(0))
    similarity: SimilarityParams = part(SimilarityParams(weight=0.5), "SIMILARITY")
    stride: int = key(4, at_least(1))
    map: BoxMapParams = part(BoxMapParams(0.5))


@dataclass(frozen=True)
class BoxRefiner:
    """Masks of the boxes from the maps of an image's classes.

    Attributes:
        stride: of the maps.
        params: see :func:`wsis.methods.icam.boxes.box_masks`.
    """

    stride: int
    params: BoxMapParams

    def __call__(self, seed: Seed, image: np.ndarray) -> ProxyMasks:
        """See :data:`wsis.modeling.teacher.Refiner`."""
        classes, rows = np.unique(seed.classes, return_inverse=True)
        maps = ScoreMaps(classes + 1, seed.maps[ICAM_MAP], seed.height, seed.width, self.stride)
        pixels = maps.enlarged().numpy()
        crops, scores, status = box_masks(pixels, rows, seed.boxes, image, self.params)
        crops, status = self.params.stand_in.apply(seed, crops, status)
        made = ProxyMasks.from_crops(seed, crops, scores=scores, status=status)
        made.score_maps[ICAM_MAP] = maps
        return made


@META_ARCH_REGISTRY.register()
class ICAMBox(CamModel, Teacher):
    """ICAM that is told boxes: each is a bag of its own, outside of all boxes of a class it is certainly not, and each
    box's largest probability is what the pixels of its mask are measured by.
    """

    map_names = (ICAM_MAP,)
    params_type = ICAMBoxParams
    params: ICAMBoxParams

    @configurable
    def __init__(self, **parts: Any) -> None:
        """See :class:`CamModel`."""
        super().__init__(**parts)
        self.result_packages = crf_packages(self.params.map.refine)

    def activate(self, logits: Tensor) -> Tensor:
        """(N, C + 1, h, w) logits to probabilities; with sigmoids the background is what no class is."""
        if self.params.activation == "softmax":
            return logits.softmax(dim=1)
        classes = logits[:, 1:].sigmoid()
        return torch.cat([1 - classes.amax(dim=1, keepdim=True), classes], dim=1)

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """The losses in training mode, else see :meth:`Teacher.forward`.

        Args:
            batched_inputs: in training dicts with ``image`` (3, h, w) in ``INPUT.FORMAT`` and ``instances`` with
                ``gt_boxes`` and ``gt_classes``.
        """
        if not self.training:
            return super().forward(batched_inputs)
        images = ImageList.from_tensors([self.normalise(each["image"]) for each in batched_inputs])
        instances = [each["instances"].to(self.device) for each in batched_inputs]
        counts = torch.tensor([len(own) for own in instances], device=self.device)
        batch = BoxBatch(
            torch.cat([own.gt_boxes.tensor for own in instances]).float(),
            torch.arange(len(instances), device=self.device).repeat_interleave(counts),
            torch.cat([own.gt_classes for own in instances]),
        )
        return self.losses(images.tensor, batch)

    def losses(self, images: Tensor, batch: BoxBatch) -> dict[str, Tensor]:
        """Of normalised images (N, 3, H, W): sums over both sizes, and over maps and refined maps."""
        params, size = self.params, (images.shape[2], images.shape[3])
        scales = [
            Maps(self.activate(m.plain), self.activate(m.refined)) for m in self.both_sizes(images)
        ]
        losses = {name: images.new_zeros(()) for name in ("loss_inside", "loss_outside")}
        if params.tightness_weight > 0:
            losses["loss_tightness"] = images.new_zeros(())
        for maps in scales:
            cells = (maps.plain.shape[2], maps.plain.shape[3])
            coverage = batch.coverage(size, cells)
            covered = class_coverage(coverage, batch, len(images), self.num_classes)
            for probabilities in (maps.plain[:, 1:], maps.refined[:, 1:]):
                own = probabilities[batch.images, batch.classes]
                losses["loss_inside"] += inside_loss(own, coverage)
                losses["loss_outside"] += outside_loss(probabilities, covered)
                if params.tightness_weight > 0:
                    tightness = box_tightness(own, coverage)
                    losses["loss_tightness"] += params.tightness_weight * tightness
            if maps is scales[0] and params.similarity.weight > 0:
                colours = colours_at(images, self.pixel_mean, self.pixel_std, cells)
                # outside of its boxes a class is not there, so that their edges are none
                similarity = params.similarity.loss(maps.plain[:, 1:] * covered, colours)
                losses["loss_similarity"] = similarity
        losses["loss_er"], losses["loss_ecr"] = equivariance_losses(*scales)
        return losses

    def propose(self, batched_inputs: list[dict[str, Any]]) -> list[Seed]:
        """See :meth:`Teacher.propose`; a seed has the mean maps of the classes of the image's boxes."""
        return [self._seed(inputs) for inputs in batched_inputs]

    def _seed(self, inputs: dict[str, Any]) -> Seed:
        params, size = self.params, (inputs["height"], inputs["width"])
        boxes = torch.as_tensor(inputs["instances"].original_boxes, dtype=torch.float32)
        classes = torch.as_tensor(inputs["instances"].gt_classes)
        present = classes.unique()
        scale = boxes.new_tensor([size[1], size[0]] * 2)

        def prior(images: Tensor) -> Tensor:
            maps = self.network(images)
            found = (self.activate(maps.plain) + self.activate(maps.refined)) / 2
            cells = (found.shape[2], found.shape[3])
            in_cells = boxes / scale * boxes.new_tensor([cells[1], cells[0]] * 2)
            allowed = allowed_by_boxes(in_cells, classes, cells, self.num_classes).to(found)
            allowed = torch.cat([allowed, allowed.flip(-1)])  # the image and its mirror image
            if params.activation == "softmax":
                return condition(found, allowed)[:, present + 1]
            return (found * allowed)[:, present + 1]

        maps = maps_over_scales(prior, self.normalise(inputs["image"]), params.cam.scales)
        mean = strided_sum(maps, *size, params.stride) / (2 * len(params.cam.scales))
        return seed_from_inputs(inputs, {ICAM_MAP: mean.clamp(min=0).cpu().numpy()})

    def refiner(self) -> Refiner:
        """See :meth:`Teacher.refiner`."""
        return BoxRefiner(self.params.stride, self.params.map)

"""IRNet as a meta-architecture: it learns from labels, and in eval mode lets score maps walk along its edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone
from torch import Tensor
from torch.nn import functional

from wsis.data.build import Batches
from wsis.data.crop_loader import build_loader
from wsis.data.label_loader import LabelMapper, training_records
from wsis.errors import ConfigError
from wsis.layers.affinity import (
    affinity_losses,
    displacement_losses,
    fitting_radius,
    pair_labels,
    path_affinities,
)
from wsis.layers.norms import freeze
from wsis.layers.random_walk import pairs_of_edges, random_walk
from wsis.layers.seeds import EPS, label_map
from wsis.methods.irn.config import IRNParams, WalkParams
from wsis.methods.irn.network import FINE, IRNetHead
from wsis.modeling.method import parts_from_config
from wsis.modeling.seed_reader import KEY, SeedReader
from wsis.modeling.teacher import MapRefiner, TagTeacher, seed_from_inputs
from wsis.structures import ImageMaps, ScoreMaps, Seed

NAME = "irn"
"""Of the label and of the score maps."""
EDGE = "edge"
NUM_LABELS = 1


@dataclass(frozen=True)
class WalkRefiner:
    """Score maps after a random walk along an image's edges, the largest score 1, and the label that they give.

    Attributes:
        reader: of the score maps that walk.
        params: of the walk.
    """

    reader: SeedReader
    params: WalkParams

    def __call__(self, seed: Seed, image: np.ndarray) -> ImageMaps:
        """See :data:`wsis.modeling.teacher.MapRefiner`."""
        labels, scores = self.reader(seed, FINE)
        walk, edge = self.params, torch.from_numpy(seed.maps[EDGE])
        if labels:
            start = scores.pow(walk.score_power) * (1 - edge)
            affinity = pairs_of_edges(edge, walk.radius)
            scores = random_walk(start, affinity, walk.radius, walk.beta, walk.steps)
        maps = ScoreMaps(np.array(labels), scores.numpy(), seed.height, seed.width, FINE)
        largest = max([0.0, *maps.enlarged().flatten(1).amax(dim=1).tolist()]) + EPS
        maps.scores /= largest
        label = label_map(maps.enlarged(), labels, walk.background)
        return ImageMaps({NAME: label.numpy()}, {NAME: maps})


@META_ARCH_REGISTRY.register()
class IRN(TagTeacher):
    """IRNet (Ahn, Cho and Kwak, CVPR 2019).

    In training mode it learns edges and displacements from labels of which one can be sure. In eval mode score maps
    walk along its edges; the label is named "irn", and so are the maps.
    """

    class_free = True
    result_keys = ("MODEL", "INPUT")

    label_names = (NAME,)
    map_names = (NAME,)

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        params: IRNParams,
        reader: SeedReader | None = None,
    ) -> None:
        """
        Args:
            backbone: whose maps, of stride 4 and more, are used; it does not learn.
            pixel_mean, pixel_std: per channel, in ``INPUT.FORMAT``.
            params: of training and walk.
            reader: of the score maps that walk; None = it only learns.
        """
        super().__init__()
        self.head = IRNetHead(backbone.output_shape())
        self.backbone = freeze(backbone)
        self.params, self.reader = params, reader
        if reader is not None:
            self.inputs_sha256 = reader.inputs_sha256
        self.set_normalisation(pixel_mean, pixel_std)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``MODEL.IRN``, Detectron2's keys of the backbone and ``DATASETS.CUSTOM_SCORE_MAPS``.

        Raises:
            ConfigError: a value out of its range, or maps that the backbone does not have.
            ConfigError, DataError: see :meth:`wsis.modeling.seed_reader.SeedReader.from_cfg`.
        """
        parts = parts_from_config(cfg, IRNParams)
        if cfg.DATASETS.CUSTOM_SCORE_MAPS:
            parts["reader"] = SeedReader.from_cfg(cfg, parts["params"].maps)
        return parts

    @classmethod
    def needs_tags(cls, cfg: CfgNode) -> bool:
        """The maps name the classes."""
        return False

    @classmethod
    def check_training_data(cls, cfg: CfgNode) -> None:
        """See :func:`wsis.data.label_loader.training_records`."""
        training_records(cfg, NUM_LABELS)
        LabelMapper(cfg)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Batches:
        """Endless batches of :class:`wsis.data.label_loader.LabelMapper`.

        Raises:
            ConfigError, DataError: see :func:`wsis.data.label_loader.training_records`.
        """
        return build_loader(cfg, training_records(cfg, NUM_LABELS), LabelMapper(cfg))

    def parameter_groups(self, cfg: CfgNode) -> list[dict[str, Any]]:
        """Edges at ``BASE_LR``, displacements at their multiple of it."""
        groups: tuple[list[Any], list[Any]] = ([], [])
        for name, parameter in self.head.named_parameters():
            groups[not name.startswith("edge")].append(parameter)
        factors = (1.0, self.params.displacement_lr_factor)
        decay = cfg.SOLVER.WEIGHT_DECAY
        return [
            {"params": group, "lr": factor * cfg.SOLVER.BASE_LR, "weight_decay": decay}
            for group, factor in zip(groups, factors, strict=True)
        ]

    def train(self, mode: bool = True) -> IRN:
        """The backbone is always in eval mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def edges_and_displacements(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised images (N, 3, H, W) to edge logits (N, 1, h, w) and displacements (N, 2, h, w) at stride 4."""
        with torch.no_grad():
            features = self.backbone(images)
        edge, displacement = self.head(features)
        return edge, displacement

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """In training the losses, else see :meth:`TagTeacher.forward`.

        Args:
            batched_inputs: in training as :class:`wsis.data.label_loader.LabelMapper` makes them, all of one size.
        """
        if not self.training:
            return super().forward(batched_inputs)
        images = torch.stack([self.normalise(each["image"]) for each in batched_inputs])
        labels = torch.stack([each["labels"] for each in batched_inputs]).to(self.device)
        return self.losses(images, labels)

    def losses(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Both branches' losses.

        Args:
            images: (N, 3, H, W), normalised.
            labels: (N, 1, H, W) uint8, 255 = left out.
        """
        edge, displacement = self.edges_and_displacements(images)
        with torch.autocast(edge.device.type, enabled=False):
            edge, displacement = edge.float(), displacement.float()
            size = edge.shape[-2:]
            radius = fitting_radius(self.params.radius, *size)
            cells = functional.interpolate(labels.float(), size, mode="nearest-exact")
            pairs = pair_labels(cells[:, 0].to(torch.uint8), radius)
            affinity = path_affinities(edge[:, 0].sigmoid(), radius)
            foreground, background = displacement_losses(displacement, pairs, radius)
        return {
            "loss_affinity": affinity_losses(affinity, pairs).total(),
            "loss_displacement": (foreground + background) / 2,
        }

    def maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Edges, of the image and its mirror image together, and displacements of the image.

        Args:
            image: (3, H, W), normalised.

        Returns:
            (h, w) in (0, 1) and (2, h, w) at stride 4, sides rounded up.
        """
        height, width = image.shape[1:]
        rows, columns = -(-height // FINE), -(-width // FINE)
        step = max(self.head.strides.values())
        missing = [max(self.params.min_side - side, -side % step) for side in (width, height)]
        both = torch.stack([image, image.flip(-1)])
        both = functional.pad(both, (0, missing[0], 0, missing[1]))
        edge, displacement = self.edges_and_displacements(both)
        edge, displacement = edge[..., :rows, :columns], displacement[..., :rows, :columns]
        return ((edge[0] + edge[1].flip(-1)) / 2).sigmoid()[0], displacement[0]

    def propose(self, batched_inputs: list[dict[str, Any]]) -> list[Seed]:
        """Edges on the grid of stride 4 of each original image, see :meth:`TagTeacher.propose`."""
        seeds = []
        for inputs in batched_inputs:
            edge, _ = self.maps(self.normalise(inputs["image"]))
            size = -(-inputs["height"] // FINE), -(-inputs["width"] // FINE)
            if edge.shape != size:  # the network saw another size
                edge = functional.interpolate(edge[None, None], size, mode="bilinear")[0, 0]
            seeds.append(seed_from_inputs(inputs, {EDGE: edge.float().cpu().numpy()}))
        return seeds

    def refiner(self) -> MapRefiner:
        """See :meth:`TagTeacher.refiner`.

        Raises:
            ConfigError: there are no score maps.
        """
        if self.reader is None:
            raise ConfigError(
                f"{KEY}: found nothing, expected the score maps {', '.join(self.params.maps)} that walk along the edges"
            )
        return WalkRefiner(self.reader, self.params.walk)

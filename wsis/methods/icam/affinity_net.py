"""AffinityNet (Ahn and Kwak, CVPR 2018): it learns which cells belong together, and lets score maps walk among them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone
from torch import Tensor, nn
from torch.nn import functional

from wsis.data.build import Batches
from wsis.data.crop_loader import build_loader
from wsis.data.tag_loader import tag_records
from wsis.layers.affinity import (
    affinity_losses,
    feature_affinities,
    fitting_radius,
    pair_labels,
)
from wsis.layers.deeplab import resize_scores
from wsis.layers.random_walk import pairs_of_window, random_walk
from wsis.layers.seeds import label_map, power_background
from wsis.methods.icam.affinity_loader import AffinityMapper, CellMapper
from wsis.methods.icam.config import AffinityNetParams
from wsis.methods.icam.network import last_maps
from wsis.modeling.method import parts_from_config
from wsis.modeling.parameter_groups import parameter_groups
from wsis.modeling.teacher import Maker, MapRefiner, TagTeacher, seed_from_inputs
from wsis.structures import ImageMaps, ScoreMaps, Seed

WALK = "rw"
"""Of the label and of the score maps."""
AFFINITY, SCORES = "affinity", "scores"


class AffinityNetwork(nn.Module):
    """Backbone, then a 1x1 convolution of each of its last three maps and one of all, without biases.

    Args:
        backbone: see above.
        channels: of the three convolutions; the last one has as many as all of them.

    Raises:
        ConfigError: the backbone has less than three maps.
    """

    released_as = ""

    def __init__(self, backbone: Backbone, channels: tuple[int, int, int]) -> None:
        super().__init__()
        self.backbone = backbone
        self.taps, shapes = last_maps(backbone)
        for name, own, shape in zip(("f8_3", "f8_4", "f8_5"), channels, shapes, strict=True):
            conv = nn.Conv2d(shape.channels, own, 1, bias=False)
            nn.init.kaiming_normal_(conv.weight)
            self.add_module(name, conv)
        self.f9 = nn.Conv2d(sum(channels), sum(channels), 1, bias=False)
        nn.init.xavier_uniform_(self.f9.weight, gain=4)

    def forward(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Normalised images (N, 3, H, W) to features of cells (N, D, h, w), float32."""
        maps = self.backbone(images)
        with torch.autocast(images.device.type, enabled=False):
            parts = [
                functional.elu(self.get_submodule(name)(maps[tap].float()))
                for name, tap in zip(("f8_3", "f8_4", "f8_5"), self.taps, strict=True)
            ]
            features = torch.cat([resize_scores(part, size) for part in parts], dim=1)
            return functional.elu(self.f9(features))


@dataclass(frozen=True)
class WalkRefiner:
    """Score maps after a random walk, and the label that they give.

    Attributes:
        params: of the walk.
    """

    params: AffinityNetParams

    def __call__(self, seed: Seed, image: np.ndarray) -> ImageMaps:
        """See :data:`wsis.modeling.teacher.MapRefiner`."""
        params, size = self.params, (seed.height, seed.width)
        scores, affinity = (torch.from_numpy(seed.maps[name]) for name in (SCORES, AFFINITY))
        radius = fitting_radius(params.radius, *scores.shape[1:])
        if radius > 1:
            pairs = pairs_of_window(affinity, radius)
            scores = random_walk(scores, pairs, radius, params.beta, params.steps)
        classes = [0, *(tag + 1 for tag in seed.tags)]
        maps = ScoreMaps(np.array(classes), scores.clamp(min=0).numpy(), *size, params.cell)
        pixels = maps.enlarged()
        label = label_map(pixels[1:], classes[1:], pixels[:1])
        return ImageMaps({WALK: label.numpy()}, {WALK: maps})


class AffinityModel(Maker):
    """A network of affinities and what it is made of, for the walks below and in boxes."""

    class_free = True
    result_keys = ("MODEL", "INPUT")

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        params: AffinityNetParams,
    ) -> None:
        """
        Args:
            backbone: its last three maps are used.
            pixel_mean, pixel_std: per channel, in ``INPUT.FORMAT``.
            params: of network and walk.
        """
        super().__init__()
        self.network = AffinityNetwork(backbone, params.channels)
        self.params = params
        self.set_normalisation(pixel_mean, pixel_std)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``MODEL.AFFINITY_NET`` and Detectron2's keys of the backbone.

        Raises:
            ConfigError: a value out of its range.
        """
        return parts_from_config(cfg, AffinityNetParams)

    @classmethod
    @abstractmethod
    def training_parts(cls, cfg: CfgNode) -> tuple[list[dict[str, Any]], CellMapper]:
        """What it trains on, and from it to samples.

        Raises:
            ConfigError, DataError: the config or the data are not to be trained on.
        """

    @classmethod
    def check_training_data(cls, cfg: CfgNode) -> None:
        """Raises ConfigError or DataError where the training would."""
        _, mapper = cls.training_parts(cfg)
        mapper.check(cfg)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Batches:
        """Endless batches of :class:`wsis.methods.icam.affinity_loader.CellMapper`.

        Raises:
            ConfigError, DataError: see :meth:`training_parts`.
        """
        return build_loader(cfg, *cls.training_parts(cfg))

    def parameter_groups(self, cfg: CfgNode) -> list[dict[str, Any]]:
        """Backbone and new layers, weights and biases, see :mod:`wsis.modeling.parameter_groups`."""
        return parameter_groups(self, self.network.backbone, cfg.SOLVER, self.params.lr_factors)

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """In training the losses of the three kinds of pairs, else see :meth:`Maker.forward`.

        Args:
            batched_inputs: in training as :class:`wsis.methods.icam.affinity_loader.CellMapper` makes them; else as
                :meth:`propose` takes them.
        """
        if not self.training:
            return super().forward(batched_inputs)
        images = self.normalise(torch.stack([inputs["image"] for inputs in batched_inputs]))
        cells = torch.stack([inputs["cells"] for inputs in batched_inputs]).to(images.device)
        size = (cells.shape[1], cells.shape[2])
        radius = fitting_radius(self.params.radius, *size)
        affinity = feature_affinities(self.network(images, size), radius)
        losses = affinity_losses(affinity, pair_labels(cells, radius))
        return {
            "loss_background": losses.background / 4,
            "loss_foreground": losses.foreground / 4,
            "loss_different": losses.different / 2,
        }


@META_ARCH_REGISTRY.register()
class AffinityNet(AffinityModel, TagTeacher):
    """In training mode it learns affinities of cells from score maps with much background and with little. In eval mode
    score maps walk along its affinities; the label is named "rw", and so are the maps.
    """

    label_names = (WALK,)
    map_names = (WALK,)

    @classmethod
    def needs_tags(cls, cfg: CfgNode) -> bool:
        """The maps name the classes."""
        return False

    @classmethod
    def maps_needed(cls, cfg: CfgNode) -> Sequence[str]:
        """See :meth:`wsis.modeling.teacher.Maker.maps_needed`."""
        return (cfg.MODEL.AFFINITY_NET.MAPS,)

    @classmethod
    def training_parts(cls, cfg: CfgNode) -> tuple[list[dict[str, Any]], CellMapper]:
        """See :class:`AffinityModel`."""
        names = cfg.MODEL.AFFINITY_NET.LOW, cfg.MODEL.AFFINITY_NET.HIGH
        return tag_records(cfg), AffinityMapper.from_cfg(cfg, names)

    def propose(self, batched_inputs: list[dict[str, Any]]) -> list[Seed]:
        """See :meth:`TagTeacher.propose`; a seed has affinities and scores on the grid of the original image."""
        return [self._seed(inputs) for inputs in batched_inputs]

    def _seed(self, inputs: dict[str, Any]) -> Seed:
        params, maps = self.params, inputs["score_maps"][self.params.maps]
        scores = cell_scores(maps, params.alpha, params.cell)
        affinity = image_affinities(
            self.network, self.normalise(inputs["image"]), (maps.height, maps.width), params
        )
        found = {AFFINITY: affinity.cpu().numpy(), SCORES: scores.numpy()}
        tags = [int(label) - 1 for label in maps.classes if label]
        return seed_from_inputs(inputs | {"tags": tags}, found)

    def refiner(self) -> MapRefiner:
        """See :meth:`TagTeacher.refiner`."""
        return WalkRefiner(self.params)


def image_affinities(
    network: AffinityNetwork, image: Tensor, size: tuple[int, int], params: AffinityNetParams
) -> Tensor:
    """Affinities of the cells of an image.

    Args:
        network: of the features.
        image: (3, h, w), normalised; it is padded to whole cells.
        size: height and width of the original image.
        params: cell and radius.

    Returns:
        (D, h, w), see :mod:`wsis.layers.affinity`.
    """
    cell, (height, width) = params.cell, image.shape[1:]
    padded = functional.pad(image, (0, -width % cell, 0, -height % cell))
    cells = (-(-size[0] // cell), -(-size[1] // cell))
    return feature_affinities(network(padded[None], cells), fitting_radius(params.radius, *cells))[
        0
    ]


def cell_scores(maps: ScoreMaps, alpha: float, cell: int) -> Tensor:
    """Background (1 - the best class)^alpha and classes, means of the pixels of each cell, 0 beyond the image.

    Args:
        maps: of an image; a map of the background does not count.
        alpha: exponent.
        cell: side of a cell in pixels.

    Returns:
        (1 + K, H / cell, W / cell), sides rounded up.
    """
    pixels = maps.enlarged()[torch.from_numpy(maps.classes.astype(np.int64)) > 0]
    if not len(pixels):
        pixels = pixels.new_zeros(1, maps.height, maps.width)
        scores = power_background(pixels, alpha)
    else:
        scores = torch.cat([power_background(pixels, alpha), pixels])
    padding = (0, -maps.width % cell, 0, -maps.height % cell)
    return functional.avg_pool2d(functional.pad(scores, padding), cell)

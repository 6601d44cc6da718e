"""AffinityNet with boxes: the score of each box walks in the box and a little around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor
from torch.nn import functional

from wsis.data.build import training_dicts
from wsis.layers.affinity import fitting_radius
from wsis.layers.random_walk import pairs_of_window, random_walk
from wsis.layers.seeds import EPS
from wsis.methods.icam.affinity_loader import BoxAffinityMapper, CellMapper
from wsis.methods.icam.affinity_net import AFFINITY, AffinityModel, image_affinities
from wsis.methods.icam.boxes import disjoint_masks, pairs_in_window
from wsis.methods.icam.config import AffinityNetParams
from wsis.methods.icam.refiner import ICAM_MAP
from wsis.modeling.teacher import Refiner, Teacher, seed_from_inputs
from wsis.structures import ProxyMasks, ScoreMaps, Seed
from wsis.structures.boxes import box_to_slices

MARGIN = 5
"""Cells around a box that its score may walk through."""
THRESHOLD = 0.5
"""Share of the box's score, beside the background's, above which a pixel is in the mask."""
MAPS, CLASSES, STRIDE = ICAM_MAP, "classes", "stride"


@dataclass(frozen=True)
class BoxWalkRefiner:
    """Masks of boxes after a random walk of each box's score and of its background.

    Attributes:
        params: of the walk.
    """

    params: AffinityNetParams

    def __call__(self, seed: Seed, image: np.ndarray) -> ProxyMasks:
        """See :data:`wsis.modeling.teacher.Refiner`."""
        size = seed.height, seed.width
        maps = ScoreMaps(seed.maps[CLASSES], seed.maps[MAPS], *size, int(seed.maps[STRIDE]))
        rows, pixels = {int(label): i for i, label in enumerate(maps.classes)}, maps.enlarged()
        cell = self.params.cell
        grid = (-(-size[0] // cell), -(-size[1] // cell))
        radius = fitting_radius(self.params.radius, *grid)
        pairs = pairs_of_window(torch.from_numpy(seed.maps[AFFINITY]), radius)
        windows = [box_to_slices(box, *size) for box in seed.boxes]
        own = [
            self._walked(pixels[rows[int(kind) + 1]], window, pairs, radius)
            for kind, window in zip(seed.classes, windows, strict=True)
        ]
        masks = [share > THRESHOLD for share in own]
        crops, scores, status = disjoint_masks(own, masks, windows, size)
        return ProxyMasks.from_crops(seed, crops, scores=scores, status=status)

    def _walked(
        self, scores: Tensor, window: tuple[slice, slice], pairs: Tensor, radius: int
    ) -> np.ndarray:
        """The share of the box's score in its window, (h, w) in [0, 1].

        Args:
            scores: (H, W) of the box's class.
            window: the box's pixels.
            pairs: (D, h, w) affinities of the image.
            radius: of the pairs.
        """
        params, cell = self.params, self.params.cell
        own = torch.zeros_like(scores)
        own[window] = scores[window] / (scores[window].max() + EPS)
        both = torch.stack([(1 - own).pow(params.alpha), own])
        height, width = scores.shape
        both = functional.pad(both, (0, -width % cell, 0, -height % cell))
        cells = functional.avg_pool2d(both, cell)
        near = tuple(
            slice(max(0, side.start // cell - MARGIN), -(-side.stop // cell) + MARGIN)
            for side in window
        )
        inside = pairs_in_window(pairs, radius, *near)
        walked = random_walk(cells[(slice(None), *near)], inside, radius, params.beta, params.steps)
        enlarged = functional.interpolate(walked[None], scale_factor=cell, mode="bilinear")[0]
        top, left = (cell * part.start for part in near)
        rows, columns = (
            slice(side.start - start, side.stop - start)
            for side, start in zip(window, (top, left), strict=True)
        )
        background, box = enlarged[:, rows, columns].clamp(min=0)
        return (box / (box + background + EPS)).numpy()


@META_ARCH_REGISTRY.register()
class AffinityNetBox(AffinityModel, Teacher):
    """Masks of boxes by affinities: in a box and a few cells around it the box's score, of ICAMBox' maps, walks along
    with a background. In training mode it learns them from these maps, by which two boxes of one class are different;
    the weights of :class:`wsis.methods.icam.AffinityNet` fit, too.
    """

    @classmethod
    def training_parts(cls, cfg: CfgNode) -> tuple[list[dict[str, Any]], CellMapper]:
        """See :class:`AffinityModel`."""
        cls.check_supervision(cfg)
        return training_dicts(cfg), BoxAffinityMapper.from_cfg(cfg, (MAPS,))

    @classmethod
    def maps_needed(cls, cfg: CfgNode) -> Sequence[str]:
        """See :meth:`wsis.modeling.teacher.Maker.maps_needed`."""
        return (MAPS,)

    def propose(self, batched_inputs: list[dict[str, Any]]) -> list[Seed]:
        """See :meth:`Teacher.propose`; a seed has the affinities of the image's cells, and the maps."""
        return [self._seed(inputs) for inputs in batched_inputs]

    def _seed(self, inputs: dict[str, Any]) -> Seed:
        maps, size = inputs["score_maps"][MAPS], (inputs["height"], inputs["width"])
        image = self.normalise(inputs["image"])
        affinity = image_affinities(self.network, image, size, self.params).cpu().numpy()
        found = {AFFINITY: affinity, MAPS: maps.scores, CLASSES: maps.classes}
        found[STRIDE] = np.array(maps.stride)
        return seed_from_inputs(inputs, found)

    def refiner(self) -> Refiner:
        """See :meth:`Teacher.refiner`."""
        return BoxWalkRefiner(self.params)

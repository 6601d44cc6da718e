"""BAS as a teacher of boxes: each box's crop is an image of one class, and its map the box's mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY

from wsis.config.params import read
from wsis.data.build import Batches
from wsis.data.crop_loader import build_loader
from wsis.data.crops import context_windows
from wsis.layers.dense_crf import load_pydensecrf
from wsis.methods.bas.box_loader import BoxCropMapper, box_records, cropped
from wsis.methods.bas.box_losses import box_cells, map_tightness, outside_area
from wsis.methods.bas.box_refiner import MAPS, WINDOWS, BASBoxRefiner
from wsis.methods.bas.config import BASBoxParams, BASParams
from wsis.methods.bas.meta_arch import network_from_config
from wsis.methods.bas.network import BASNetwork, combined
from wsis.methods.bas.training import training_losses
from wsis.modeling.parameter_groups import parameter_groups
from wsis.modeling.teacher import Refiner, Teacher, seed_from_inputs
from wsis.structures import Seed


@META_ARCH_REGISTRY.register()
class BASBox(Teacher):
    """Background activation suppression on crops of boxes, which show some of the background around the object."""

    needs_image = False
    needs_original_image = True
    result_keys = ("MODEL", "INPUT.FORMAT", "INPUT.HIGH_BIT_DEPTH")

    @configurable
    def __init__(
        self,
        *,
        network: BASNetwork,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        image_format: str,
        params: BASParams,
        box: BASBoxParams,
    ) -> None:
        """
        Args:
            network: trunk, generator, tail and head.
            pixel_mean, pixel_std: per channel, in ``image_format``.
            image_format: "RGB" or "BGR".
            params: of losses, and of whose maps are taken.
            box: of crops and masks.
        """
        super().__init__()
        self.network = network
        self.params, self.box = params, box
        self.result_packages = ("pydensecrf",) if box.refine else ()
        self.image_format, self.padding = image_format, tuple(pixel_mean)
        self.set_normalisation(pixel_mean, pixel_std)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``MODEL.BAS``, ``MODEL.BAS_BOX``, the number of classes and the keys of the backbone.

        Raises:
            ConfigError: a value out of its range, or a backbone without a tap.
        """
        box = read(cfg, BASBoxParams)
        if box.refine:
            load_pydensecrf()
        return network_from_config(cfg) | {"image_format": cfg.INPUT.FORMAT, "box": box}

    @classmethod
    def check_training_data(cls, cfg: CfgNode) -> None:
        """Raises ConfigError or DataError where the training would, before it starts."""
        box_records(cfg)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Batches:
        """Endless batches of :class:`wsis.methods.bas.box_loader.BoxCropMapper`.

        Raises:
            ConfigError, DataError: see :func:`wsis.methods.bas.box_loader.box_records`.
        """
        return build_loader(cfg, box_records(cfg), BoxCropMapper(cfg))

    def parameter_groups(self, cfg: CfgNode) -> list[dict[str, Any]]:
        """Backbone, and head and generator; weights and biases, see :mod:`wsis.modeling.parameter_groups`."""
        return parameter_groups(self, self.network.backbone, cfg.SOLVER, self.params.lr_factors)

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """The losses in training mode, else see :meth:`Teacher.forward`.

        Args:
            batched_inputs: in training of :class:`wsis.methods.bas.box_loader.BoxCropMapper`.

        Returns:
            Those of :func:`wsis.methods.bas.training.training_losses`, ``loss_outside`` and ``loss_tightness``.
        """
        if not self.training:
            return super().forward(batched_inputs)
        images = self.normalise(torch.stack([each["image"] for each in batched_inputs]))
        tags, boxes = (
            torch.stack([each[name] for each in batched_inputs]).to(images.device)
            for name in ("tags", "box")
        )
        losses, foreground = training_losses(self.network, images, tags, self.params)
        inside = box_cells(boxes, (foreground.shape[2], foreground.shape[3]))
        if self.box.outside_weight:
            losses["loss_outside"] = self.box.outside_weight * outside_area(foreground, inside)
        if self.box.tightness_weight:
            losses["loss_tightness"] = self.box.tightness_weight * map_tightness(foreground, inside)
        return losses

    def propose(self, batched_inputs: list[dict[str, Any]]) -> list[Seed]:
        """See :meth:`Teacher.propose`; looks at ``original_image`` (H, W, 3) uint8 RGB. A seed has the windows around
        its boxes, and the maps (N, h, w) of these.
        """
        return [self._propose_image(inputs) for inputs in batched_inputs]

    def _propose_image(self, inputs: dict[str, Any]) -> Seed:
        instances = inputs["instances"]
        boxes = np.asarray(instances.original_boxes, dtype=np.float64).reshape(-1, 4)
        classes = torch.as_tensor(np.asarray(instances.gt_classes, dtype=np.int64))
        windows = context_windows(boxes, self.box.context)
        step, parts = self.box.boxes_per_batch, []
        for start in range(0, len(boxes), step):
            part = slice(start, start + step)
            args = self.box.size, self.padding, self.image_format
            crops = self.normalise(cropped(inputs["original_image"], windows[part], *args))
            parts.append(self.maps(crops, classes[part].to(crops.device)).float().cpu().numpy())
        maps = np.concatenate(parts) if parts else np.zeros((0, 1, 1), np.float32)
        return seed_from_inputs(inputs, {MAPS: maps, WINDOWS: windows})

    def maps(self, crops: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """The mean of the maps of crops and of their mirror images, turned back.

        Args:
            crops: (N, 3, h, w), normalised.
            classes: (N,) of the boxes.

        Returns:
            (N, h', w') in (0, 1).
        """
        features = self.network.backbone.trunk(torch.cat([crops, crops.flip(-1)]))
        if self.params.top_k == 1:
            found = self.network.foreground(features, classes.repeat(2))
        else:
            scores = self.network.classifier(features).mean(dim=(2, 3))
            number = self.params.top_k or scores.shape[1]
            found = combined(self.network.foreground(features), scores, number)
        one, other = found[:, 0].chunk(2)
        return (one + other.flip(-1)) / 2

    def refiner(self) -> Refiner:
        """See :meth:`Teacher.refiner`."""
        crf = self.box.crf if self.box.refine else None
        return BASBoxRefiner(self.box.threshold, self.box.fit, crf)

"""BAS as a teacher of boxes: each box's crop is an image of one class, and its map the box's mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import ImageList
from torch import Tensor
from torch.nn.functional import one_hot

from wsis.config.params import read
from wsis.data.build import Batches, training_dicts, warn_if_alike
from wsis.data.crop_loader import build_loader
from wsis.data.crops import context_windows
from wsis.layers.dense_crf import crf_packages
from wsis.methods.bas.backbones import TAP
from wsis.methods.bas.box_loader import BoxCropMapper, box_records, cropped
from wsis.methods.bas.box_losses import box_cells, map_tightness, outside_area
from wsis.methods.bas.box_refiner import MAPS, WINDOWS, BASBoxRefiner
from wsis.methods.bas.config import BASBoxParams, BASParams
from wsis.methods.bas.meta_arch import network_from_config
from wsis.methods.bas.network import BASNetwork, combined
from wsis.methods.bas.regions import Regions, cut_out, drawn_regions, mirrored
from wsis.methods.bas.training import training_losses
from wsis.modeling.parameter_groups import parameter_groups
from wsis.modeling.teacher import Refiner, Teacher, seed_from_inputs
from wsis.structures import Seed


@META_ARCH_REGISTRY.register()
class BASBox(Teacher):
    """Background activation suppression on boxes, with some of the background around the object: on crops of the image,
    or on regions of the features of the whole image.
    """

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
        self.shared = box.region == "shared"
        self.needs_image, self.needs_original_image = self.shared, not self.shared
        if not self.shared:
            self.result_keys = ("MODEL", "INPUT.FORMAT", "INPUT.HIGH_BIT_DEPTH")
        self.stride = network.backbone.output_shape()[TAP].stride
        self.result_packages = crf_packages(box.map.refine)
        self.image_format, self.padding = image_format, tuple(pixel_mean)
        self.set_normalisation(pixel_mean, pixel_std)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``MODEL.BAS``, ``MODEL.BAS_BOX``, the number of classes and the keys of the backbone.

        Raises:
            ConfigError: a value out of its range, or a backbone without a tap.
        """
        box = read(cfg, BASBoxParams)
        return network_from_config(cfg) | {"image_format": cfg.INPUT.FORMAT, "box": box}

    @classmethod
    def check_training_data(cls, cfg: CfgNode) -> None:
        """Raises ConfigError or DataError where the training would, before it starts; tells of boxes of one class."""
        cls.check_supervision(cfg)
        if read(cfg, BASBoxParams).region == "shared":
            super().check_training_data(cfg)
            boxes = [a for record in training_dicts(cfg) for a in record["annotations"]]
            classes = [a["category_id"] for a in boxes if not a["iscrowd"]]
        else:
            classes = [record["class"] for record in box_records(cfg)]
        warn_if_alike(cfg, ([each] for each in classes), "box", "boxes")

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Batches:
        """Endless batches of :class:`wsis.methods.bas.box_loader.BoxCropMapper`; with a shared trunk a detector's.

        Raises:
            ConfigError, DataError: see :meth:`check_training_data`.
        """
        cls.check_supervision(cfg)
        if read(cfg, BASBoxParams).region == "shared":
            return super().build_train_loader(cfg)
        return build_loader(cfg, box_records(cfg), BoxCropMapper(cfg))

    def parameter_groups(self, cfg: CfgNode) -> list[dict[str, Any]]:
        """Backbone, and head and generator; weights and biases, see :mod:`wsis.modeling.parameter_groups`."""
        return parameter_groups(self, self.network.backbone, cfg.SOLVER, self.params.lr_factors)

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """The losses in training mode, else see :meth:`Teacher.forward`.

        Args:
            batched_inputs: in training as :meth:`build_train_loader` makes them.

        Returns:
            Those of :func:`wsis.methods.bas.training.training_losses`, ``loss_outside`` and ``loss_tightness``.
        """
        if not self.training:
            return super().forward(batched_inputs)
        features, tags, boxes = (self._of_images if self.shared else self._of_crops)(batched_inputs)
        nothing = not len(tags)
        if nothing:  # a stand-in, since batch norms need a sample and each process all parameters
            boxes, tags = boxes.new_zeros(1, 4), one_hot(boxes.new_zeros(1).long(), tags.shape[1])
        losses, foreground = training_losses(self.network, features, tags.float(), self.params)
        inside = box_cells(boxes, (foreground.shape[2], foreground.shape[3]))
        if self.box.outside_weight:
            losses["loss_outside"] = self.box.outside_weight * outside_area(foreground, inside)
        if self.box.tightness_weight:
            losses["loss_tightness"] = self.box.tightness_weight * map_tightness(foreground, inside)
        return {name: loss * 0.0 for name, loss in losses.items()} if nothing else losses

    def _of_crops(self, batched_inputs: list[dict[str, Any]]) -> tuple[Tensor, Tensor, Tensor]:
        """Tapped features, tags (B, K) and boxes in units of the crop's sides (B, 4)."""
        images = self.normalise(torch.stack([each["image"] for each in batched_inputs]))
        tags, boxes = (
            torch.stack([each[name] for each in batched_inputs]).to(images.device)
            for name in ("tags", "box")
        )
        return self.network.backbone.trunk(images), tags, boxes

    def _of_images(self, batched_inputs: list[dict[str, Any]]) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`_of_crops`, of the boxes of whole images; without any box the features are those of an image."""
        images = ImageList.from_tensors([self.normalise(each["image"]) for each in batched_inputs])
        parts = [drawn_regions(each["instances"], self.box) for each in batched_inputs]
        found = Regions(*(torch.cat(each).to(self.device) for each in zip(*parts, strict=True)))
        windows = [part.windows for part in parts]
        if not len(found.classes):
            height, width = images.image_sizes[0]
            windows[0] = torch.tensor([[0.0, 0.0, width, height]])
        features = self._cut_out(self.network.backbone.trunk(images.tensor), windows)
        return features, one_hot(found.classes, self.network.generator.out_channels), found.boxes

    def _cut_out(self, features: Tensor, windows: Sequence[Tensor]) -> Tensor:
        return cut_out(features, windows, self.stride, -(-self.box.size // self.stride))

    def propose(self, batched_inputs: list[dict[str, Any]]) -> list[Seed]:
        """See :meth:`Teacher.propose`; looks at ``original_image`` (H, W, 3) uint8 RGB, or with a shared trunk at
        ``image``. A seed has the windows around its boxes, and the maps (N, h, w) of these.
        """
        return [self._propose_image(inputs) for inputs in batched_inputs]

    def _propose_image(self, inputs: dict[str, Any]) -> Seed:
        instances = inputs["instances"]
        boxes = np.asarray(instances.original_boxes, dtype=np.float64).reshape(-1, 4)
        classes = torch.as_tensor(np.asarray(instances.gt_classes, dtype=np.int64))
        windows = context_windows(boxes, self.box.context)
        look = self._look_at_image(inputs) if self.shared else self._look_at_crops(inputs)
        step, parts = self.box.boxes_per_batch, []
        for start in range(0, len(boxes), step):
            part = slice(start, start + step)
            found = self.maps(look(windows[part]), classes[part].to(self.device))
            parts.append(found.float().cpu().numpy())
        maps = np.concatenate(parts) if parts else np.zeros((0, 1, 1), np.float32)
        return seed_from_inputs(inputs, {MAPS: maps, WINDOWS: windows})

    def _look_at_crops(self, inputs: dict[str, Any]) -> Callable[[np.ndarray], Tensor]:
        """From windows (N, 4) in original pixels to tapped features (2 N, C, h, w), those of mirror images last."""

        def look(windows: np.ndarray) -> Tensor:
            args = self.box.size, self.padding, self.image_format
            crops = self.normalise(cropped(inputs["original_image"], windows, *args))
            return self.network.backbone.trunk(torch.cat([crops, crops.flip(-1)]))

        return look

    def _look_at_image(self, inputs: dict[str, Any]) -> Callable[[np.ndarray], Tensor]:
        """As :meth:`_look_at_crops`, of the features of the image and its mirror image."""
        image = self.normalise(inputs["image"])
        features = self.network.backbone.trunk(torch.stack([image, image.flip(-1)]))
        height, width = image.shape[1:]
        scale = np.array([width / inputs["width"], height / inputs["height"]] * 2)

        def look(windows: np.ndarray) -> Tensor:
            own = torch.from_numpy(windows * scale)
            return self._cut_out(features, [own, mirrored(own, width)])

        return look

    def maps(self, features: Tensor, classes: Tensor) -> Tensor:
        """The mean of the maps of regions and of their mirror images, turned back.

        Args:
            features: (2 N, C, h, w), tapped, those of the mirror images last.
            classes: (N,) of the boxes.

        Returns:
            (N, h, w) in (0, 1).
        """
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
        return BASBoxRefiner(self.box.map)

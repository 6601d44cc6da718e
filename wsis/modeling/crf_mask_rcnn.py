"""Mask R-CNN whose predicted masks pass through a dense CRF on their image (BBAM's evaluation)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN
from detectron2.structures import BitMasks, Boxes, Instances, ROIMasks
from torch import Tensor

from wsis.config.params import node, part, read
from wsis.errors import ConfigError
from wsis.layers.dense_crf import DenseCRFParams, load_pydensecrf
from wsis.layers.paste_crf import paste_with_crf
from wsis.modeling.method import Method


@node("MODEL.ROI_MASK_HEAD")
@dataclass(frozen=True)
class MaskCRFParams:
    """The CRF, as published for BBAM's students."""

    crf: DenseCRFParams = part(
        DenseCRFParams(3.0, 1.0, 4.0, 67.0, 3.0, iterations=10),
        "CRF",
        'By this CRF meta-architecture "CRFMaskRCNN" refines each predicted mask, at test time only.',
    )


class CRFMasks(ROIMasks):
    """Masks inside boxes, refined by a dense CRF when they are pasted.

    Args:
        tensor: (N, M, M) probabilities.
        image: (H, W, 3) uint8 RGB, at the size that the masks will have.
        params: of the dense CRF.
    """

    def __init__(self, tensor: Tensor, image: np.ndarray, params: DenseCRFParams) -> None:
        super().__init__(tensor)
        self.image, self.params = image, params

    def to(self, device: torch.device) -> CRFMasks:
        """See :class:`ROIMasks`."""
        return CRFMasks(self.tensor.to(device), self.image, self.params)

    def __getitem__(self, item: slice | Tensor) -> CRFMasks:
        return CRFMasks(super().__getitem__(item).tensor, self.image, self.params)

    def to_bitmasks(
        self, boxes: Boxes | Tensor, height: int, width: int, threshold: float = 0.5
    ) -> BitMasks:
        """The masks at image size.

        Args:
            boxes: (N, 4) XYXY in pixels of the image.
            height, width: of the image.
            threshold: only 0.5 exists.
        """
        corners = boxes.tensor if isinstance(boxes, Boxes) else boxes
        out = torch.zeros((len(self), height, width), dtype=torch.bool)
        pairs = zip(self.tensor.float().cpu().numpy(), corners.cpu().numpy(), strict=True)
        for i, (mask, box) in enumerate(pairs):
            out[i] = torch.from_numpy(paste_with_crf(self.image, mask, box, self.params))
        return BitMasks(out.to(self.device))


@META_ARCH_REGISTRY.register()
class CRFMaskRCNN(GeneralizedRCNN, Method):
    """Stock Mask R-CNN, save that its masks are refined on the CPU when they are pasted into the image.

    Weights and training are Mask R-CNN's: set ``MODEL.META_ARCHITECTURE CRFMaskRCNN`` for the evaluation alone.
    """

    needs_original_image = True

    @configurable
    def __init__(self, *, crf: DenseCRFParams, **kwargs: Any) -> None:
        """
        Args:
            crf: kernel and steps.
            kwargs: see :class:`GeneralizedRCNN`.

        Raises:
            ConfigError: no dense CRF is installed, or there is no mask head.
        """
        super().__init__(**kwargs)
        load_pydensecrf()
        if not getattr(self.roi_heads, "mask_on", False):
            raise ConfigError("MODEL.META_ARCHITECTURE CRFMaskRCNN: needs MODEL.MASK_ON True")
        self.crf = crf

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Detectron2's keys and ``MODEL.ROI_MASK_HEAD.CRF``."""
        return {**super().from_config(cfg), "crf": read(cfg, MaskCRFParams).crf}

    def inference(
        self,
        batched_inputs: list[dict[str, Any]],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> list[Any]:
        """See :class:`GeneralizedRCNN`; with post-processing each input needs ``original_image``."""
        results = super().inference(batched_inputs, detected_instances, do_postprocess=False)
        if not do_postprocess:
            return results
        for inputs, instances in zip(batched_inputs, results, strict=True):
            masks = instances.pred_masks[:, 0]
            instances.pred_masks = CRFMasks(masks, inputs["original_image"], self.crf)
        sizes = [instances.image_size for instances in results]
        return GeneralizedRCNN._postprocess(results, batched_inputs, sizes)

"""BBAM as a Detectron2 meta-architecture: the detector itself, and in eval mode its explanation."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from wsis.config.params import read
from wsis.data.images import read_image
from wsis.errors import ConfigError
from wsis.layers.dense_crf import load_pydensecrf
from wsis.methods.bbam.config import BBAMParams
from wsis.methods.bbam.detector import explainable
from wsis.methods.bbam.explainer import explain
from wsis.methods.bbam.perturb import make_fill
from wsis.methods.bbam.refiner import LABEL, BBAMRefiner
from wsis.methods.bbam.targets import size_of
from wsis.methods.bbam.windows import Window, same_size, window_of
from wsis.modeling.detector_teacher import DetectorTeacher, named_detector
from wsis.modeling.teacher import Refiner, seed_from_inputs
from wsis.structures import Seed

MAX_CLASSES = 254
"""Of a semantic label in one byte, beside background and 255."""


@META_ARCH_REGISTRY.register()
class BBAM(DetectorTeacher):
    """Bounding box attribution maps of a detector (Lee et al., CVPR 2021): in eval mode it explains the given boxes."""

    result_keys = ("MODEL", "INPUT", "PROXY.SEM_SEG")
    result_packages = ("pydensecrf",)
    location_keys = ("MODEL.BBAM.MCG_FOLDERS",)

    @configurable
    def __init__(
        self,
        *,
        detector: nn.Module,
        image_format: str,
        params: BBAMParams,
        sem_seg: bool = False,
        high_bit_depth: str = "minmax",
    ) -> None:
        """
        Args:
            detector: a Detectron2 detector, see :func:`wsis.methods.bbam.detector.explainable`.
            image_format: "RGB" or "BGR", of the detector's input.
            params: of the explanation and the masks.
            sem_seg: also make semantic labels.
            high_bit_depth: see :func:`wsis.data.images.read_image`.

        Raises:
            ConfigError: the detector cannot be explained, or no dense CRF is installed.
        """
        super().__init__(detector)
        self.check_requirements()
        self.view = explainable(detector, params.inclusive_boxes)
        self.image_format = image_format
        self.params = params
        self.explainer, self.target_params = params.explainer, params.targets
        self.boxes_per_batch, self.context = params.boxes_per_batch, params.context
        if self.context >= 0 and not self.view.divisor:
            raise ConfigError(
                f"MODEL.BBAM.CONTEXT: found {self.context}, expected -1: a {type(detector).__name__}'s anchors belong "
                "to the whole image"
            )
        self.label_names = (LABEL,) if sem_seg else ()
        self.high_bit_depth = high_bit_depth

    @classmethod
    def check_requirements(cls) -> None:
        """See :meth:`Teacher.check_requirements`."""
        load_pydensecrf()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``MODEL.BBAM``, ``PROXY.SEM_SEG`` and what the detector reads.

        Raises:
            ConfigError: a value out of its range, or MCG proposals that are nowhere.
        """
        params = read(cfg, BBAMParams)
        folders = list(params.mcg_folders)
        if params.use_mcg and not any(os.path.isdir(folder) for folder in folders):
            raise ConfigError(
                f"MODEL.BBAM.MCG_FOLDERS: none of {folders} is there; get the MCG proposals, or do without them "
                "by MODEL.BBAM.USE_MCG False"
            )
        classes = cfg.MODEL.ROI_HEADS.NUM_CLASSES
        if cfg.PROXY.SEM_SEG and classes > MAX_CLASSES:
            raise ConfigError(
                f"PROXY.SEM_SEG: found {classes} classes, expected at most {MAX_CLASSES}"
            )
        return {
            "detector": build_detector(cfg),
            "image_format": cfg.INPUT.FORMAT,
            "params": params,
            "sem_seg": cfg.PROXY.SEM_SEG,
            "high_bit_depth": cfg.INPUT.HIGH_BIT_DEPTH,
        }

    def propose(self, batched_inputs: list[dict[str, Any]]) -> list[Seed]:
        """See :meth:`Teacher.propose`; map i of a seed is the attribution of box i, (h, w) float in [0, 1]."""
        with frozen(self):
            return [self._explain_image(inputs) for inputs in batched_inputs]

    def refiner(self) -> Refiner:
        """See :meth:`Teacher.refiner`."""
        folders = self.params.mcg_folders if self.params.use_mcg else ()
        return BBAMRefiner(self.params.top_crf, folders, bool(self.label_names))

    def _explain_image(self, inputs: dict[str, Any]) -> Seed:
        instances = inputs["instances"]
        image = self.view.normalise(inputs["image"])
        height, width = size_of(image)
        boxes = instances.gt_boxes.tensor.to(image)
        boxes = torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height] * 2))
        ids = instances.annotation_ids.tolist()
        classes = instances.gt_classes.tolist()
        targets = self.view.targets(image, boxes, classes, ids, self.target_params)
        masks = [target.mask for target in targets]
        active = [i for i, target in enumerate(targets) if len(target.proposals)]
        windows: dict[int, Window] = {}
        if self.context >= 0:
            around = self.context, (height, width), self.view.divisor
            windows = {i: window_of(targets[i].proposals, boxes[i], *around) for i in active}
            # alike ones together
            active.sort(key=lambda i: (windows[i].height * windows[i].width, i))
        for start in range(0, len(active), self.boxes_per_batch):
            chosen = active[start : start + self.boxes_per_batch]
            fill = self._fill(inputs, image, boxes[chosen], [ids[i] for i in chosen])
            view = same_size([windows[i] for i in chosen]) if windows else None
            wanted = [targets[i] for i in chosen]
            forward, scores = self.view.forward, self.view.scores
            found = explain(
                forward, image, wanted, self.explainer, fill=fill, scores=scores, windows=view
            )
            for i, mask in zip(chosen, found, strict=True):
                masks[i] = mask
        maps = {str(i): mask.float().cpu().numpy() for i, mask in enumerate(masks)}
        return seed_from_inputs(inputs, maps)

    def _fill(
        self, inputs: dict[str, Any], image: Tensor, boxes: Tensor, ids: Sequence[int]
    ) -> Tensor | None:
        size = inputs["height"], inputs["width"]

        def original() -> np.ndarray:
            if "original_image" in inputs:
                return inputs["original_image"]
            return read_image(inputs["file_name"], *size, self.high_bit_depth)

        def prepare(pixels: np.ndarray) -> Tensor:
            resize = T.ResizeTransform(*size, image.shape[-2], image.shape[-1])
            resized = resize.apply_image(pixels)
            if self.image_format == "BGR":
                resized = resized[:, :, ::-1]
            channels_first = np.ascontiguousarray(resized.transpose(2, 0, 1))
            return self.view.normalise(torch.from_numpy(channels_first)).to(image)

        seed = self.target_params.seed
        return make_fill(
            self.params.fill,
            self.params.fill_outside_box,
            image,
            boxes,
            ids,
            seed,
            original,
            prepare,
        )


def build_detector(cfg: CfgNode) -> nn.Module:
    """The detector that a config of BBAM, or of the detector itself, names; without weights.

    Raises:
        ConfigError: no meta-architecture has this name, or it is a teacher.
    """
    own = BBAM.__name__ == cfg.MODEL.META_ARCHITECTURE
    name = cfg.MODEL.BBAM.DETECTOR if own else cfg.MODEL.META_ARCHITECTURE
    return named_detector(cfg, name, "MODEL.BBAM.DETECTOR")


@contextlib.contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Inside the block every module is in eval mode and no parameter asks for a gradient; after it all is as before."""
    was_training = model.training
    modes = [(module, module.training) for module in model.modules()]
    gradients = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.eval()
        for parameter, _ in gradients:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, asked in gradients:
            parameter.requires_grad_(asked)
        model.train(was_training)
        for module, mode in modes:
            module.training = mode

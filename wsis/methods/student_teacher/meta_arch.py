"""A Detectron2 model with a mask head as the teacher of the next one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn
from torch.nn import functional

from wsis.config.params import read
from wsis.data.classes import brief
from wsis.errors import ConfigError
from wsis.layers.dense_crf import crf_packages
from wsis.methods.student_teacher.config import StudentTeacherParams
from wsis.methods.student_teacher.refiner import PROBABILITIES, StudentRefiner
from wsis.modeling.detector_teacher import DetectorTeacher, named_detector
from wsis.modeling.teacher import Refiner, seed_from_inputs
from wsis.structures import Seed

_NODE = "MODEL.STUDENT_TEACHER"
_WITH_CLASSES = ("ROI_HEADS", "POINT_HEAD")
"""Nodes whose NUM_CLASSES is the student's."""


@META_ARCH_REGISTRY.register()
class StudentTeacher(DetectorTeacher):
    """Masks of given boxes from a student's mask head; in training mode it is the student."""

    @configurable
    def __init__(self, *, detector: nn.Module, params: StudentTeacherParams) -> None:
        """
        Args:
            detector: a ``GeneralizedRCNN``, or what is built like it.
            params: how masks are made.

        Raises:
            ConfigError: it has no mask head, or the CRF is not installed.
        """
        super().__init__(detector)
        heads = getattr(detector, "roi_heads", None)
        if not getattr(heads, "mask_on", False) or not hasattr(heads, "forward_with_given_boxes"):
            raise ConfigError(
                f"{_NODE}.STUDENT: {type(detector).__name__} has no mask head for given boxes here; take one that has, "
                "with MODEL.MASK_ON True"
            )
        self.params = params
        self.result_packages = crf_packages(params.colours.refine)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``MODEL.STUDENT_TEACHER`` and what the student reads.

        Raises:
            ConfigError: a value out of its range, or no such student.
        """
        params = read(cfg, StudentTeacherParams)
        if params.num_classes:
            cfg = cfg.clone()
            cfg.defrost()
            for name in _WITH_CLASSES:
                cfg.MODEL[name].NUM_CLASSES = params.num_classes
        return {
            "detector": named_detector(cfg, params.student, f"{_NODE}.STUDENT"),
            "params": params,
        }

    @classmethod
    def match_classes(cls, cfg: CfgNode, own: Sequence[str], known: Sequence[str]) -> None:
        """Finds the data's classes among those of the weights, by name. Where masks do not depend on the class, one
        that the weights do not know is as good as any.

        Raises:
            ConfigError: nothing has the name ``CLASSES_OF``, or the weights do not know a class of the data.
        """
        node = cfg.MODEL.STUDENT_TEACHER
        if node.CLASSES_OF:
            known = _classes_of(node.CLASSES_OF)
        if not known or list(known) == list(own):
            return
        missing = [name for name in own if name not in known]
        if missing and not cfg.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK:
            raise ConfigError(
                f"{_NODE}: the weights know no class {brief(missing)} of the data, but {brief(known)}, and their masks "
                "depend on the class: give the data's categories the names that the weights know"
            )
        node.NUM_CLASSES = len(known)
        node.CLASS_MAP = [known.index(name) if name in known else 0 for name in own]

    def propose(self, batched_inputs: list[dict[str, Any]]) -> list[Seed]:
        """See :meth:`Teacher.propose`; the seeds' map is :data:`wsis.methods.student_teacher.refiner.PROBABILITIES`."""
        return [
            seed_from_inputs(inputs, {PROBABILITIES: self._probabilities(inputs).cpu().numpy()})
            for inputs in batched_inputs
        ]

    def refiner(self) -> Refiner:
        """See :meth:`Teacher.refiner`."""
        return StudentRefiner(self.params.threshold, self.params.colours)

    def _probabilities(self, inputs: dict[str, Any]) -> Tensor:
        """(N, M, M) of the boxes of one image, means over scales and mirror images."""
        instances = inputs["instances"].to(self.device)
        if not len(instances):
            return torch.zeros(0, 1, 1)
        boxes, classes = instances.gt_boxes.tensor, instances.gt_classes
        if self.params.class_map:
            classes = classes.new_tensor(self.params.class_map)[classes]
        image = inputs["image"]
        size = torch.tensor(image.shape[-2:])
        found = []
        for scale in self.params.scales:
            scaled = (size * scale).round().clamp(min=1)
            if not torch.equal(scaled, size):
                image = functional.interpolate(
                    inputs["image"][None].float(),
                    size=scaled.int().tolist(),
                    mode="bilinear",
                    antialias=True,
                )[0]
            found += self._at_size(
                image, boxes * (scaled / size).flip(0).repeat(2).to(boxes), classes
            )
        return torch.stack(found).mean(dim=0)

    def _at_size(self, image: Tensor, boxes: Tensor, classes: Tensor) -> list[Tensor]:
        """(N, M, M) probabilities of the boxes in an image (3, h, w), and the same from its mirror image."""
        images, width = [image], image.shape[-1]
        at = [boxes]
        if self.params.flip:
            images.append(image.flip(-1))
            at.append(
                torch.stack(
                    [width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1
                )
            )
        student: Any = self.detector
        features = student.backbone(student.preprocess_image([{"image": i} for i in images]).tensor)
        parts: list[list[Tensor]] = [[] for _ in images]
        for start in range(0, len(boxes), self.params.boxes_per_batch):
            part = slice(start, start + self.params.boxes_per_batch)
            given = [
                Instances(
                    image.shape[-2:], pred_boxes=Boxes(each[part]), pred_classes=classes[part]
                )
                for each in at
            ]
            for own, made in zip(
                parts, student.roi_heads.forward_with_given_boxes(features, given), strict=True
            ):
                own.append(made.pred_masks[:, 0].float())
        found = [torch.cat(own) for own in parts]
        return [found[0], *(mirrored.flip(-1) for mirrored in found[1:])]


def _classes_of(name: str) -> list[str]:
    """The classes that Detectron2 knows of a dataset.

    Raises:
        ConfigError: none.
    """
    found = (
        MetadataCatalog.get(name).get("thing_classes") if name in MetadataCatalog.list() else None
    )
    if not found:
        raise ConfigError(
            f"{_NODE}.CLASSES_OF: found {name!r}, expected a dataset whose classes Detectron2 knows, such as "
            "coco_2017_val"
        )
    return list(found)

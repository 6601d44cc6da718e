"""Backbones in Detectron2's registry; importing it registers them."""

from wsis.modeling.backbones.resnet38 import ResNet38, build_resnet38_backbone
from wsis.modeling.backbones.resnet_atrous import (
    build_atrous_resnet_backbone,
    build_resnet_stride16_backbone,
)
from wsis.modeling.backbones.timm_backbone import (
    TimmBackbone,
    build_timm_backbone,
    build_timm_fpn_backbone,
)
from wsis.modeling.backbones.vgg16 import AtrousVGG16, build_atrous_vgg16_backbone

__all__ = [
    "AtrousVGG16",
    "ResNet38",
    "TimmBackbone",
    "build_atrous_resnet_backbone",
    "build_atrous_vgg16_backbone",
    "build_resnet38_backbone",
    "build_resnet_stride16_backbone",
    "build_timm_backbone",
    "build_timm_fpn_backbone",
]

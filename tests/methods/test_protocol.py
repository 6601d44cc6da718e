"""A method of image tags, written with what the shared rooms have: no engine and no other method knows of it."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from torch import nn

from tests.tiny import SIZE, write_config, write_dataset, write_json
from wsis.data.crop_loader import build_loader
from wsis.data.tag_loader import TagMapper, tag_records
from wsis.engine import WsisTrainer, argument_parser, setup
from wsis.errors import ConfigError
from wsis.layers.tag_losses import soft_margin
from wsis.modeling.method import Method
from wsis.modeling.parameter_groups import parameter_groups

SEEN: list[dict[str, Any]] = []
"""What reached the method's mapper."""


def seen(mapper: TagMapper, record: dict[str, Any]) -> dict[str, torch.Tensor]:
    SEEN.append(record)
    return mapper(record)


@META_ARCH_REGISTRY.register()
class TagNet(Method):
    """A classifier of whole images."""

    def __init__(self, cfg) -> None:
        super().__init__()
        self.backbone = build_backbone(cfg)
        (shape,) = self.backbone.output_shape().values()
        self.classifier = nn.Conv2d(shape.channels, cfg.MODEL.ROI_HEADS.NUM_CLASSES, 1)
        self.set_normalisation(cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)

    @classmethod
    def check_training_data(cls, cfg):
        tag_records(cfg)

    @classmethod
    def build_train_loader(cls, cfg):
        return build_loader(cfg, tag_records(cfg), partial(seen, TagMapper(cfg)))

    def parameter_groups(self, cfg):
        return parameter_groups(self, self.backbone, cfg.SOLVER, (2.0, 10.0, 20.0))

    def forward(self, batched_inputs):
        images = torch.stack([self.normalise(each["image"]) for each in batched_inputs])
        (features,) = self.backbone(images).values()
        scores = self.classifier(features).mean((2, 3))
        tags = torch.stack([each["tags"] for each in batched_inputs])
        return {"loss_tags": soft_margin(scores, tags)}


@pytest.fixture
def config(tmp_path):
    document = write_dataset(tmp_path / "data")
    for annotation in document["annotations"]:
        for key in ("bbox", "segmentation", "area"):
            del annotation[key]
    write_json(tmp_path / "data", document)
    keys = {"META_ARCHITECTURE": "TagNet", "BACKBONE__NAME": "build_atrous_vgg16_backbone"}
    keys |= {"VGG__WIDTH": 1 / 16, "VGG__NORM": "BN"}
    rest = {"WSIS__SUPERVISION": "image", "INPUT__TAG_CROP__SIZE": SIZE, "SOLVER__MAX_ITER": 2}
    keys = {f"MODEL__{name}": value for name, value in keys.items()}
    return write_config(tmp_path, tmp_path / "data", **keys, **rest)


def test_it_trains_without_a_box(config, tmp_path):
    SEEN.clear()
    cfg = setup(argument_parser().parse_args(["--config-file", str(config)]), "train")
    trainer = WsisTrainer(cfg)
    trainer.resume_or_load()
    trainer.train()
    lines = (tmp_path / "out" / "metrics.json").read_text().splitlines()
    assert "total_loss" in json.loads(lines[-1])
    assert (tmp_path / "out" / "model_final.pth").is_file()
    assert SEEN and all(record["image_labels"] in ([0], [1]) for record in SEEN)
    assert not any("bbox" in each for record in SEEN for each in record["annotations"])
    rates = [group["initial_lr"] for group in trainer.optimizer.param_groups]
    assert rates == pytest.approx([0.01, 0.02, 0.1, 0.2])


def test_its_check_speaks_before_any_work(config, tmp_path):
    write_dataset(tmp_path / "data")
    words = ["--config-file", str(config), "WSIS.SUPERVISION", "mask"]
    with pytest.raises(ConfigError, match=r"SUPERVISION: found 'mask', expected image"):
        setup(argument_parser().parse_args(words), "train")
    assert not (tmp_path / "out").exists()

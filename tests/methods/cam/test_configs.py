"""The configs of CAM build what they say."""

import json
import math

import pytest
import torch

from tests.config_files import ROOT, load, names
from tests.tiny import write_dataset
from wsis.data.tag_loader import TagMapper, eval_mapper
from wsis.engine import WsisTrainer, argument_parser, setup
from wsis.methods.cam import CAM
from wsis.modeling.tag_classifier import TagClassifier

FILES = [*names("CAM/cam_*.yaml"), "photos/cam_lite0_photos.yaml"]


@pytest.mark.parametrize("name", FILES)
def test_a_network_of_stride_16_with_frozen_norms_learns_from_tags(name):
    classes = ["MODEL.ROI_HEADS.NUM_CLASSES", "5", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "6"]
    cfg = load(name, *classes, "MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu")
    assert cfg.WSIS.SUPERVISION == "image"
    model = WsisTrainer.build_model(cfg)
    assert isinstance(model, CAM) and isinstance(model, TagClassifier)
    assert model.backbone.output_shape()[model.feature].stride == 16
    groups = model.parameter_groups(cfg)
    rates = sorted({round(group["lr"] / cfg.SOLVER.BASE_LR, 6) for group in groups})
    assert rates == [1.0, 10.0]
    learned = {id(parameter) for group in groups for parameter in group["params"]}
    norms = [m for m in model.modules() if "BatchNorm" in type(m).__name__]
    assert norms and not any(id(p) in learned for norm in norms for p in norm.parameters())
    assert TagMapper(cfg).size == cfg.INPUT.TAG_CROP.SIZE and eval_mapper(cfg)


def test_two_steps_of_the_published_network(tmp_path):
    write_dataset(tmp_path / "data")
    entries = [["tiny", str(tmp_path / "data" / "boxes.json"), str(tmp_path / "data")]]
    opts = ["DATASETS.CUSTOM", repr(entries), "DATASETS.TRAIN", "('tiny',)", "MODEL.WEIGHTS", ""]
    opts += ["INPUT.TAG_CROP.LONG_SIDE", "(48, 64)", "INPUT.TAG_CROP.SIZE", "64"]
    opts += ["SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "2", "MODEL.DEVICE", "cpu"]
    opts += ["DATALOADER.NUM_WORKERS", "0", "OUTPUT_DIR", str(tmp_path / "out")]
    config = ["--config-file", str(ROOT / "CAM/cam_R_50_voc.yaml")]
    trainer = WsisTrainer(setup(argument_parser().parse_args([*config, *opts]), "train"))
    before = trainer.model.classifier.weight.detach().clone()
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert before.isfinite().all() and not torch.equal(trainer.model.classifier.weight, before)
    lines = map(json.loads, (tmp_path / "out" / "metrics.json").open())
    assert all(math.isfinite(each["loss_tags"]) for each in lines if "loss_tags" in each)
    assert (tmp_path / "out" / "model_final.pth").is_file()


def test_the_published_schedule():
    cfg = load("CAM/cam_R_50_voc.yaml")
    solver = cfg.SOLVER
    assert cfg.DATASETS.TRAIN == ("voc_2012_trainaug_boxes",)
    assert (solver.BASE_LR, solver.WEIGHT_DECAY, solver.MOMENTUM) == (0.1, 1e-4, 1e-4)
    assert solver.MAX_ITER == 5 * (10582 // solver.IMS_PER_BATCH)
    crop = cfg.INPUT.TAG_CROP
    assert (crop.KIND, crop.LONG_SIDE, crop.SIZE) == ("long_side", [320, 640], 512)

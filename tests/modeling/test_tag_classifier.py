"""A classifier of image tags: its scores and losses, its learning rates, a training to good scores."""

import json

import pytest
import torch

from tests.tiny import SIZE, write_config, write_dataset, write_json
from wsis.config import load_cfg
from wsis.engine import WsisTrainer, argument_parser, setup
from wsis.errors import ConfigError, DataError
from wsis.layers.tag_losses import TAG_LOSSES

KEYS = {
    "MODEL__META_ARCHITECTURE": "TagClassifier",
    "MODEL__BACKBONE__NAME": "build_timm_backbone",
    "MODEL__TIMM__NAME": "resnet10t",
    "MODEL__TIMM__OUT_INDICES": [-2],
    "MODEL__ROI_HEADS__NUM_CLASSES": 2,
    "INPUT__TAG_CROP": {"RESIZE": SIZE, "SIZE": SIZE, "TEST": "resize"},
    "WSIS__SUPERVISION": "image",
}


def sample(*tags, seed=0):
    image = 255 * torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    return {"image": image, "tags": torch.tensor(tags, dtype=torch.float32)}


@pytest.fixture
def make(tmp_path):
    """``make(**keys)``: a config; those of write_config."""

    def config(**keys):
        return load_cfg(write_config(tmp_path, tmp_path / "data", **KEYS | keys))

    return config


@pytest.mark.parametrize("loss", TAG_LOSSES)
def test_the_loss_is_that_of_the_scores(make, loss):
    cfg = make(MODEL__TAG_CLASSIFIER__LOSS=loss, MODEL__TAG_CLASSIFIER__BIAS=True)
    model = WsisTrainer.build_model(cfg)
    batch = [sample(0, 1), sample(1, 0, seed=1)]
    images, tags = (torch.stack([each[key] for each in batch]) for key in ("image", "tags"))
    with torch.no_grad():
        scores = torch.stack([each["tags"] for each in model.eval()(batch)])
        expected = model.maps(model.normalise(images)).mean((2, 3))
    torch.testing.assert_close(scores, expected)
    model.train().backbone.eval()
    losses = model(batch)
    assert list(losses) == ["loss_tags"]
    torch.testing.assert_close(losses["loss_tags"], TAG_LOSSES[loss](scores, tags))
    losses["loss_tags"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_each_parameter_learns_at_its_rate(make):
    factors = {"LR_FACTORS": [2.0, 10.0, 20.0], "BIAS": True}
    cfg = make(SOLVER__BASE_LR=0.01, MODEL__TAG_CLASSIFIER=factors)
    model = WsisTrainer.build_model(cfg)
    rates = {
        id(parameter): group["lr"]
        for group in model.parameter_groups(cfg)
        for parameter in group["params"]
    }
    assert set(rates) == {id(parameter) for parameter in model.parameters()}
    assert rates[id(model.classifier.weight)] == pytest.approx(0.1)
    assert rates[id(model.classifier.bias)] == pytest.approx(0.2)


def test_it_learns_tags_without_a_box_and_is_scored(tmp_path):
    """Also by ``--eval-only``, on a file without boxes."""
    document = write_dataset(tmp_path / "data", number=8)
    for annotation in document["annotations"]:
        for key in ("bbox", "segmentation", "area"):
            del annotation[key]
    write_json(tmp_path / "data", document)
    solver = {"MAX_ITER": 40, "BASE_LR": 0.05, "IMS_PER_BATCH": 8, "WARMUP_ITERS": 0}
    keys = {f"SOLVER__{name}": value for name, value in solver.items()}
    config = write_config(tmp_path, tmp_path / "data", **KEYS, **keys, DATASETS__TEST=["tiny"])
    cfg = setup(argument_parser().parse_args(["--config-file", str(config)]), "train")
    trainer = WsisTrainer(cfg)
    trainer.resume_or_load()
    trainer.train()
    results = json.loads((tmp_path / "out" / "inference" / "results.json").read_text())
    assert results["tiny"]["tags"] == {"mAP": 100, "top1": 100, "AP-wide": 100, "AP-tall": 100}
    weights = ["MODEL.WEIGHTS", str(tmp_path / "out" / "model_final.pth")]
    words = ["--config-file", str(config), "--eval-only", *weights, "WSIS.SUPERVISION", "image"]
    again = setup(argument_parser().parse_args(words), "test")
    model = WsisTrainer.build_model(again)
    model.load_state_dict(trainer.model.state_dict())
    assert WsisTrainer.test(again, model) == results["tiny"]


@pytest.mark.parametrize(
    ("keys", "error", "text"),
    [
        ({"WSIS__SUPERVISION": "proxy"}, ConfigError, "WSIS.SUPERVISION: found 'proxy', expected"),
        (
            {"MODEL__TAG_CLASSIFIER__LOSS": "hinge"},
            ConfigError,
            "LOSS: found 'hinge', expected one",
        ),
        ({"MODEL__TAG_CLASSIFIER__LOSS": "cross_entropy"}, DataError, "1 image without exactly"),
        ({"INPUT__TAG_CROP__TEST": "centre", "INPUT__TAG_CROP__SIZE": 99}, ConfigError, "RESIZE"),
    ],
)
def test_mistakes_are_told_before_any_work(tmp_path, keys, error, text):
    document = write_dataset(tmp_path / "data")
    document["images"][1]["image_labels"] = [3, 7]
    write_json(tmp_path / "data", document)
    config = write_config(tmp_path, tmp_path / "data", **KEYS | keys)
    with pytest.raises(error, match=text):
        setup(argument_parser().parse_args(["--config-file", str(config)]), "train")
    assert not (tmp_path / "out").exists()

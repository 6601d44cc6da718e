"""BAS by the tools: training, scores, score maps, and what it does not take."""

import json

import numpy as np
import pytest
import torch

from tests.generating import generate
from tests.tiny import SIZE, write_config, write_dataset, write_json
from wsis.config import load_cfg
from wsis.data.registration import prepare_datasets
from wsis.engine import WsisTrainer, argument_parser, setup
from wsis.errors import ConfigError, DataError
from wsis.structures.score_maps import read_score_maps

KEYS = {
    "MODEL__META_ARCHITECTURE": "BAS",
    "MODEL__BACKBONE__NAME": "build_tapped_backbone",
    "MODEL__TAPPED": {"NETWORK": "timm", "POOL": False},
    "MODEL__TIMM__NAME": "resnet10t",
    "MODEL__TIMM__OUT_INDICES": [-3, -1],
    "MODEL__BAS__HEAD_CHANNELS": 8,
    "INPUT__TAG_CROP": {"RESIZE": SIZE, "SIZE": SIZE, "TEST": "resize"},
    "WSIS__SUPERVISION": "image",
}


@pytest.fixture
def make(tmp_path):
    """``make(output, **keys)``: a config with random weights on four images, the last of which has no tag."""
    write_dataset(tmp_path / "data", empty=1)

    def config(output, **keys):
        keys = {"MODEL__WEIGHTS": str(tmp_path / "weights.pth"), "PROXY__NUM_WORKERS": 0} | keys
        cfg = load_cfg(write_config(tmp_path / output, tmp_path / "data", **KEYS | keys))
        prepare_datasets(cfg, cfg.DATASETS.TRAIN)
        torch.manual_seed(1)
        torch.save({"model": WsisTrainer.build_model(cfg).state_dict()}, tmp_path / "weights.pth")
        return cfg

    return config


def test_training_and_scores(tmp_path):
    write_dataset(tmp_path / "data", empty=1)
    keys = {"SOLVER__MAX_ITER": 2, "SOLVER__IMS_PER_BATCH": 3, "DATASETS__TEST": ["tiny"]}
    path = write_config(tmp_path / "run", tmp_path / "data", **KEYS | keys)
    cfg = setup(argument_parser().parse_args(["--config-file", str(path)]), "train")
    trainer = WsisTrainer(cfg)
    rates = {group["lr"] for group in trainer.optimizer.param_groups}
    assert len(rates) == 4
    trainer.resume_or_load(resume=False)
    trainer.train()
    lines = [json.loads(each) for each in (tmp_path / "run" / "out" / "metrics.json").open()]
    losses = {"loss_cls", "loss_area", "loss_suppression", "loss_guidance"}
    scores = {f"localisation/{name}" for name in ("GTknown", "Top1Loc", "PxAP", "PIoU", "Top1")}
    assert losses | scores <= set().union(*lines)


@pytest.mark.parametrize("kind", ["resize", "whole"])
def test_score_maps_of_the_given_classes(make, tmp_path, kind):
    crop = {"RESIZE": SIZE, "SIZE": SIZE, "TEST": kind}
    scales = {"MODEL__BAS__SCALES": [1.0, 0.5], "MODEL__BAS__STRIDE": 8}
    assert generate(make(kind, INPUT__TAG_CROP=crop, **scales)).exit_status == 0
    for name, classes in (("1", [2]), ("2", [1]), ("4", [])):
        path = tmp_path / kind / "out" / "score_maps" / "tiny" / "bas" / f"{name}.npz"
        maps = read_score_maps(path)
        assert maps.classes.tolist() == classes
        if classes:
            assert maps.scores.shape == (1, SIZE // 8, SIZE // 8)
            assert np.ptp(maps.scores) > 0 and maps.scores.max() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"MODEL__BACKBONE__NAME": "build_timm_backbone"}, "BACKBONE.NAME: found 'build_timm_"),
        ({"MODEL__BAS__TOP_K": 3}, "MODEL.BAS.TOP_K: found 3, expected at most 2"),
        ({"MODEL__BAS__OUTLIER": 0.5}, "MODEL.BAS.OUTLIER: found 0.5, expected 0 or 1"),
        ({"MODEL__BAS__TEN_CROP": True}, "TAG_CROP.TEST: found 'resize', expected centre"),
    ],
)
def test_keys_that_do_not_fit(make, keys, line):
    with pytest.raises(ConfigError, match=line):
        make("bad", **keys)


def test_cross_entropy_wants_one_tag(make, tmp_path):
    document = write_dataset(tmp_path / "data", number=2)
    document["images"][0]["image_labels"] = [3, 7]
    write_json(tmp_path / "data", document)
    cfg = make("two")
    with pytest.raises(DataError, match="1 image without exactly one tag"):
        WsisTrainer.build_train_loader(cfg)
    cfg.MODEL.BAS.LOSS = "exclusive"
    WsisTrainer.build_train_loader(cfg)

"""ICAM: its losses and learning rates, and from a folder of images with tags to score maps and labels."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tests.generating import generate
from tests.masks import needs_crf
from tests.methods.icam import tiny
from tests.tiny import SIZE
from wsis.data.labels import read_label
from wsis.engine import WsisTrainer, argument_parser, setup
from wsis.errors import ConfigError
from wsis.structures.score_maps import read_score_maps


@pytest.fixture
def make(tmp_path):
    """``make(name, **keys)``: a config of ICAM."""
    tiny.write_tagged(tmp_path / "data")
    return lambda name="run", **keys: tiny.make_cfg(
        tmp_path / name, tmp_path / "data", tiny.ICAM, **keys
    )


def test_losses_reach_every_parameter_and_the_batch_is_seen_at_two_sizes(make):
    torch.manual_seed(0)
    model, seen = WsisTrainer.build_model(make()).train(), []
    model.network.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    losses = model(tiny.make_batch())
    assert seen == [(2, 3, SIZE, SIZE), (2, 3, int(0.3 * SIZE), int(0.3 * SIZE))]
    kinds = ("pooled", "importance", "refined", "er", "ecr", "similarity")
    assert set(losses) == {f"loss_{kind}" for kind in kinds}
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_new_layers_learn_ten_times_as_fast(make):
    cfg = make(MODEL__BACKBONE__FREEZE_AT=2, MODEL__RESNET38__NORMS="frozen")
    groups = WsisTrainer.build_model(cfg).parameter_groups(cfg)
    rates = [(len(group["params"]), group["lr"] / cfg.SOLVER.BASE_LR) for group in groups]
    assert rates == [(35, 1), (4, pytest.approx(10))]


def test_it_trains_and_its_tags_are_scored(make, tmp_path):
    make(DATASETS__TEST=["tiny"], SOLVER__MAX_ITER=2, SOLVER__IMS_PER_BATCH=2)
    words = ["--config-file", str(tmp_path / "run" / "config.yaml")]
    trainer = WsisTrainer(setup(argument_parser().parse_args(words), "train"))
    trainer.resume_or_load()
    trainer.train()
    results = json.loads((tmp_path / "run/out/inference/results.json").read_text())
    assert 0 <= results["tiny"]["tags"]["mAP"] <= 100
    assert (tmp_path / "run" / "out" / "model_final.pth").is_file()


@pytest.mark.parametrize("tags", ["given", "predicted"])
def test_maps_and_labels_of_the_classes_of_each_image(make, tmp_path, tags):
    cfg = make(tags, MODEL__ICAM__TAGS=tags, MODEL__ICAM__STRIDE=4, PROXY__SEM_SEG=True)
    tiny.save_weights(cfg, tmp_path / "weights.pth")
    assert generate(cfg).exit_status == 0
    output = tmp_path / tags / "out"
    for name, classes in (("1", [1, 2]), ("2", [2]), ("3", [])):
        maps = read_score_maps(output / "score_maps" / "tiny" / "icam" / f"{name}.npz")
        assert tags == "predicted" or maps.classes.tolist() == classes
        label = read_label(output / "pseudo_labels" / "tiny" / "icam_labels" / f"{name}.png")
        assert set(np.unique(label)) <= {0, *maps.classes.tolist()}
        if len(maps.classes):
            assert (maps.stride, maps.scores.shape[1:]) == (4, (SIZE // 4, SIZE // 4))
            assert ((maps.scores > 0).sum(axis=0) <= 1).all()
    manifest = json.loads((output / "score_maps" / "tiny" / "manifest.json").read_text())
    assert manifest["wsis"]["config"]["MODEL.ICAM.TAGS"] == tags


@needs_crf
def test_crf_maps_of_both_powers(make, tmp_path):
    cfg = make(MODEL__ICAM__CRF_ALPHAS=[2.0, 4.0], MODEL__ICAM__STRIDE=2)
    tiny.save_weights(cfg, tmp_path / "weights.pth")
    assert generate(cfg).exit_status == 0
    folder = tmp_path / "run" / "out" / "score_maps" / "tiny"
    low, high = (read_score_maps(folder / f"crf_alpha{a}" / "1.npz") for a in (2, 4))
    assert low.classes.tolist() == high.classes.tolist() == [0, 1, 2]
    np.testing.assert_allclose(low.scores.sum(axis=0), 1, atol=1e-3)
    assert low.scores[0].mean() > high.scores[0].mean()
    assert len(read_score_maps(folder / "crf_alpha2" / "3.npz").classes) == 0


def test_mistakes(make):
    with pytest.raises(ConfigError, match=r"LOSS.IMPORTANCE: found 'all', expected sampled or exp"):
        WsisTrainer.build_model(make(MODEL__ICAM__LOSS__IMPORTANCE="all"))
    with pytest.raises(ConfigError, match=r"MODEL.ICAM.SCALES: found \[0\.0\]"):
        WsisTrainer.build_model(make(MODEL__ICAM__SCALES=[0.0]))

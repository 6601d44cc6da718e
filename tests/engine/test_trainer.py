from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.engine import HookBase
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils import comm
from torch import nn

from tests.tiny import TinyTeacher, teacher_config, write_config, write_dataset
from wsis.config import CfgNode, load_cfg
from wsis.data.registration import prepare_datasets
from wsis.engine import WsisTrainer, launch
from wsis.errors import ConfigError, DataError, WsisError


def _cfg(path: Path, *opts: Any) -> CfgNode:
    cfg = load_cfg(path, [str(each) for each in opts])
    prepare_datasets(cfg, [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST])
    cfg.freeze()
    Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    return cfg


class _Rates(HookBase):
    """Notes the learning rate that each iteration uses."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def before_step(self) -> None:
        self.rates.append(self.trainer.optimizer.param_groups[0]["lr"])


def _after_step(trainer: WsisTrainer, action: Callable[[], object]) -> None:
    """Lets this happen after each step, before all else."""
    hook = HookBase()
    hook.after_step = action
    trainer.register_hooks([hook])
    trainer._hooks.insert(0, trainer._hooks.pop())


def _train(cfg: CfgNode, resume: bool = False) -> tuple[WsisTrainer, list[float]]:
    torch.manual_seed(0)
    trainer, rates = WsisTrainer(cfg), _Rates()
    trainer.register_hooks([rates])
    trainer.resume_or_load(resume)
    trainer.train()
    return trainer, rates.rates


def _weights(folder: str | Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(Path(folder) / "model_final.pth", weights_only=True)["model"])


@pytest.fixture
def mixed_precision_on_the_cpu(monkeypatch):
    """What Detectron2 takes from ``torch.cuda`` for it is the CPU's; the scale grows every fourth iteration, and
    nothing is rounded, since half-precision sums depend on the order of the images.
    """
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=False)
    scaler = partial(torch.amp.GradScaler, "cpu", init_scale=8.0, growth_interval=4)
    monkeypatch.setattr("torch.cuda.amp.autocast", lambda dtype=None: autocast)
    monkeypatch.setattr("torch.cuda.amp.GradScaler", scaler)


@pytest.mark.parametrize("mixed", [False, True])
def test_a_resumed_training_ends_where_an_uninterrupted_one_does(tmp_path, data, request, mixed):
    keys = {"SOLVER__MAX_ITER": 12, "SOLVER__STEPS": [8], "SOLVER__CHECKPOINT_PERIOD": 6}
    path = teacher_config(tmp_path, data, SOLVER__AMP={"ENABLED": mixed}, **keys)
    if mixed:
        request.getfixturevalue("mixed_precision_on_the_cpu")
    whole = _cfg(path, "OUTPUT_DIR", tmp_path / "whole")
    trainer, rates = _train(whole)
    assert len(set(rates)) == 4  # two of warm-up, two of the schedule

    parts = _cfg(path, "OUTPUT_DIR", tmp_path / "parts")
    shutil.copy(tmp_path / "whole" / "model_0000005.pth", parts.OUTPUT_DIR)
    (tmp_path / "parts" / "last_checkpoint").write_text("model_0000005.pth")
    later, later_rates = _train(parts, resume=True)
    assert later.start_iter == 6
    assert later_rates == rates[6:]
    torch.testing.assert_close(_weights(parts.OUTPUT_DIR), _weights(whole.OUTPUT_DIR))
    lines = (tmp_path / "parts" / "metrics.json").read_text().splitlines()
    assert json.loads(lines[-1])["iteration"] == 11
    if mixed:
        for each in (trainer, later):
            assert each._trainer.grad_scaler.get_scale() == 8 * 2**3


AFTER = {"PROXY__GENERATE_AFTER_TRAIN": True, "PROXY__NUM_WORKERS": 0}


def test_a_training_killed_between_its_last_two_files_is_finished(tmp_path, data):
    keys = {"SOLVER__MAX_ITER": 2, "SOLVER__CHECKPOINT_PERIOD": 2, **AFTER}
    path = teacher_config(tmp_path, data, **keys)
    _train(_cfg(path, "PROXY.GENERATE_AFTER_TRAIN", False))
    expected = _weights(tmp_path / "out")
    (tmp_path / "out/model_final.pth").unlink()
    (tmp_path / "out/last_checkpoint").write_text("model_0000001.pth")
    trainer, rates = _train(_cfg(path), resume=True)
    assert trainer.start_iter == 2 and not rates
    torch.testing.assert_close(_weights(tmp_path / "out"), expected)
    assert (tmp_path / "out/proxy/tiny.json").is_file()


def test_resume_needs_a_checkpoint_of_the_same_parameters(tmp_path, data, request):
    first = _cfg(teacher_config(tmp_path, data), "OUTPUT_DIR", tmp_path / "first")
    _train(first)
    weights = tmp_path / "first" / "model_final.pth"
    second = _cfg(tmp_path / "config.yaml", "MODEL.WEIGHTS", weights)
    trainer = WsisTrainer(second)
    trainer.resume_or_load(resume=True)
    assert trainer.start_iter == 0
    torch.testing.assert_close(dict(trainer.model.state_dict()), _weights(first.OUTPUT_DIR))

    request.getfixturevalue("mixed_precision_on_the_cpu")
    others = (
        ("WSIS.FREEZE", ["encoder"]),
        ("SOLVER.AMP.ENABLED", True),
        ("SOLVER.OPTIMIZER", "AdamW"),
    )
    for keys in others:
        other = _cfg(tmp_path / "config.yaml", *keys, "OUTPUT_DIR", tmp_path / "first")
        with pytest.raises(ConfigError, match=r"--resume: .* not of a training with this config"):
            WsisTrainer(other).resume_or_load(resume=True)


@META_ARCH_REGISTRY.register()
class NormTeacher(TinyTeacher):
    """A :class:`TinyTeacher` with statistics of the images that its process has seen."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__(cfg)
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 5, stride=4), nn.BatchNorm2d(4))


def _train_in_a_process(*configs: Path) -> int:
    """What each process of a run does, config by config; it leaves its weights, and returns another status than its
    fellows.
    """
    assert comm.get_local_rank() == comm.get_rank()
    assert comm.get_local_size() == comm.get_world_size()
    for path in configs:
        cfg = _cfg(path)
        torch.manual_seed(comm.get_rank())  # the processes start from different weights
        trainer = WsisTrainer(cfg)
        trainer.resume_or_load(resume=False)
        trainer.train()
        model = getattr(trainer.model, "module", trainer.model)
        torch.save(model.state_dict(), Path(cfg.OUTPUT_DIR) / f"rank{comm.get_rank()}.pth")
    return 3 * comm.get_rank()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory) -> Path:
    """Folder with ``plain`` and ``norms``, what two processes have left of the training of two teachers."""
    folder = tmp_path_factory.mktemp("two_processes")
    write_dataset(folder / "data")
    norms = {"MODEL__META_ARCHITECTURE": "NormTeacher", "DATASETS__TEST": ["tiny"], **AFTER}
    configs = [
        teacher_config(folder / "plain", folder / "data"),
        teacher_config(folder / "norms", folder / "data", **norms),
    ]
    assert launch(_train_in_a_process, 2, args=tuple(configs)) == 3  # the larger one
    return folder


def _rank(folder: Path, rank: int) -> dict[str, torch.Tensor]:
    return torch.load(folder / "out" / f"rank{rank}.pth", weights_only=True)


def test_two_processes_train_as_one_with_the_whole_batch(tmp_path, two_processes):
    one = teacher_config(tmp_path, two_processes / "data")
    assert launch(_train_in_a_process, 1, args=(one,)) == 0

    expected = _rank(tmp_path, 0)
    found = [_rank(two_processes / "plain", rank) for rank in (0, 1)]
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name
        torch.testing.assert_close(value, expected[name])


def test_two_processes_evaluate_and_generate_with_the_weights_that_are_saved(two_processes):
    out = two_processes / "norms" / "out"
    saved = _weights(out)
    assert saved["encoder.1.num_batches_tracked"] == 4
    for rank in (0, 1):
        found = _rank(two_processes / "norms", rank)
        assert found.keys() == saved.keys()
        for name, value in saved.items():
            assert torch.equal(found[name], value), name
    results = json.loads((out / "inference" / "results.json").read_text())
    assert results["tiny"]["proxy"]["mIoU"] == 1  # the objects are rectangles
    proxy = json.loads((out / "proxy" / "tiny.json").read_text())
    made = [(a["id"], a["status"]) for a in proxy["annotations"]]
    assert made == [(51, "ok"), (52, "ok"), (53, "ok"), (54, "ok")]
    assert len(list((out / "proxy").glob("tiny.rank*.jsonl"))) == 2


@pytest.mark.parametrize("mask_on", [False, True])
def test_batches_without_annotations_train(tmp_path, mask_on):
    write_dataset(tmp_path / "data", number=4, empty=3)
    keys = {"DATALOADER__FILTER_EMPTY_ANNOTATIONS": False, "SOLVER__IMS_PER_BATCH": 1}
    keys |= {"MODEL__MASK_ON": mask_on, "WSIS__SUPERVISION": "mask" if mask_on else "box"}
    trainer, _ = _train(_cfg(write_config(tmp_path, tmp_path / "data", **keys)))
    assert trainer.iter == 4
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())


def test_results_of_each_dataset_are_written(tmp_path, data):
    names = ["tiny", "other"]
    entries = [[name, str(data / "boxes.json"), str(data)] for name in names]
    keys = {"DATASETS__CUSTOM": entries, "DATASETS__TEST": names, "TEST__DETECTIONS_PER_IMAGE": 5}
    cfg = _cfg(write_config(tmp_path, data, **keys))
    results = WsisTrainer.test(cfg, WsisTrainer.build_model(cfg))
    written = json.loads((tmp_path / "out" / "inference" / "results.json").read_text())
    assert set(written) == {"tiny", "other"}
    for name, tasks in written.items():
        for metric, value in tasks["bbox"].items():
            expected = results[name]["bbox"][metric]
            assert value == (None if math.isnan(expected) else expected)
        assert tasks["bbox"]["APl"] is None  # there is no large object


def test_a_teacher_generates_and_what_was_cut_short_is_continued(tmp_path, data):
    path = teacher_config(tmp_path, data, **AFTER)
    trainer, _ = _train(_cfg(path))
    assert trainer.exit_status == 0
    result, journal = (tmp_path / "out/proxy" / n for n in ("tiny.json", "tiny.rank0.jsonl"))
    expected, lines = result.read_bytes(), journal.read_bytes().splitlines(keepends=True)
    result.unlink()
    journal.write_bytes(b"".join(lines[:3]) + lines[3][:20])
    trainer, rates = _train(_cfg(path), resume=True)
    assert not rates  # the training itself was complete
    assert trainer.exit_status == 0
    assert result.read_bytes() == expected


def test_an_image_that_breaks_after_its_header_shows_in_the_exit_status(tmp_path, data):
    path = teacher_config(tmp_path, data, **AFTER)
    cfg = _cfg(path, "SOLVER.MAX_ITER", 1)
    trainer = WsisTrainer(cfg)
    trainer.resume_or_load(resume=False)
    image = data / "2.png"
    _after_step(trainer, lambda: image.write_bytes(image.read_bytes()[:200]))
    trainer.train()
    assert trainer.exit_status == 3


def test_nothing_is_generated_when_the_training_breaks_off(tmp_path, data, caplog):
    path = teacher_config(tmp_path, data, PROXY__GENERATE_AFTER_TRAIN=True)
    trainer = WsisTrainer(_cfg(path))
    trainer.resume_or_load(resume=False)

    def fail() -> None:
        raise DataError("2.png: cannot be read")

    _after_step(trainer, fail)
    logging.getLogger("detectron2").propagate = True
    with caplog.at_level(logging.INFO), pytest.raises(DataError):
        trainer.train()
    assert not (tmp_path / "out" / "proxy").exists()
    assert "Starting training" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    ("weight", "error", "text", "stack"),
    [
        (np.nan, WsisError, "diverged in iteration 0.*lower SOLVER.BASE_LR", False),
        (0.0, ZeroDivisionError, "division", True),
    ],
)
def test_only_errors_that_are_not_the_users_keep_their_stack(
    tmp_path, data, caplog, weight, error, text, stack
):
    trainer = WsisTrainer(_cfg(teacher_config(tmp_path, data)))
    trainer.model.head.weight.data.fill_(weight)
    _after_step(trainer, lambda: 1 / weight)
    logging.getLogger("detectron2").propagate = True
    with pytest.raises(error, match=text):
        trainer.train()
    assert ("Traceback" in caplog.text) is stack

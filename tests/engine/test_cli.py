from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.engine import default_argument_parser
from torch.utils.data import DataLoader

from tests.tiny import teacher_config, write_config
from wsis.config import flatten, load_cfg
from wsis.engine import (
    WsisTrainer,
    argument_parser,
    checked_model,
    run_tool,
    setup,
    start,
)
from wsis.errors import ConfigError, DataError, WsisError


def _setup(path: Path | str, *words: Any, purpose: str = "train"):
    return setup(
        argument_parser().parse_args(["--config-file", str(path), *map(str, words)]), purpose
    )


class _Broken(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> None:
        raise DataError("1.png: cannot be read")


def _end(main: Any) -> int:
    with pytest.raises(SystemExit) as ended:
        run_tool(main)
    return ended.value.code


def _raise(error: BaseException) -> None:
    raise error


def test_exit_statuses(capsys):
    class Special(WsisError):
        exit_status = 7

    assert _end(lambda: None) == 0
    assert _end(lambda: 3) == 3
    assert capsys.readouterr().err == ""
    assert _end(lambda: _raise(ConfigError("SEED: found\n 'x'"))) == 2
    assert capsys.readouterr().err == "error: SEED: found 'x'\n"
    assert _end(lambda: _raise(Special("so"))) == 7
    assert _end(lambda: _raise(KeyboardInterrupt())) == 130
    with pytest.raises(ZeroDivisionError):
        run_tool(lambda: 1 // 0)


def test_a_file_that_cannot_be_read_or_written_is_one_line(tmp_path, capsys):
    assert _end(lambda: (tmp_path / "gone" / "a.json").write_text("{}")) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/gone/a.json: No such file or directory\n"
    with pytest.raises(OSError, match="of no file"):
        run_tool(lambda: _raise(OSError("of no file")))


@pytest.mark.parametrize(
    "code",
    [
        "from wsis.engine import run_tool; run_tool(lambda: print('x' * 100_000))",
        "import wsis_command; wsis_command.main(['configs'])",
    ],
)
def test_who_reads_no_further_gets_no_stack(code):
    end, output = os.pipe()
    os.close(end)
    run = subprocess.run([sys.executable, "-c", code], stdout=output, stderr=subprocess.PIPE)
    os.close(output)
    assert (run.returncode, run.stderr) == (141, b"")


def test_a_pipe_that_breaks_elsewhere_keeps_its_stack():
    with pytest.raises(BrokenPipeError):
        run_tool(lambda: _raise(BrokenPipeError("of a worker")))


def test_an_error_from_a_loaders_process_is_one_line(capsys):
    assert _end(lambda: list(DataLoader(_Broken(), num_workers=1))) == 2
    assert capsys.readouterr().err == "error: 1.png: cannot be read\n"


def test_processes_of_torchrun_tell_a_mistake_once(monkeypatch, capsys):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"):
        monkeypatch.setenv(name, "1")
    assert _end(lambda: _raise(ConfigError("x"))) == 2
    assert capsys.readouterr().err == ""


def test_arguments_are_those_of_detectron2():
    words = ["--config-file", "c.yaml", "--resume", "--eval-only", "--num-gpus", "2"]
    words += ["--num-machines", "3", "--machine-rank", "1", "--dist-url", "tcp://a:1", "SEED", "1"]
    theirs = default_argument_parser().parse_args(words)
    assert vars(theirs).items() <= vars(argument_parser().parse_args(words)).items()


def test_setup_follows_the_datasets_and_writes_nothing(tmp_path, data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    config = write_config(tmp_path, data, DATASETS__TEST=["tiny"])
    cfg = _setup(config, "SOLVER.MAX_ITER", 2)
    assert cfg.is_frozen()
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2
    assert cfg.SOLVER.MAX_ITER == 2
    assert sorted(tmp_path.rglob("*")) == sorted([*before, config])


def test_start_logs_and_stores_the_config(tmp_path, data):
    args = argument_parser().parse_args(["--config-file", str(teacher_config(tmp_path, data))])
    cfg = setup(args, "train")
    start(cfg, args, "train")
    again = load_cfg(tmp_path / "out" / "config.yaml")
    assert json.dumps(flatten(again)) == json.dumps(flatten(cfg))  # tuples or lists
    logging.getLogger("wsis.engine").info("a line of ours")
    assert "a line of ours" in (tmp_path / "out" / "log.txt").read_text()
    first = torch.rand(1)
    start(cfg, args, "train")
    assert torch.rand(1) == first  # SEED


def test_a_device_that_is_not_there(tmp_path, data, monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = teacher_config(tmp_path, data, MODEL__DEVICE="cuda")
    assert _setup(config).MODEL.DEVICE == "cpu"
    assert caplog.messages == ["No CUDA device: running on the CPU"]
    with pytest.raises(ConfigError, match=r"MODEL.DEVICE: found cuda, but PyTorch sees no CUDA"):
        _setup(config, "MODEL.DEVICE", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert _setup(config, "MODEL.DEVICE", "cuda:1").MODEL.DEVICE == "cuda:1"
    with pytest.raises(ConfigError, match=r"MODEL.DEVICE: found cuda:2, but PyTorch sees 2 CUDA"):
        _setup(config, "MODEL.DEVICE", "cuda:2")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["MODEL.DEVICE", "gpu"], "MODEL.DEVICE: found 'gpu', expected cpu, cuda or cuda:<number>"),
        (["MODEL.DEVICE", "meta"], "MODEL.DEVICE: found 'meta', expected cpu, cuda"),
        (["SOLVER.MAX_ITER", 0], "SOLVER.MAX_ITER: found 0, expected at least 1"),
        (["SOLVER.POLY_LR_HORIZON", -1], "SOLVER.POLY_LR_HORIZON: found -1, expected at least 0"),
        (["DATALOADER.NUM_WORKERS", -1], "DATALOADER.NUM_WORKERS: found -1, expected at least 0"),
        (["INPUT.MIN_SIZE_TRAIN", "()"], "INPUT.MIN_SIZE_TRAIN: found nothing"),
        (["SOLVER.LR_SCHEDULER_NAME", "x"], "SOLVER: Unknown LR scheduler: x"),
        (["SOLVER.AMP.ENABLED", True], "SOLVER.AMP.ENABLED: mixed precision needs a CUDA device"),
        (["--num-gpus", 3], "SOLVER.IMS_PER_BATCH: found 4, expected a multiple of the 3"),
        (["DATASETS.TRAIN", ()], "DATASETS.TRAIN: found nothing"),
        (["DATASETS.TEST", ("tinny",)], "'tinny'"),
        (
            ["MODEL.META_ARCHITECTURE", "MaskRCNN"],
            "MODEL.META_ARCHITECTURE: found 'MaskRCNN', expected one of AffinityNet",
        ),
        (["MODEL.ROI_HEADS.NAME", "MyHeads"], "MODEL: No object named 'MyHeads'"),
        (["MODEL.RESNETS.DEPTH", 18], "MODEL: Must set MODEL.RESNETS.RES2_OUT_CHANNELS = 64"),
        (["MODEL.META_ARCHITECTURE", "FilledBox"], "FilledBox has nothing to train"),
        (["MODEL.MASK_ON", True], "MODEL.MASK_ON: masks are needed"),
        (["WSIS.FREEZE", ["bakbone"]], "no module 'bakbone'"),
        (["PROXY.GENERATE_AFTER_TRAIN", True], "GeneralizedRCNN makes no proxy masks"),
    ],
)
def test_settings_that_cannot_work(tmp_path, data, words, text):
    with pytest.raises(ConfigError, match=text) as caught:
        _setup(write_config(tmp_path, data), *words)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_old_proxy_masks_stop_a_training_that_would_make_new_ones(tmp_path, data):
    config = teacher_config(tmp_path, data, PROXY__GENERATE_AFTER_TRAIN=True)
    _setup(config)
    (tmp_path / "out" / "proxy").mkdir(parents=True)
    (tmp_path / "out" / "proxy" / "tiny.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds proxy masks of other weights"):
        _setup(config)
    _setup(config, "--resume")


@pytest.fixture
def state(tmp_path, data):
    """The weights of a teacher, whose ``config.yaml`` is written; they are in ``all.pth`` too."""
    cfg = load_cfg(teacher_config(tmp_path, data, DATASETS__TEST=["tiny"]))
    state = WsisTrainer.build_model(cfg).state_dict()
    torch.save(state, tmp_path / "all.pth")
    return state


def test_evaluation_and_generation_need_all_weights(tmp_path, state):
    config = tmp_path / "config.yaml"
    del state["head.bias"]
    torch.save(state, tmp_path / "part.pth")
    for purpose in ("test", "generate"):
        with pytest.raises(ConfigError, match="MODEL.WEIGHTS: found nothing"):
            _setup(config, purpose=purpose)
        assert _setup(config, "MODEL.WEIGHTS", tmp_path / "all.pth", purpose=purpose)
        with pytest.raises(ConfigError, match="part.pth: the weights do not match .*head.bias"):
            _setup(config, "MODEL.WEIGHTS", tmp_path / "part.pth", purpose=purpose)
    assert _setup(config, "MODEL.WEIGHTS", tmp_path / "part.pth")  # a start for training


def test_the_model_that_was_checked_is_the_one_that_works(tmp_path, state, monkeypatch):
    built, build = [], WsisTrainer.build_model
    monkeypatch.setattr(
        WsisTrainer, "build_model", lambda cfg: built.append(build(cfg)) or built[-1]
    )
    words = (tmp_path / "config.yaml", "MODEL.WEIGHTS", tmp_path / "all.pth")
    cfg = _setup(*words, purpose="test")
    assert checked_model(cfg) is built[0]
    assert checked_model(cfg) is built[1], "it is handed over once"
    _setup(*words, purpose="generate")
    other = cfg.clone()
    other.defrost()
    other.INPUT.FORMAT = "RGB"
    model = checked_model(other)
    assert model is built[3], "not for another config"
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_the_last_checkpoint_takes_the_place_of_the_weights_on_resume(tmp_path, state):
    config = tmp_path / "config.yaml"
    (tmp_path / "out").mkdir()
    torch.save({"model": state}, tmp_path / "out" / "model_final.pth")
    (tmp_path / "out" / "last_checkpoint").write_text("model_final.pth")
    words = ("--resume", "MODEL.WEIGHTS", tmp_path / "none.pth")
    for purpose in ("train", "test"):
        assert _setup(config, *words, purpose=purpose)
    del state["head.bias"]
    torch.save({"model": state}, tmp_path / "out" / "model_final.pth")
    for purpose in ("train", "test"):
        with pytest.raises(ConfigError, match="model_final.pth: the weights do not match"):
            _setup(config, *words, purpose=purpose)
    os.remove(tmp_path / "out" / "model_final.pth")
    with pytest.raises(ConfigError, match="--resume: .*model_final.pth is not there"):
        _setup(config, *words)


def test_unreadable_images_stop_all_but_generation(tmp_path, data):
    config = teacher_config(
        tmp_path, data, MODEL__META_ARCHITECTURE="FilledBox", DATASETS__TEST=["tiny"]
    )
    (data / "3.png").write_text("no image")
    with pytest.raises(DataError, match="3.png: cannot be read as an image"):
        _setup(config, purpose="test")
    assert _setup(config, purpose="generate")

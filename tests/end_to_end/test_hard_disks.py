"""Folders that cannot be written, disks that are full, two runs in one folder: one line, and nothing half-written."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.generating import generate, in_a_process, wait_for
from tests.hard import DISC, disk_of, read_only, teacher_words, write_images, write_json
from tests.noise import make_cfg, make_opts, write_data
from tests.tiny import teacher_config, write_config


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """Two images with a disc, and ``boxes.json``."""
    names = write_images(tmp_path / "shapes", 2)
    write_json(tmp_path / "shapes", names, [(1, DISC), (2, DISC)])
    return tmp_path / "shapes"


@pytest.fixture
def make(tmp_path, shapes, run) -> Callable[[], Path]:
    """``make()``: the proxy-mask file of :func:`shapes`, in ``out``."""

    def made() -> Path:
        assert run("generate_proxy_masks", *teacher_words(shapes, tmp_path / "out")) == (0, "")
        return tmp_path / "out/proxy/noise.json"

    return made


@pytest.fixture
def locked(tmp_path) -> Path:
    """A folder, still empty at the end."""
    (tmp_path / "locked").mkdir()
    yield tmp_path / "locked"
    assert not list((tmp_path / "locked").iterdir())


class TestReadOnly:
    @pytest.mark.parametrize("where", ["locked", "locked/inside"])
    def test_generation(self, tmp_path, shapes, run, locked, where):
        with read_only(locked):
            outcome = run("generate_proxy_masks", *teacher_words(shapes, tmp_path / where))
        text = f"error: OUTPUT_DIR: {tmp_path / where} cannot be written (Permission denied)"
        assert outcome == (2, text)

    def test_generation_that_is_continued(self, tmp_path, shapes, run, make):
        masks, words = make(), ["--resume", *teacher_words(shapes, tmp_path / "out")]
        expected = masks.read_bytes()
        masks.unlink()
        before = files_in(masks.parent)
        with read_only(masks.parent):
            status, error = run("generate_proxy_masks", *words)
        assert status == 2
        assert f"{masks.parent}/" in error
        assert "Permission denied; what is finished is kept" in error
        assert files_in(masks.parent) == before
        assert run("generate_proxy_masks", *words) == (0, "")
        assert masks.read_bytes() == expected

    def test_training(self, data, run, locked):
        config = write_config(data, data, OUTPUT_DIR=str(locked))
        with read_only(locked):
            outcome = run("train_net", "--config-file", config)
        text = f"error: OUTPUT_DIR: {locked} cannot be written (Permission denied)"
        assert outcome == (2, text)

    def test_evaluation_of_masks(self, run, make, locked):
        words = ["--proxy", make(), "--output", locked / "q.json"]
        with read_only(locked):
            status, error = run("evaluate_proxy_masks", *words)
        assert status == 2
        assert str(locked / "q.json") in error and "Permission denied" in error


class TestFullDisk:
    def test_training_keeps_its_last_checkpoint(self, tmp_path, data, run):
        """The disk is full after the first checkpoint; with room again the training goes on from it."""
        words = ["--config-file", write_config(tmp_path / "s", data, SOLVER__MAX_ITER=4)]
        out = tmp_path / "s/out"
        assert run("train_net", *words, "SOLVER.MAX_ITER", 2) == (0, "")
        before = files_in(out)
        with disk_of(600_000):  # the log has room, the checkpoint has not
            status, error = run("train_net", *words, "--resume")
        assert status == 2
        text = f"{out}/model_final.pth: File too large; the last checkpoint is kept: continue with --resume"
        assert text in error
        after = files_in(out)
        kept = {n: c for n, c in before.items() if n.endswith("pth") or n == "last_checkpoint"}
        assert {name: after[name] for name in kept} == kept
        assert not [name for name in after if name.endswith(".part")]
        assert run("train_net", *words, "--resume") == (0, "")
        assert torch.load(out / "model_final.pth", weights_only=True)["iteration"] == 3

    def test_evaluation_of_masks(self, tmp_path, run, make):
        masks, target = make(), tmp_path / "quality.json"
        target.write_text("before")
        with disk_of(100):
            status, error = run("evaluate_proxy_masks", "--proxy", masks, "--output", target)
        assert (status, "File too large" in error) == (2, True)
        assert str(target) in error
        assert target.read_text() == "before"
        assert {path.name for path in tmp_path.iterdir()} == {"out", "shapes", "quality.json"}


class TestTwoRuns:
    def test_of_generation(self, tmp_path, run):
        """The second is refused while the first is at work, which it does not disturb."""
        write_data(tmp_path / "noise")
        out = tmp_path / "out"
        expected = generate(make_cfg(tmp_path / "noise", tmp_path / "other")).files[0].read_bytes()
        out.mkdir()
        (out / "slow").touch()
        first = in_a_process(lambda: generate(make_cfg(tmp_path / "noise", out)))
        journal = out / "proxy/noise.rank0.jsonl"
        wait_for(journal.exists)
        os.kill(first, signal.SIGSTOP)
        try:
            for words in ([], ["--resume"]):
                words += make_opts(tmp_path / "noise", out)
                status, error = run("generate_proxy_masks", *words)
                assert status == 2
                assert f"{out / 'proxy'}: another run is writing proxy masks here" in error
        finally:
            os.kill(first, signal.SIGCONT)
        os.waitpid(first, 0)
        assert (out / "proxy/noise.json").read_bytes() == expected

    def test_of_training(self, tmp_path, data, run):
        """As soon as the first has ended, however it ended, the folder is free."""
        config = teacher_config(tmp_path / "s", data, SOLVER__MAX_ITER=3)
        log = tmp_path / "s/out/log.txt"
        words = ["--config-file", config]
        first = in_a_process(lambda: run("train_net", *words, "SOLVER.MAX_ITER", 10**6))
        try:
            wait_for(lambda: log.exists() and "Starting training" in log.read_text())
            os.kill(first, signal.SIGSTOP)
            before = files_in(log.parent)
            for more in ([], ["--resume"]):
                status, error = run("train_net", *words, *more)
                assert status == 2
                assert f"{log.parent}: another training is at work here" in error
            assert files_in(log.parent) == before
        finally:
            os.kill(first, signal.SIGKILL)
            os.waitpid(first, 0)
        assert run("train_net", *words) == (0, "")
        assert torch.load(log.parent / "model_final.pth", weights_only=True)["iteration"] == 2

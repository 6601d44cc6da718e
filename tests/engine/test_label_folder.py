"""Semantic labels beside proxy masks: what a killed run leaves of them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.generating import generate, in_a_process, wait_for
from tests.noise import NoiseTeacher, make_cfg, write_data


def hang_at(pattern: str, folder: Path, mark: Path) -> None:
    """From now on this process stops for good where it would finish a file of this pattern; ``mark`` says so."""
    finish = os.fsync

    def stop(descriptor: int) -> None:
        if any(folder.glob(pattern)):
            mark.touch()
            time.sleep(600)
        finish(descriptor)

    os.fsync = stop


def hidden(folder: Path) -> set[str]:
    return {path.name for path in folder.glob(".*")}


@pytest.mark.parametrize("resume", [True, False])
def test_half_a_label_of_a_killed_run_is_removed_by_the_next_and_nothing_else(
    tmp_path, monkeypatch, resume
):
    monkeypatch.setattr(NoiseTeacher, "label_names", ("y",))
    write_data(tmp_path / "data")
    out, mark = tmp_path / "out", tmp_path / "half"
    out.mkdir()
    (out / "sem_seg").touch()  # the teacher makes a label too
    cfg = make_cfg(tmp_path / "data", out)
    labels = out / "pseudo_labels/noise/y"

    def work() -> None:
        hang_at(".4.png.*", labels, mark)
        generate(cfg)

    child = in_a_process(work)
    wait_for(mark.exists)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    (half,) = hidden(labels)
    assert half.startswith(".4.png.") and not (labels / "4.png").exists()
    others = {".4.png.backup", ".99.png.ab12cd_9", ".notes"}
    for name in others:
        (labels / name).touch()
    if not resume:
        for journal in (out / "proxy").glob("*.jsonl"):
            journal.unlink()
    generate(cfg, resume=resume)
    assert hidden(labels) == others
    assert len(list(labels.glob("*.png"))) == 12
    with Image.open(labels / "4.png") as label:
        assert label.size == (32, 24)

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import generate, processes
from benchmarks.__main__ import PARTS, main
from benchmarks.command import add_part, check_numbers, run_part
from benchmarks.timing import (
    Timing,
    forget_peak,
    in_fresh_process,
    interleave,
    memory,
    timing_rows,
)
from wsis.errors import ConfigError

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs/quickstart/faster_rcnn_R_18_FPN_shapes.yaml")
_FEW = ["--images", "3", "--size", "64", "--repeats", "1"]
SMALL = {
    "generate": [*_FEW, "--memory-images", "2", "3"],
    "workers": _FEW,
    "scale": [*_FEW, "--steps", "1", "--config-file", CONFIG],
}


@pytest.mark.parametrize("name", SMALL)
def test_a_part_prints_and_writes_its_rows(name, tmp_path, capsys, monkeypatch):
    """Here all in this process: starting others takes seconds, and is tested elsewhere."""
    monkeypatch.setattr(generate, "in_fresh_process", lambda function, *args: function(*args))
    monkeypatch.setattr(processes, "launch", lambda main, number, args: main(*args))
    main([name, "--output", str(tmp_path / "o.json"), *SMALL[name]])
    printed = capsys.readouterr().out
    written = json.loads((tmp_path / "o.json").read_text())
    assert (written["part"], written["machine"]["threads"]) == (name, 1)
    assert len(written["rows"]) >= 2
    for row in written["rows"]:
        assert row["way"] in printed
        assert all(v >= 0 and math.isfinite(v) for v in row.values() if isinstance(v, float))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["workers", *_FEW[:-1], "0"], "--repeats: found 0, expected at least 1"),
        (["workers", "--threads", "0"], "--threads: found 0, expected at least 1"),
        (["bbam", "--boxes", "-1"], "--boxes: found -1, expected at least 0"),
        (["bana_seg", "--width", "nan"], "--width: found nan, expected above 0"),
        (["generate", "--memory-images", "2", "0"], "--memory-images: found 0"),
        (["generate", *_FEW, "--method", "Nope"], "META_ARCHITECTURE: found 'Nope', expected one"),
        (["generate", *_FEW, "--method", "RetinaNet"], "RetinaNet is not a teacher"),
        (["report", "--masks", "9"], "--masks: found 9, expected at least 10"),
    ],
)
def test_an_option_that_cannot_be_is_one_line(words, message):
    with pytest.raises(ConfigError, match=message):
        main(words)


def test_every_part_has_defaults_for_the_command_line():
    parsers = argparse.ArgumentParser().add_subparsers(dest="part")
    for name, part in PARTS.items():
        add_part(parsers, name, part)
        defaults = vars(parsers.choices[name].parse_args([]))
        check_numbers({key: value for key, value in defaults.items() if key != "output"})
    assert set(SMALL) <= set(parsers.choices)


def test_the_door_is_open_from_any_folder(tmp_path):
    (tmp_path / "benchmarks.py").write_text("raise SystemExit('another one')")
    command = [sys.executable, str(ROOT / "tools" / "benchmark.py"), "generate", "--images", "0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("--images: found 0, expected at least 1\n")
    done = subprocess.run(
        [*command[:2], "generate", "--output", ""],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert done.returncode == 2
    assert done.stderr.startswith("usage: benchmark.py generate [-h] [--output JSON]")


def test_options_follow_from_the_arguments():
    seen = []

    def part(sizes: tuple[int, ...] = (1, 2), fast_way: str = "x") -> list[dict[str, object]]:
        """First line.

        Args:
            sizes: some.
        """
        seen.append((sizes, fast_way))
        return [{"way": "a"}]

    parser = argparse.ArgumentParser()
    parsers = parser.add_subparsers(dest="part")
    add_part(parsers, "p", part)
    result = run_part("p", part, parser.parse_args(["p", "--sizes", "3", "4", "5"]))
    run_part("p", part, parser.parse_args(["p", "--fast-way", "y", "--threads", "2"]))
    assert seen == [([3, 4, 5], "x"), ((1, 2), "y")]
    assert result["options"] == {"sizes": [3, 4, 5], "fast_way": "x"}
    assert parsers.choices["p"].description == "First line."


def test_ways_take_turns_and_the_warm_up_does_not_count():
    calls = []
    ways = {"a": lambda: calls.append("a"), "b": lambda: (calls.append("b"), time.sleep(0.01))}
    timings = interleave(ways, repeats=3, warm_up=1)
    assert "".join(calls) == "abbaabba"
    assert len(timings["b"].wall) == len(timings["b"].cpu) == 3
    assert min(timings["b"].wall) >= 0.01
    assert max(timings["b"].cpu) < 0.01, "sleeping costs no CPU time"


def test_rows_hold_medians_and_the_ratio_of_each_round():
    timings = {
        "plain": Timing((1.0, 2.0, 4.0), (0.5, 0.5, 0.5)),
        "other": Timing((3.0, 1.0, 2.0), (0.1, 0.2, 0.9)),
    }
    plain, other = timing_rows(timings, "plain")
    assert (plain["seconds"], plain["from - to"], plain["time / plain"]) == (2.0, "1 - 4", 1.0)
    assert (other["seconds"], other["CPU seconds"], other["runs"]) == (2.0, 0.2, 3)
    assert (other["time / plain"], other["from - to "]) == (0.5, "0.5 - 3")


def peak_of(megabytes: int) -> tuple[int, int, int]:
    forget_peak()
    before = memory()
    np.ones(megabytes << 17)
    return before, memory("VmHWM"), memory()


def test_memory_is_that_of_a_fresh_process():
    before, peak, after = in_fresh_process(peak_of, 64)
    assert 60 << 20 < peak - before < 80 << 20
    assert after - before < 20 << 20

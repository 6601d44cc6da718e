from __future__ import annotations

import json
import multiprocessing
import os
import re
import resource
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.generating import (
    edited,
    generate,
    hidden,
    killed_while_writing,
    outputs,
    read,
    wait_for,
)
from tests.noise import KINDS, SIZE, Noise, make_cfg
from wsis.engine import progress
from wsis.engine.workers import RefineTask, refine_all
from wsis.errors import WsisError
from wsis.parallel import WorkerPool, limited_threads, number_of_workers
from wsis.structures import ProxyMasks, Seed
from wsis.structures.rle import encode_box

EVERY_KIND = pytest.mark.parametrize("kind", KINDS, indirect=True)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.iterdir()}


@EVERY_KIND
class TestResume:
    def test_is_asked_for_makes_what_is_missing_and_removes_what_is_torn(
        self, run, unfinished, expected, seen, final
    ):
        seen.clear()
        torn, other = (final.parent / f".{final.name}.{end}" for end in ("ab12cd_9", "jsonl"))
        torn.write_bytes(b"{")
        other.touch()
        before = contents(unfinished / "proxy")
        with pytest.raises(WsisError, match=r"journals of noise; continue it with --resume"):
            run()
        assert contents(unfinished / "proxy") == before
        assert not final.exists()
        run(resume=True)
        assert other.exists() and not torn.exists()
        other.unlink()
        assert outputs(unfinished) == expected
        assert list(seen) == [6, 7, 8, 9, 10, 11]

    @pytest.mark.parametrize("finished", [False, True])
    @pytest.mark.parametrize(
        ("key", "value", "named"),
        [
            ("SEED", 2, "SEED: 1 -> 2"),
            ("DATASETS__CLASS_AGNOSTIC", True, "DATASETS.CLASS_AGNOSTIC: false -> true"),
            ("MODEL__PIXEL_MEAN", [1.0, 1.0, 1.0], "MODEL.PIXEL_MEAN: .* -> .1.0, 1.0, 1.0."),
        ],
    )
    def test_says_which_key_differs(self, run, unfinished, finished, key, value, named):
        if finished:
            run(resume=True)
        before = contents(unfinished / "proxy")
        for resume in (True, False) if finished else (True,):
            with pytest.raises(WsisError, match=named):
                run(resume=resume, **{key: value})
        assert contents(unfinished / "proxy") == before

    def test_says_that_weights_source_or_versions_differ(
        self, data, run, unfinished, tmp_path, monkeypatch
    ):
        torch.save({"model": {"scale": torch.tensor(2.0)}}, tmp_path / "other.pth")
        with pytest.raises(WsisError, match='weights_sha256: "[0-9a-f]{64}" -> "[0-9a-f]{64}";'):
            run(resume=True, MODEL__WEIGHTS=str(tmp_path / "other.pth"))
        other = shutil.copytree(data, tmp_path / "other")
        with edited(other) as document:
            document["annotations"][0]["bbox"][0] += 1
        with pytest.raises(WsisError, match="source_sha256: "):
            run(resume=True, source=other)
        monkeypatch.setattr(torch, "__version__", "9.9")
        with pytest.raises(WsisError, match='versions.torch: ".*" -> "9.9"'):
            run(resume=True)

    @pytest.mark.parametrize("resume", [False, True])
    @pytest.mark.parametrize("journals", [False, True])
    def test_a_finished_run_is_finished_at_once(self, tmp_path, run, resume, journals, monkeypatch):
        result = run()
        if not journals:
            (tmp_path / "out/proxy/noise.rank0.jsonl").unlink()
        before = result.files[0].stat()
        monkeypatch.setattr(Noise, "propose", None)
        assert run(resume=resume, PROXY__NUM_WORKERS=1) == result
        assert result.files[0].stat().st_mtime_ns == before.st_mtime_ns

    @pytest.mark.parametrize("content", ["{}", '{"info": {}, "images": []', "[]", '{"info": 3}'])
    def test_a_foreign_file_is_left_alone(self, final, run, content):
        final.parent.mkdir(parents=True)
        final.write_text(content)
        for resume in (False, True):
            with pytest.raises(WsisError, match=re.escape(str(final))):
                run(resume=resume)
        assert final.read_text() == content


LOST = {"NoiseTeacher": "annotations have the status failed", "NoiseTagTeacher": "nothing was made"}


class TestUnreadableImages:
    @EVERY_KIND
    def test_fail_alone_and_are_tried_again(self, data, tmp_path, kind, run, caplog):
        second, fifth = data / "2.png", data / "5.png"
        kept = second.read_bytes(), fifth.read_bytes()
        second.write_bytes(kept[0][:200])
        fifth.unlink()
        result = run()
        assert result.exit_status == 3
        assert result.failed == (str(second), str(fifth))
        assert "2.png: cannot be read" in caplog.text and "5.png: cannot be read" in caplog.text
        assert re.search(f"2 images could not be read; .*{LOST[kind]}.*mend them", caplog.text)
        assert run() == result, "finished, and says so again"
        second.write_bytes(kept[0])
        assert run(resume=True).failed == (str(fifth),)
        assert re.search(f"1 image could not be read; .*{LOST[kind]}.*mend it", caplog.text)
        fifth.write_bytes(kept[1])
        assert run(resume=True).exit_status == 0
        run("fresh")
        assert outputs(tmp_path / "out") == outputs(tmp_path / "fresh")

    def test_have_their_boxes_ignored(self, data, run):
        (data / "5.png").unlink()
        for a in read(run())["annotations"]:
            assert (a["status"] == "failed") == (a["image_id"] == 5)
            if a["status"] == "failed":
                x, y, w, h = a["bbox"]
                assert a["segmentation"] == encode_box([x, y, x + w, y + h], *SIZE)
                assert a["ignore_segmentation"] == a["segmentation"]
                assert a["score"] == 0

    @EVERY_KIND
    def test_without_journals_cannot_be_tried_again(self, data, tmp_path, run):
        (data / "5.png").unlink()
        result = run()
        (tmp_path / "out/proxy/noise.rank0.jsonl").unlink()
        assert run() == result
        with pytest.raises(WsisError, match="its journals are gone"):
            run(resume=True)


class TestWriting:
    @pytest.mark.parametrize(
        ("kind", "room", "full"),
        [
            ("NoiseTeacher", 3_000, "proxy/noise.rank0.jsonl"),
            ("NoiseTeacher", 8_000, "proxy/noise.json"),
            ("NoiseTagTeacher", 1_500, "score_maps/noise/m/"),
        ],
        indirect=["kind"],
    )
    def test_a_full_disk_keeps_what_is_finished(self, tmp_path, run, expected, room, full):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        text = "File too large; what is finished is kept"
        try:
            with pytest.raises(WsisError, match=text) as error:
                run()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "\n" not in str(error.value)
        assert str(tmp_path / "out" / full) in str(error.value)
        assert not {"proxy/noise.json", "score_maps/noise/manifest.json"} & set(
            outputs(tmp_path / "out")
        )
        assert not list((tmp_path / "out").rglob(".*.*"))
        run(resume=True)
        assert outputs(tmp_path / "out") == expected

    @pytest.mark.parametrize("resume", [True, False])
    @pytest.mark.parametrize("place", ["pseudo_labels/noise/y/4.png", "score_maps/noise/m/4.npz"])
    @pytest.mark.parametrize("kind", ["NoiseTagTeacher"], indirect=True)
    def test_half_a_file_of_a_killed_run_is_removed_by_the_next_and_nothing_else(
        self, tmp_path, run, expected, place, resume
    ):
        path = tmp_path / "out" / place
        half = killed_while_writing(f".{path.name}.*", path.parent, run)
        assert half.startswith(f".{path.name}.") and not path.exists()
        others = {f".{path.name}.backup", f".99{path.suffix}.ab12cd_9", ".notes"}
        for name in others:
            (path.parent / name).touch()
        if not resume:
            for journal in (tmp_path / "out/proxy").glob("*.jsonl"):
                journal.unlink()
        run(resume=resume)
        assert hidden(path.parent) == others
        for name in others:
            (path.parent / name).unlink()
        assert outputs(tmp_path / "out") == expected

    @pytest.mark.parametrize("place", ["pseudo_labels/noise/y/2.png", "score_maps/noise/m/2.npz"])
    @pytest.mark.parametrize("kind", ["NoiseTagTeacher"], indirect=True)
    def test_a_file_that_is_gone_is_missed(self, run, unfinished, place):
        (unfinished / place).unlink()
        with pytest.raises(WsisError, match=f"{place}: this (pseudo label|score map) is gone"):
            run(resume=True)


class TestWorkers:
    @EVERY_KIND
    def test_a_killed_worker_ends_the_run_which_can_be_continued(
        self, tmp_path, run, trap, expected
    ):
        killer = trap("kill-7")
        with pytest.raises(WsisError, match="worker process .* has died") as caught:
            run(PROXY__NUM_WORKERS=2)
        assert "\n" not in str(caught.value)
        killer.unlink()
        run(resume=True, PROXY__NUM_WORKERS=2)
        assert outputs(tmp_path / "out") == expected

    def test_seeds_are_not_drawn_far_ahead(self, data):
        drawn = 0

        def seeds() -> Iterator[Seed]:
            nonlocal drawn
            for number in range(30):
                drawn += 1
                yield make_seed(number, data)

        ahead, lines = [], []
        for batch in refine_all(seeds(), make_task(data), 2, 1):
            lines.extend(json.loads(line)["image_id"] for line in batch)
            ahead.append(drawn - len(lines))
        assert sorted(lines) == list(range(30))
        assert max(ahead) <= 2 * 2

    def test_what_is_finished_beside_an_error_is_kept(self):
        good, bad, other = Future(), Future(), Future()
        good.set_result(b"1")
        bad.set_exception(ValueError("bad"))
        other.set_result(b"2")
        pool = WorkerPool(print, 2)
        pool._pending = {good, bad, other}
        assert sorted(pool.take()) == [b"1", b"2"]
        with pytest.raises(ValueError, match="bad"):
            pool.take()

    def test_have_the_wanted_number_of_threads(self, data):
        with limited_threads(3):
            ((line,),) = refine_all([make_seed(1, data)], make_task(data), 1, 3)
        assert json.loads(line)["masks"][0]["score"] == 0.3
        assert "OMP_NUM_THREADS" not in os.environ or os.environ["OMP_NUM_THREADS"] != "3"

    def test_number(self, monkeypatch):
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
        assert [number_of_workers(n, 1) for n in (-1, 0, 3)] == [8, 0, 3]
        assert [number_of_workers(-1, ranks) for ranks in (2, 3, 20)] == [4, 2, 1]

    def test_end_when_their_main_process_is_killed(self, data, tmp_path, trap):
        numbers = trap("slow").with_name("pids")
        numbers.mkdir()
        run = multiprocessing.get_context("forkserver").Process(
            target=generate_with_workers, args=(data, tmp_path / "out")
        )
        run.start()
        wait_for(lambda: list(numbers.iterdir()))
        run.kill()
        run.join()
        workers = [int(path.name) for path in numbers.iterdir()]
        assert run.pid not in workers
        wait_for(lambda: not any(is_alive(worker) for worker in workers))


def generate_with_workers(data: Path, output: Path) -> None:
    generate(make_cfg(data, output, PROXY__NUM_WORKERS=2))


def is_alive(process: int) -> bool:
    """Whether there is such a process, zombies aside."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def make_seed(number: int, data: Path) -> Seed:
    box = np.array([[0, 0, 5, 5]], dtype=np.float32)
    return Seed(number, str(data / "1.png"), *SIZE, box, np.zeros(1), (number,))


def make_task(data: Path) -> RefineTask:
    return RefineTask(workers_test_refine, "minmax", 0)


def workers_test_refine(seed: Seed, image: np.ndarray) -> Any:
    """Says in the score how many threads there are."""
    crop = np.ones((1, 1), dtype=bool), 0, 0
    return ProxyMasks.from_crops(seed, [crop], scores=[torch.get_num_threads() / 10])


def test_progress_is_logged_or_a_bar_on_a_terminal(monkeypatch, caplog, capsys):
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    caplog.set_level("INFO")

    def advanced(shown: bool = True) -> list[str]:
        caplog.clear()
        with progress.Progress("noise", 3, "images", shown) as bar:
            for number in (1, 1, 1):
                bar.advance(number)
        return caplog.messages

    lines = advanced()
    assert [line.split(",")[0] for line in lines] == [f"noise: {i}/3 images" for i in (1, 2, 3)]
    assert "per second, ETA 0:00:00" in lines[-1]
    assert not advanced(shown=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert not advanced()
    assert "noise: 100%" in capsys.readouterr().err

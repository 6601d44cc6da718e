from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from pycocotools.coco import COCO

from tests.noise import SIZE, NoiseTeacher, make_cfg, make_opts, write_data, write_json
from wsis.engine import WsisCheckpointer, progress
from wsis.engine.generation import GenerationResult, check_generation, generate_proxy_masks
from wsis.engine.journal import find_journals, locked
from wsis.engine.label_folder import LabelFolder
from wsis.engine.workers import (
    RefineTask,
    _finished,
    limited_threads,
    number_of_workers,
    refine_all,
)
from wsis.errors import ConfigError, DataError, WsisError
from wsis.structures import ProxyMasks, Seed
from wsis.structures.rle import decode_mask, encode_box, encode_mask

ROOT = Path(__file__).resolve().parents[2]


def generate(cfg, *, resume: bool = False) -> GenerationResult:
    model = build_model(cfg)
    WsisCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    return generate_proxy_masks(cfg, model, resume=resume)


def read(result: GenerationResult) -> dict[str, Any]:
    return json.loads(result.files[0].read_text())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve images, see :func:`write_data`."""
    write_data(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def expected(data: Path, tmp_path: Path) -> bytes:
    """The file that every way of making it must give."""
    return generate(make_cfg(data, tmp_path / "expected")).files[0].read_bytes()


class TestFile:
    def test_has_one_annotation_per_source_annotation_in_its_order(self, data, tmp_path):
        source = json.loads((data / "boxes.json").read_text())
        result = generate(make_cfg(data, tmp_path / "out"))
        assert result.files == (tmp_path / "out" / "proxy" / "noise.json",)
        assert result.failed == ()
        assert result.exit_status == 0
        document = read(result)
        assert document["images"] == source["images"]
        assert document["categories"] == source["categories"]
        for made, given in zip(document["annotations"], source["annotations"], strict=True):
            for key in ("id", "image_id", "category_id", "bbox"):
                assert made[key] == given[key]
            assert made["iscrowd"] == given.get("iscrowd", 0)
            mask = decode_mask(made["segmentation"])
            assert mask.shape == SIZE
            assert made["area"] == mask.sum() > 0
            assert made["score"] == round(made["score"], 6)
        assert Counter(a["status"] for a in document["annotations"]) == {
            "ok": len(source["annotations"]) - 2,
            "crowd": 1,
            "empty": 1,
        }

    def test_ignore_masks_are_disjoint_where_a_mask_was_found(self, data, tmp_path):
        document = read(generate(make_cfg(data, tmp_path / "out")))
        found = [a for a in document["annotations"] if a["status"] == "ok"]
        ignored = [a for a in found if "ignore_segmentation" in a]
        assert len(ignored) > len(found) / 2
        for a in ignored:
            assert not (
                decode_mask(a["segmentation"]) & decode_mask(a["ignore_segmentation"])
            ).any()

    def test_crowds_and_bad_boxes_are_filled_boxes_of_score_0(self, data, tmp_path):
        by_id = {a["id"]: a for a in read(generate(make_cfg(data, tmp_path / "o")))["annotations"]}
        crowd, outside = by_id[9001], by_id[9002]
        assert crowd["segmentation"] == encode_box([1, 1, 9, 9], *SIZE)
        assert "ignore_segmentation" not in crowd
        assert outside["segmentation"] == encode_box([31, 2, 32, 7], *SIZE)
        assert outside["ignore_segmentation"] == outside["segmentation"]
        assert crowd["score"] == outside["score"] == 0

    def test_says_what_it_was_made_with_and_nothing_of_this_machine(self, data, tmp_path):
        result = generate(make_cfg(data, tmp_path / "out"))
        info = read(result)["info"]
        assert set(info) == {"description", "wsis"}
        assert info["wsis"]["method"] == "NoiseTeacher"
        assert info["wsis"]["config"]["WSIS.NUM_THREADS"] == 1
        assert str(tmp_path) not in result.files[0].read_text()

    def test_loads_in_pycocotools(self, data, tmp_path):
        result = generate(make_cfg(data, tmp_path / "out"))
        coco = COCO(str(result.files[0]))
        annotation = coco.loadAnns([100])[0]
        assert coco.annToMask(annotation).sum() == annotation["area"]

    def test_datasets_get_a_file_each(self, data, tmp_path):
        write_data(tmp_path / "more", images=3)
        entries = [[n, str(p / "boxes.json"), str(p)] for n, p in (("noise", data),)]
        entries.append(["second", str(tmp_path / "more" / "boxes.json"), str(tmp_path / "more")])
        cfg = make_cfg(
            data,
            tmp_path / "out",
            DATASETS__CUSTOM=entries,
            DATASETS__TRAIN=("second", "noise", "second"),
        )
        result = generate(cfg)
        assert [path.name for path in result.files] == ["second.json", "noise.json"]
        assert len(json.loads(result.files[0].read_text())["images"]) == 3
        assert len(json.loads(result.files[1].read_text())["images"]) == 12

    @pytest.mark.parametrize("images", [0, 1])
    def test_a_dataset_without_annotations_gives_a_file_without_annotations(self, images, tmp_path):
        document = write_data(tmp_path / "data", images=1)
        document.update(annotations=[], images=document["images"][:images])
        write_json(tmp_path / "data", document)
        cfg = make_cfg(tmp_path / "data", tmp_path / "out")
        made = read(generate(cfg))
        assert made["annotations"] == []
        assert len(made["images"]) == images
        assert read(generate(cfg)) == made

    @pytest.mark.parametrize("method", ["FilledBox", "InscribedEllipse", "GrabCut"])
    def test_baselines(self, data, tmp_path, method):
        cfg = make_cfg(data, tmp_path / "out", MODEL__META_ARCHITECTURE=method, MODEL__WEIGHTS="")
        document = read(generate(cfg))
        assert document["info"]["wsis"]["weights_sha256"] is None
        for a in document["annotations"]:
            if method == "FilledBox" and a["status"] == "ok":
                x, y, w, h = a["bbox"]
                assert a["segmentation"] == encode_box([x, y, x + w, y + h], *SIZE)


class TestTeacher:
    def test_sees_no_mask_no_crowd_and_no_bad_box(self, data, tmp_path, monkeypatch):
        seen: dict[int, dict[str, Any]] = {}
        original = NoiseTeacher.propose

        def propose(self, batched_inputs):
            assert len(batched_inputs) == 1
            seen[batched_inputs[0]["image_id"]] = batched_inputs[0]
            return original(self, batched_inputs)

        monkeypatch.setattr(NoiseTeacher, "propose", propose)
        generate(make_cfg(data, tmp_path / "out", WSIS__SUPERVISION="mask"))
        assert sorted(seen) == list(range(1, 12)), "image 12 has no box"
        fields = {"gt_boxes", "original_boxes", "gt_classes", "annotation_ids"}
        for inputs in seen.values():
            assert set(inputs["instances"].get_fields()) == fields
        assert not {9001, 9002} & set(seen[2]["instances"].annotation_ids.tolist())

    def test_is_left_in_the_mode_it_came_in_with_threads_as_before(self, data, tmp_path):
        cfg = make_cfg(data, tmp_path / "out", WSIS__NUM_THREADS=2)
        model = build_model(cfg).train()
        before = torch.get_num_threads()
        generate_proxy_masks(cfg, model)
        assert model.training
        assert torch.get_num_threads() == before

    @pytest.mark.parametrize(
        ("trap", "message"),
        [("sem_seg", "semantic maps"), ("ids", "made masks of annotations")],
    )
    def test_that_returns_something_else_is_refused(self, data, tmp_path, trap, message):
        cfg = make_cfg(data, tmp_path / "out")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / trap).touch()
        with pytest.raises(WsisError, match=message):
            generate(cfg)

    def test_that_returns_another_seed_is_refused(self, data, tmp_path, monkeypatch):
        original = NoiseTeacher.propose

        def propose(self, batched_inputs):
            seeds = original(self, batched_inputs)
            seeds[0].annotation_ids = seeds[0].annotation_ids[1:]
            return seeds

        monkeypatch.setattr(NoiseTeacher, "propose", propose)
        with pytest.raises(WsisError, match="returned a seed of image 1"):
            generate(make_cfg(data, tmp_path / "out"))


class TestSameBytes:
    def test_whatever_the_workers(self, data, tmp_path, expected):
        result = generate(make_cfg(data, tmp_path / "out", PROXY__NUM_WORKERS=2))
        assert result.files[0].read_bytes() == expected

    def test_whatever_was_done_before(self, data, tmp_path, expected):
        """Chance is drawn anew for each image, so neither order nor neighbours matter."""
        cfg = make_cfg(data, tmp_path / "out")
        result = generate(cfg)
        lines = (tmp_path / "out/proxy/noise.rank0.jsonl").read_bytes().splitlines(keepends=True)
        result.files[0].unlink()
        rest = lines[:1] + lines[3:7]
        (tmp_path / "out/proxy/noise.rank0.jsonl").write_bytes(b"".join(rest))
        assert generate(cfg, resume=True).files[0].read_bytes() == expected

    def test_after_kills_at_random_moments(self, data, tmp_path, expected):
        cfg = make_cfg(data, tmp_path / "out")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "slow").touch()
        model = build_model(cfg)
        moment = random.Random(8)
        for _ in range(12):
            child = in_a_process(lambda: generate_proxy_masks(cfg, model, resume=True))
            time.sleep(moment.uniform(0.03, 0.09))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        result = generate(cfg, resume=True)
        assert result.files[0].read_bytes() == expected
        names = {path.name for path in result.files[0].parent.iterdir()}
        assert names - {".lock", "noise.json", "noise.rank0.jsonl"} == set()

    def test_with_two_ranks_continued_by_one(self, data, tmp_path, expected):
        output = tmp_path / "out"
        opts = make_opts(data, output)
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])  # same Detectron2
        run = subprocess.run(
            [sys.executable, str(ROOT / "tests/generate_noise.py"), "--num-gpus", "2", *opts],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        final = output / "proxy" / "noise.json"
        assert final.read_bytes() == expected
        journals = find_journals(output / "proxy", "noise")
        assert len(journals) == 2
        for journal in journals:
            lines = journal.read_bytes().splitlines(keepends=True)
            assert len(lines) == 1 + 12 // 2
            journal.write_bytes(b"".join(lines[:4]) + lines[4][:10])
        final.unlink()
        assert generate(make_cfg(data, output), resume=True).files[0].read_bytes() == expected


def in_a_process(work: Callable[[], Any]) -> int:
    """Does the work in a copy of this process; returns its number."""
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            work()
        finally:
            os._exit(0)
    return child


def wait_for(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def unfinished(data: Path, tmp_path: Path) -> Path:
    """OUTPUT_DIR of a run that has done some images and torn a line."""
    generate(make_cfg(data, tmp_path / "out"))
    (tmp_path / "out/proxy/noise.json").unlink()
    journal = tmp_path / "out/proxy/noise.rank0.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:6]) + lines[6][:-9])
    return tmp_path / "out"


class TestResume:
    def test_makes_only_what_is_missing(self, data, unfinished, expected, monkeypatch):
        asked: list[int] = []
        original = NoiseTeacher.propose

        def propose(self, batched_inputs):
            asked.extend(inputs["image_id"] for inputs in batched_inputs)
            return original(self, batched_inputs)

        monkeypatch.setattr(NoiseTeacher, "propose", propose)
        result = generate(make_cfg(data, unfinished), resume=True)
        assert result.files[0].read_bytes() == expected
        assert asked == [6, 7, 8, 9, 10, 11]

    def test_is_asked_for_where_a_journal_lies(self, data, unfinished):
        before = (unfinished / "proxy/noise.rank0.jsonl").read_bytes()
        with pytest.raises(WsisError, match=r"journals of noise; continue it with --resume"):
            generate(make_cfg(data, unfinished))
        assert (unfinished / "proxy/noise.rank0.jsonl").read_bytes() == before
        assert not (unfinished / "proxy/noise.json").exists()

    def test_of_nothing_is_a_start(self, data, tmp_path, expected):
        assert (
            generate(make_cfg(data, tmp_path / "o"), resume=True).files[0].read_bytes() == expected
        )

    @pytest.mark.parametrize("finished", [False, True])
    @pytest.mark.parametrize(
        ("key", "value", "named"),
        [
            ("SEED", 2, "SEED: 1 -> 2"),
            ("DATASETS__CLASS_AGNOSTIC", True, "DATASETS.CLASS_AGNOSTIC: false -> true"),
            ("MODEL__PIXEL_MEAN", [1.0, 1.0, 1.0], "MODEL.PIXEL_MEAN: .* -> .1.0, 1.0, 1.0."),
        ],
    )
    def test_says_which_key_differs(self, data, unfinished, finished, key, value, named):
        if finished:
            generate(make_cfg(data, unfinished), resume=True)
        before = {p: p.read_bytes() for p in (unfinished / "proxy").iterdir()}
        for resume in (True, False) if finished else (True,):
            with pytest.raises(WsisError, match=named):
                generate(make_cfg(data, unfinished, **{key: value}), resume=resume)
        assert {p: p.read_bytes() for p in (unfinished / "proxy").iterdir()} == before

    def test_says_that_weights_source_or_versions_differ(
        self, data, unfinished, tmp_path, monkeypatch
    ):
        torch.save({"model": {"scale": torch.tensor(2.0)}}, tmp_path / "other.pth")
        with pytest.raises(WsisError, match='weights_sha256: "[0-9a-f]{64}" -> "[0-9a-f]{64}";'):
            cfg = make_cfg(data, unfinished, MODEL__WEIGHTS=str(tmp_path / "other.pth"))
            generate(cfg, resume=True)
        document = json.loads((data / "boxes.json").read_text())
        document["annotations"][0]["bbox"][0] += 1
        shutil.copytree(data, tmp_path / "other")
        write_json(tmp_path / "other", document)
        with pytest.raises(WsisError, match="source_sha256: "):
            generate(make_cfg(tmp_path / "other", unfinished), resume=True)
        monkeypatch.setattr(torch, "__version__", "9.9")
        with pytest.raises(WsisError, match='versions.torch: ".*" -> "9.9"'):
            generate(make_cfg(data, unfinished), resume=True)

    @pytest.mark.parametrize("resume", [False, True])
    @pytest.mark.parametrize("journals", [False, True])
    def test_a_finished_run_is_finished_at_once(
        self, data, tmp_path, expected, resume, journals, monkeypatch
    ):
        cfg = make_cfg(data, tmp_path / "out", PROXY__NUM_WORKERS=1)
        result = generate(make_cfg(data, tmp_path / "out"))
        if not journals:
            (tmp_path / "out/proxy/noise.rank0.jsonl").unlink()
        before = result.files[0].stat()
        monkeypatch.setattr(NoiseTeacher, "propose", None)
        assert generate(cfg, resume=resume) == result
        assert result.files[0].stat().st_mtime_ns == before.st_mtime_ns

    @pytest.mark.parametrize("content", ["{}", '{"info": {}, "images": []', "[]", '{"info": 3}'])
    def test_a_foreign_file_is_left_alone(self, data, tmp_path, content):
        (tmp_path / "out/proxy").mkdir(parents=True)
        path = tmp_path / "out/proxy/noise.json"
        path.write_text(content)
        for resume in (False, True):
            with pytest.raises(WsisError, match=r"proxy/noise\.json"):
                generate(make_cfg(data, tmp_path / "out"), resume=resume)
        assert path.read_text() == content

    def test_a_second_run_at_the_same_time_is_refused(self, data, unfinished):
        before = sorted(p.read_bytes() for p in (unfinished / "proxy").iterdir())
        with locked(unfinished / "proxy"):
            for resume in (False, True):
                with pytest.raises(WsisError, match="another run is writing"):
                    generate(make_cfg(data, unfinished), resume=resume)
        assert sorted(p.read_bytes() for p in (unfinished / "proxy").iterdir()) == before


class TestUnreadableImages:
    @pytest.mark.parametrize("method", ["NoiseTeacher", "FilledBox"])
    def test_fail_alone_and_are_tried_again(self, data, tmp_path, method, caplog):
        changes = {"MODEL__META_ARCHITECTURE": method}
        if method == "FilledBox":
            changes["MODEL__WEIGHTS"] = ""
        cfg = make_cfg(data, tmp_path / "out", **changes)
        kept = (data / "2.png").read_bytes(), (data / "5.png").read_bytes()
        (data / "2.png").write_bytes(kept[0][:200])
        (data / "5.png").unlink()
        result = generate(cfg)
        assert result.exit_status == 3
        assert result.failed == (str(data / "2.png"), str(data / "5.png"))
        assert "2.png: cannot be read" in caplog.text and "5.png: cannot be read" in caplog.text
        for a in read(result)["annotations"]:
            assert (a["status"] == "failed") == (a["image_id"] in (2, 5))
            if a["status"] == "failed" and a["id"] < 9000:
                x, y, w, h = a["bbox"]
                assert a["segmentation"] == encode_box([x, y, x + w, y + h], *SIZE)
                assert a["ignore_segmentation"] == a["segmentation"]
                assert a["score"] == 0
        assert generate(cfg) == result, "finished, and says so again"
        (data / "2.png").write_bytes(kept[0])
        result = generate(cfg, resume=True)
        assert result.failed == (str(data / "5.png"),)
        (data / "5.png").write_bytes(kept[1])
        result = generate(cfg, resume=True)
        assert result.exit_status == 0
        fresh = generate(make_cfg(data, tmp_path / "fresh", **changes))
        assert result.files[0].read_bytes() == fresh.files[0].read_bytes()

    def test_without_journals_cannot_be_tried_again(self, data, tmp_path):
        cfg = make_cfg(data, tmp_path / "out")
        (data / "5.png").unlink()
        result = generate(cfg)
        (tmp_path / "out/proxy/noise.rank0.jsonl").unlink()
        assert generate(cfg) == result
        with pytest.raises(WsisError, match="its journals are gone"):
            generate(cfg, resume=True)

    def test_of_another_size_end_the_run_before_it_starts(self, data, tmp_path):
        shutil.copy(data / "3.png", tmp_path / "3.png")
        document = json.loads((data / "boxes.json").read_text())
        document["images"][2]["height"] = 23
        shutil.copytree(data, tmp_path / "other")
        write_json(tmp_path / "other", document)
        with pytest.raises(DataError, match=r"3\.png: the image is 32x24 .* say 32x23"):
            generate(make_cfg(tmp_path / "other", tmp_path / "out"))
        assert not (tmp_path / "out").exists()


class TestTrueMasks:
    @pytest.fixture
    def masks(self, data: Path) -> dict[int, np.ndarray]:
        """All of image 1 and half of image 4 have masks, in three forms; 9001 is a crowd."""
        document = json.loads((data / "boxes.json").read_text())
        forms = iter(["polygon", "compressed", "counts"])
        masks = {}
        for a in document["annotations"]:
            if a["image_id"] == 1 or a["id"] == 103:
                mask = np.zeros(SIZE, dtype=bool)
                mask[5:9, 4:12] = True
                code: Any = encode_mask(mask)
                form = next(forms)
                if form == "polygon":
                    code = [[4, 5, 12, 5, 12, 9, 4, 9]]
                elif form == "counts":
                    flat = mask.T.ravel().astype(int)
                    edges = np.flatnonzero(np.diff(flat)) + 1
                    counts = np.diff([0, *edges, flat.size]).tolist()
                    code = {"size": list(SIZE), "counts": counts}
                a["segmentation"] = code
                masks[a["id"]] = mask
            elif a["image_id"] == 4:
                a["segmentation"] = []
        write_json(data, document)
        return masks

    def test_are_copied_and_the_teacher_makes_the_others(self, data, tmp_path, masks, monkeypatch):
        asked: dict[int, list[int]] = {}
        original = NoiseTeacher.propose

        def propose(self, batched_inputs):
            for inputs in batched_inputs:
                asked[inputs["image_id"]] = inputs["instances"].annotation_ids.tolist()
            return original(self, batched_inputs)

        monkeypatch.setattr(NoiseTeacher, "propose", propose)
        document = read(generate(make_cfg(data, tmp_path / "out", PROXY__KEEP_TRUE_MASKS=True)))
        assert set(masks) == {100, 111, 103}
        for a in document["annotations"]:
            assert (a["status"] == "given") == (a["id"] in masks)
            if a["id"] in masks:
                np.testing.assert_array_equal(decode_mask(a["segmentation"]), masks[a["id"]])
                assert a["score"] == 1.0
                assert "ignore_segmentation" not in a
        assert 1 not in asked, "no pass over an image whose masks are all given"
        assert asked[4] == [114]
        crowd = next(a for a in document["annotations"] if a["id"] == 9001)
        assert crowd["area"] == 3
        assert crowd["status"] == "crowd"

    def test_are_not_looked_at_by_default(self, data, tmp_path, masks):
        document = read(generate(make_cfg(data, tmp_path / "out")))
        assert {a["status"] for a in document["annotations"]} == {"ok", "crowd", "empty"}

    @pytest.mark.parametrize(
        "broken", [[[1, 2, 3]], [["a"] * 6], {"size": [1, 1], "counts": "1"}, "mask", 7]
    )
    def test_that_are_malformed_end_the_run_before_it_starts(self, data, tmp_path, masks, broken):
        document = json.loads((data / "boxes.json").read_text())
        next(a for a in document["annotations"] if a["id"] == 103)["segmentation"] = broken
        write_json(data, document)
        cfg = make_cfg(data, tmp_path / "out", PROXY__KEEP_TRUE_MASKS=True)
        for run in (generate, check_generation):
            with pytest.raises(DataError, match="annotation 103: key 'segmentation'"):
                run(cfg)
        assert not (tmp_path / "out").exists()

    def test_without_a_pixel_are_made_by_the_teacher(self, data, tmp_path, masks):
        document = json.loads((data / "boxes.json").read_text())
        next(a for a in document["annotations"] if a["id"] == 103)["segmentation"] = [[2] * 6]
        write_json(data, document)
        made = read(generate(make_cfg(data, tmp_path / "out", PROXY__KEEP_TRUE_MASKS=True)))
        assert next(a for a in made["annotations"] if a["id"] == 103)["status"] == "ok"

    def test_are_those_that_no_teacher_made(self, data, tmp_path, masks):
        first = generate(make_cfg(data, tmp_path / "out", PROXY__KEEP_TRUE_MASKS=True))
        shutil.copytree(data, tmp_path / "second")
        shutil.copy(first.files[0], tmp_path / "second" / "boxes.json")
        again = read(
            generate(make_cfg(tmp_path / "second", tmp_path / "o", PROXY__KEEP_TRUE_MASKS=True))
        )
        assert {a["id"] for a in again["annotations"] if a["status"] == "given"} == set(masks)


class TestMistakes:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"DATASETS__TRAIN": ()}, "DATASETS.TRAIN: found nothing"),
            ({"MODEL__WEIGHTS": ""}, "MODEL.WEIGHTS: found nothing"),
            ({"WSIS__NUM_THREADS": 0}, "WSIS.NUM_THREADS: found 0, expected at least 1"),
            ({"PROXY__NUM_WORKERS": -2}, "PROXY.NUM_WORKERS: found -2, expected at least -1"),
        ],
    )
    def test_in_the_config_are_found_before_anything_is_written(
        self, data, tmp_path, changes, message
    ):
        cfg = make_cfg(data, tmp_path / "out", **changes)
        with pytest.raises(ConfigError, match=message):
            generate_proxy_masks(cfg, build_model(cfg))
        assert not (tmp_path / "out").exists()

    def test_a_name_that_is_no_file_name(self, data, tmp_path):
        for name in ("a/b", ".hidden", "../out"):
            entry = [name, str(data / "boxes.json"), str(data)]
            cfg = make_cfg(
                data, tmp_path / "out", DATASETS__CUSTOM=[entry], DATASETS__TRAIN=(name,)
            )
            with pytest.raises(ConfigError, match="cannot be the name of a file"):
                generate(cfg)

    def test_a_model_that_is_no_teacher(self, data, tmp_path):
        with pytest.raises(ConfigError, match="MODEL.META_ARCHITECTURE: Linear is not a teacher"):
            generate_proxy_masks(make_cfg(data, tmp_path / "out"), torch.nn.Linear(1, 1))
        with pytest.raises(ConfigError, match="GeneralizedRCNN is not a teacher"):
            check_generation(
                make_cfg(data, tmp_path / "out", MODEL__META_ARCHITECTURE="GeneralizedRCNN")
            )

    def test_an_annotation_without_box(self, data, tmp_path):
        document = json.loads((data / "boxes.json").read_text())
        del document["annotations"][0]["bbox"]
        write_json(data, document)
        cfg = make_cfg(data, tmp_path / "out", WSIS__SUPERVISION="image")
        with pytest.raises(DataError, match="annotation 100: key 'bbox'"):
            generate(cfg)


class TestWriting:
    def test_a_folder_that_cannot_be_written(self, data, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(WsisError, match="file/proxy: Not a directory") as caught:
            generate(make_cfg(data, tmp_path / "file"))
        assert caught.value.exit_status == 2

    @pytest.mark.parametrize("room", [3_000, 8_000])
    def test_a_full_disk_keeps_what_is_finished(self, data, tmp_path, expected, room):
        """At 3,000 bytes the journal does not fit, at 8,000 the final file."""
        cfg = make_cfg(data, tmp_path / "out")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        try:
            with pytest.raises(
                WsisError, match="File too large; what is finished is kept"
            ) as error:
                generate(cfg)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "\n" not in str(error.value)
        assert str(tmp_path / "out/proxy") in str(error.value)
        names = {p.name for p in (tmp_path / "out/proxy").iterdir()}
        assert names == {".lock", "noise.rank0.jsonl"}
        assert generate(cfg, resume=True).files[0].read_bytes() == expected


class TestWorkers:
    def test_a_killed_worker_ends_the_run_which_can_be_continued(self, data, tmp_path, expected):
        cfg = make_cfg(data, tmp_path / "out", PROXY__NUM_WORKERS=2)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "kill-7").touch()
        with pytest.raises(WsisError, match="worker process .* has died") as caught:
            generate(cfg)
        assert "\n" not in str(caught.value)
        (tmp_path / "out" / "kill-7").unlink()
        assert generate(cfg, resume=True).files[0].read_bytes() == expected

    def test_an_error_in_a_worker_arrives(self, data, tmp_path):
        cfg = make_cfg(data, tmp_path / "out", PROXY__NUM_WORKERS=1)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "ids").touch()
        with pytest.raises(WsisError, match="made masks of annotations"):
            generate(cfg)

    def test_seeds_are_not_drawn_far_ahead(self, data):
        drawn = 0

        def seeds() -> Iterator[Seed]:
            nonlocal drawn
            for number in range(30):
                drawn += 1
                box = np.array([[0, 0, 5, 5]], dtype=np.float32)
                yield Seed(number, str(data / "1.png"), *SIZE, box, np.zeros(1), (number,))

        task = RefineTask(workers_test_refine, "minmax", 0, LabelFolder(data, ""))
        ahead = []
        lines = []
        for batch in refine_all(seeds(), task, 2, 1):
            lines.extend(json.loads(line)["image_id"] for line in batch)
            ahead.append(drawn - len(lines))
        assert sorted(lines) == list(range(30))
        assert max(ahead) <= 2 * 2

    def test_what_is_finished_beside_an_error_is_kept(self):
        good, bad, other = Future(), Future(), Future()
        good.set_result(b"1")
        bad.set_exception(ValueError("bad"))
        other.set_result(b"2")
        pending = {good, bad, other}
        assert sorted(_finished(pending, timeout=0)) == [b"1", b"2"]
        with pytest.raises(ValueError, match="bad"):
            _finished(pending, timeout=0)

    def test_have_the_wanted_number_of_threads(self, data):
        seed = Seed(1, str(data / "1.png"), *SIZE, np.array([[0, 0, 5, 5]]), np.zeros(1), (1,))
        with limited_threads(3):
            ((line,),) = refine_all(
                [seed], RefineTask(workers_test_refine, "minmax", 0, LabelFolder(data, "")), 1, 3
            )
        assert json.loads(line)["masks"][0]["score"] == 0.3
        assert "OMP_NUM_THREADS" not in os.environ or os.environ["OMP_NUM_THREADS"] != "3"

    def test_number(self, monkeypatch):
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
        assert [number_of_workers(n, 1) for n in (-1, 0, 3)] == [8, 0, 3]
        assert [number_of_workers(-1, ranks) for ranks in (2, 3, 20)] == [4, 2, 1]

    def test_end_when_their_main_process_is_killed(self, data, tmp_path):
        numbers = tmp_path / "out" / "pids"
        numbers.mkdir(parents=True)
        (tmp_path / "out" / "slow").touch()
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


def workers_test_refine(seed: Seed, image: np.ndarray) -> Any:
    """Says in the score how many threads there are."""
    crop = np.ones((1, 1), dtype=bool), 0, 0
    return ProxyMasks.from_crops(seed, [crop], scores=[torch.get_num_threads() / 10])


def test_progress_is_logged_where_there_is_no_terminal(monkeypatch, caplog):
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    with caplog.at_level("INFO"), progress.Progress("noise", 3, "images") as shown:
        for _ in range(3):
            shown.advance()
    lines = [record.message for record in caplog.records if "noise: " in record.message]
    assert [line.split(",")[0] for line in lines] == [f"noise: {i}/3 images" for i in (1, 2, 3)]
    assert "per second, ETA 0:00:00" in lines[-1]
    caplog.clear()
    with caplog.at_level("INFO"), progress.Progress("noise", 1, "images", shown=False) as silent:
        silent.advance()
    assert not caplog.records


def test_progress_is_a_bar_on_a_terminal(monkeypatch, caplog, capsys):
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with caplog.at_level("INFO"), progress.Progress("noise", 3, "images") as shown:
        shown.advance(2)
        shown.advance()
    assert "noise: 100%" in capsys.readouterr().err
    assert not caplog.records

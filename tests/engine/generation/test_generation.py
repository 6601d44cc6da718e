from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from pycocotools.coco import COCO

from tests.generating import generate, in_a_process, read
from tests.noise import SIZE, NoiseTeacher, make_cfg, make_opts, write_data, write_json
from wsis.engine.generation import check_generation, generate_proxy_masks
from wsis.engine.journal import find_journals
from wsis.errors import ConfigError, DataError, WsisError
from wsis.structures.rle import decode_mask, encode_box, encode_mask

ROOT = Path(__file__).resolve().parents[3]


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

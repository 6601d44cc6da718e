from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from pycocotools.coco import COCO

from tests.generating import by_id, edited, generate, outputs, read
from tests.noise import KINDS, SIZE, NoiseRefiner, NoiseTeacher, make_cfg, make_opts, write_data
from wsis.engine.generation import GenerationResult, check_generation, generate_proxy_masks
from wsis.engine.journal import find_journals
from wsis.errors import ConfigError, DataError, WsisError
from wsis.structures import ScoreMaps
from wsis.structures.rle import decode_mask, encode_box, encode_mask
from wsis.structures.score_maps import STRETCHED, read_score_maps

ROOT = Path(__file__).resolve().parents[3]
EVERY_KIND = pytest.mark.parametrize("kind", KINDS, indirect=True)


class TestFile:
    def test_has_one_annotation_per_source_annotation_and_says_what_it_was_made_with(
        self, data, tmp_path, run
    ):
        source = json.loads((data / "boxes.json").read_text())
        result = run()
        assert result == GenerationResult((tmp_path / "out" / "proxy" / "noise.json",), ())
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
        number = len(source["annotations"]) - 2
        statuses = Counter(a["status"] for a in document["annotations"])
        assert statuses == {"ok": number, "crowd": 1, "empty": 1}
        coco = COCO(str(result.files[0]))
        assert coco.annToMask(coco.anns[100]).sum() == coco.anns[100]["area"]
        info = document["info"]
        assert set(info) == {"description", "wsis"}
        assert info["wsis"]["method"] == "NoiseTeacher"
        assert info["wsis"]["config"]["WSIS.NUM_THREADS"] == 1
        assert str(tmp_path) not in result.files[0].read_text()

    def test_ignores_what_is_not_in_a_mask_or_nothing_was_found_in(self, run):
        made = by_id(run())
        found = [a for a in made.values() if a["status"] == "ok"]
        ignored = [a for a in found if "ignore_segmentation" in a]
        assert len(ignored) > len(found) / 2
        for a in ignored:
            mask, ignore = decode_mask(a["segmentation"]), decode_mask(a["ignore_segmentation"])
            assert not (mask & ignore).any()
        crowd, outside = made[9001], made[9002]
        assert crowd["segmentation"] == encode_box([1, 1, 9, 9], *SIZE)
        assert "ignore_segmentation" not in crowd
        assert outside["segmentation"] == encode_box([31, 2, 32, 7], *SIZE)
        assert outside["ignore_segmentation"] == outside["segmentation"]
        assert crowd["score"] == outside["score"] == 0

    def test_datasets_get_a_file_each(self, data, tmp_path, run):
        write_data(tmp_path / "more", images=3)
        places = {"noise": data, "second": tmp_path / "more"}
        entries = [[n, str(p / "boxes.json"), str(p)] for n, p in places.items()]
        result = run(DATASETS__CUSTOM=entries, DATASETS__TRAIN=("second", "noise", "second"))
        assert [path.name for path in result.files] == ["second.json", "noise.json"]
        numbers = [len(json.loads(path.read_text())["images"]) for path in result.files]
        assert numbers == [3, 12]

    def test_of_a_filled_box(self, run):
        document = read(run(MODEL__META_ARCHITECTURE="FilledBox", MODEL__WEIGHTS=""))
        assert document["info"]["wsis"]["weights_sha256"] is None
        for a in document["annotations"]:
            if a["status"] == "ok":
                x, y, w, h = a["bbox"]
                assert a["segmentation"] == encode_box([x, y, x + w, y + h], *SIZE)


class TestTeacher:
    def test_sees_no_mask_no_crowd_and_no_bad_box(self, run, seen):
        run(WSIS__SUPERVISION="mask")
        assert sorted(seen) == list(range(1, 12)), "image 12 has no box"
        fields = {"gt_boxes", "original_boxes", "gt_classes", "annotation_ids"}
        for inputs in seen.values():
            assert set(inputs["instances"].get_fields()) == fields
        assert not {9001, 9002} & set(seen[2]["instances"].annotation_ids.tolist())

    def test_may_make_score_maps_beside_masks(self, tmp_path, run, monkeypatch):
        refine = NoiseRefiner.__call__

        def with_maps(self, seed, image):
            masks = refine(self, seed, image)
            scores = np.full((1, 2, 2), seed.image_id)
            masks.score_maps = {"m": ScoreMaps([1], scores, *SIZE, STRETCHED)}
            return masks

        monkeypatch.setattr(NoiseRefiner, "__call__", with_maps)
        plain = run("plain", PROXY__NUM_WORKERS=1).files[0].read_bytes()  # a worker has no patch
        monkeypatch.setattr(NoiseTeacher, "map_names", ("m",))
        assert run().files[0].read_bytes() == plain
        maps = tmp_path / "out/score_maps/noise"
        assert (maps / "manifest.json").is_file() and len(list(maps.glob("m/*.npz"))) == 12
        assert read_score_maps(maps / "m/7.npz").scores.max() == 7
        assert not read_score_maps(maps / "m/12.npz").classes.size, "the image has no box"

    def test_is_left_in_the_mode_it_came_in_with_threads_as_before(self, data, tmp_path):
        cfg = make_cfg(data, tmp_path / "out", WSIS__NUM_THREADS=2)
        model = build_model(cfg).train()
        before = torch.get_num_threads()
        generate_proxy_masks(cfg, model)
        assert model.training
        assert torch.get_num_threads() == before

    @pytest.mark.parametrize(
        ("name", "message"), [("sem_seg", "pseudo labels"), ("ids", "made masks of annotations")]
    )
    def test_that_returns_something_else_is_refused(self, run, trap, name, message):
        trap(name)
        for workers in (0, 1):
            with pytest.raises(WsisError, match=message):
                run(PROXY__NUM_WORKERS=workers, resume=bool(workers))

    def test_that_returns_another_seed_is_refused(self, run, monkeypatch):
        original = NoiseTeacher.propose

        def propose(self, batched_inputs):
            (seed,) = original(self, batched_inputs)
            seed.annotation_ids = seed.annotation_ids[1:]
            return [seed]

        monkeypatch.setattr(NoiseTeacher, "propose", propose)
        with pytest.raises(WsisError, match="returned a seed of image 1"):
            run()


@EVERY_KIND
class TestSameBytes:
    def test_whatever_the_workers_also_as_a_resume_of_nothing(self, tmp_path, run, expected):
        run(resume=True, PROXY__NUM_WORKERS=2)
        assert outputs(tmp_path / "out") == expected

    def test_with_two_ranks_continued_by_one(self, data, tmp_path, kind, final, run, expected):
        output = tmp_path / "out"
        opts = make_opts(data, output, MODEL__META_ARCHITECTURE=kind)
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])  # same Detectron2
        done = subprocess.run(
            [sys.executable, str(ROOT / "tests/generate_noise.py"), "--num-gpus", "2", *opts],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert outputs(output) == expected
        journals = find_journals(output / "proxy", "noise")
        assert len(journals) == 2
        for journal in journals:
            lines = journal.read_bytes().splitlines(keepends=True)
            assert len(lines) == 1 + 12 // 2
            journal.write_bytes(b"".join(lines[:4]) + lines[4][:10])
        final.unlink()
        run(resume=True)
        assert outputs(output) == expected


class TestTrueMasks:
    @pytest.fixture
    def masks(self, data: Path) -> dict[int, np.ndarray]:
        """All of image 1 and half of image 4 have masks, in three forms; 9001 is a crowd."""
        mask = np.zeros(SIZE, dtype=bool)
        mask[5:9, 4:12] = True
        flat = mask.T.ravel().astype(int)
        counts = np.diff([0, *(np.flatnonzero(np.diff(flat)) + 1), flat.size]).tolist()
        polygon = [[4, 5, 12, 5, 12, 9, 4, 9]]
        forms = iter([polygon, encode_mask(mask), {"size": list(SIZE), "counts": counts}])
        masks = {}
        with edited(data) as document:
            for a in document["annotations"]:
                if a["image_id"] == 1 or a["id"] == 103:
                    a["segmentation"] = next(forms)
                    masks[a["id"]] = mask
                elif a["image_id"] == 4:
                    a["segmentation"] = []
        return masks

    def test_are_copied_and_the_teacher_makes_the_others(self, run, masks, seen):
        made = by_id(run(PROXY__KEEP_TRUE_MASKS=True))
        assert set(masks) == {100, 111, 103}
        for key, a in made.items():
            assert (a["status"] == "given") == (key in masks)
            if key in masks:
                np.testing.assert_array_equal(decode_mask(a["segmentation"]), masks[key])
                assert a["score"] == 1.0
                assert "ignore_segmentation" not in a
        assert 1 not in seen, "no pass over an image whose masks are all given"
        assert seen[4]["instances"].annotation_ids.tolist() == [114]
        assert made[9001]["area"] == 3
        assert made[9001]["status"] == "crowd"

    def test_are_not_looked_at_by_default(self, run, masks):
        assert {a["status"] for a in by_id(run()).values()} == {"ok", "crowd", "empty"}

    @pytest.mark.parametrize(
        "broken", [[[1, 2, 3]], [["a"] * 6], {"size": [1, 1], "counts": "1"}, "mask", 7]
    )
    def test_that_are_malformed_end_the_run_before_it_starts(self, data, tmp_path, masks, broken):
        with edited(data) as document:
            next(a for a in document["annotations"] if a["id"] == 103)["segmentation"] = broken
        cfg = make_cfg(data, tmp_path / "out", PROXY__KEEP_TRUE_MASKS=True)
        for work in (generate, check_generation):
            with pytest.raises(DataError, match="annotation 103: key 'segmentation'"):
                work(cfg)
        assert not (tmp_path / "out").exists()

    def test_without_a_pixel_are_made_by_the_teacher(self, data, run, masks):
        with edited(data) as document:
            next(a for a in document["annotations"] if a["id"] == 103)["segmentation"] = [[2] * 6]
        assert by_id(run(PROXY__KEEP_TRUE_MASKS=True))[103]["status"] == "ok"

    def test_are_those_that_no_teacher_made(self, data, tmp_path, run, masks):
        first = run(PROXY__KEEP_TRUE_MASKS=True)
        second = shutil.copytree(data, tmp_path / "second")
        shutil.copy(first.files[0], second / "boxes.json")
        again = by_id(run("o", source=second, PROXY__KEEP_TRUE_MASKS=True))
        assert {key for key, a in again.items() if a["status"] == "given"} == set(masks)


class TestMistakes:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"DATASETS__TRAIN": ()}, "DATASETS.TRAIN: found nothing"),
            ({"MODEL__WEIGHTS": ""}, "MODEL.WEIGHTS: found nothing"),
            ({"WSIS__NUM_THREADS": 0}, "WSIS.NUM_THREADS: found 0, expected at least 1"),
        ],
    )
    def test_in_the_config_are_found_before_anything_is_written(
        self, tmp_path, run, changes, message
    ):
        with pytest.raises(ConfigError, match=message):
            run(**changes)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("name", ["a/b", ".hidden", "../out"])
    def test_a_name_that_is_no_file_name(self, data, run, name):
        entry = [name, str(data / "boxes.json"), str(data)]
        with pytest.raises(ConfigError, match="cannot be the name of a file"):
            run(DATASETS__CUSTOM=[entry], DATASETS__TRAIN=(name,))

    def test_a_model_that_is_no_teacher(self, data, tmp_path):
        with pytest.raises(ConfigError, match="MODEL.META_ARCHITECTURE: Linear is not a teacher"):
            generate_proxy_masks(make_cfg(data, tmp_path / "out"), torch.nn.Linear(1, 1))
        keys: dict[str, Any] = {"MODEL__META_ARCHITECTURE": "GeneralizedRCNN"}
        with pytest.raises(ConfigError, match="GeneralizedRCNN is not a teacher"):
            check_generation(make_cfg(data, tmp_path / "out", **keys))

    def test_an_annotation_without_box(self, data, run):
        with edited(data) as document:
            del document["annotations"][0]["bbox"]
        with pytest.raises(DataError, match="annotation 100: key 'bbox'"):
            run()
        with pytest.raises(ConfigError, match="found 'image', expected box: NoiseTeacher"):
            run(WSIS__SUPERVISION="image")

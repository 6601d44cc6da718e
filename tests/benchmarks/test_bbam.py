"""BBAM's benchmark on a tiny detector: its rows, and the loop that it compares with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from benchmarks import bbam
from benchmarks.bbam import CURVE, agreement, benchmark_bbam
from benchmarks.bbam_generation import benchmark_bbam_generation
from benchmarks.bbam_memory import benchmark_bbam_memory
from tests.methods.bbam.tiny_detector import COMMON, SIZE, needs_crf
from wsis.config import load_cfg
from wsis.engine.trainer import WsisTrainer
from wsis.structures import ProxyMasks
from wsis.structures.rle import encode_mask

ROOT = Path(__file__).resolve().parents[2]


def _make_detector_and_data(tmp_path):
    """`bbam.yaml`, `w.pth`, `a.png` and `truth.json` with two boxes and their masks."""
    document = {"_BASE_": "", "MODEL": {**COMMON, "META_ARCHITECTURE": "BBAM"}}
    del document["_BASE_"]
    document["MODEL"]["BBAM"] = {**COMMON["BBAM"], "MIN_IOU": [0.0]}
    document["INPUT"] = {"MIN_SIZE_TEST": SIZE}
    config = tmp_path / "bbam.yaml"
    config.write_text(yaml.safe_dump(document))
    cfg = load_cfg(config)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 1
    torch.manual_seed(0)
    torch.save({"model": WsisTrainer.build_model(cfg).state_dict()}, tmp_path / "w.pth")
    pixels = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    mask[10:40, 10:40] = True
    boxes = [[10, 10, 30, 30], [20, 18, 30, 40]]
    source = {
        "images": [{"id": 1, "file_name": "a.png", "height": SIZE, "width": SIZE}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {
                "id": i,
                "image_id": 1,
                "category_id": 1,
                "bbox": box,
                "segmentation": encode_mask(mask),
            }
            for i, box in enumerate(boxes, 1)
        ],
    }
    (tmp_path / "truth.json").write_text(json.dumps(source))
    return config


@needs_crf
@pytest.mark.parametrize(("most_steps", "modes"), [(4, ["other", "short"]), (3, ["short"])])
def test_rows_of_speed_equality_and_agreement(tmp_path, monkeypatch, most_steps, modes):
    config = _make_detector_and_data(tmp_path)
    monkeypatch.setattr(
        bbam,
        "CURVE",
        {"other": {"SEED": 1}, "short": {"STEPS": 2, "MAX_POSITIVES": 2, "CONTEXT": 8}},
    )
    published = bbam.get_cfg()
    published.MODEL.BBAM.update(STEPS=4, NUM_PROPOSALS=8, MAX_POSITIVES=4)
    monkeypatch.setattr(bbam, "get_cfg", lambda: published)
    rows = benchmark_bbam(
        config=str(config),
        weights=str(tmp_path / "w.pth"),
        json=str(tmp_path / "truth.json"),
        images=str(tmp_path),
        truth=str(tmp_path / "truth.json"),
        boxes=2,
        most_steps=most_steps,
        plain_boxes=2,
        plain_steps=1,
        repeats=1,
        masks=2,
    )
    assert [row["way"] for row in rows[:3]] == [
        "plain loop",
        "one box at a time",
        "exact mode, 2 boxes at a time",
    ]
    assert rows[3]["value"] < 1e-9
    assert rows.pop(4)["value"] > 0.98
    assert [row["mode"] for row in rows[4:]] == ["exact", *modes]
    assert rows[4]["IoU with exact"] == rows[4]["times as fast"] == 1
    assert all(0 <= row["proxy mIoU"] <= 1 for row in rows[4:])


@needs_crf
@pytest.mark.parametrize(("how", "number"), [((9,), 2), ((9, 1), 1), ((1, 2), 1), ((9, 0, 2), 2)])
def test_boxes_are_taken_from_each_image_up_to_a_number(tmp_path, how, number):
    cfg = load_cfg(_make_detector_and_data(tmp_path), ["MODEL.WEIGHTS", str(tmp_path / "w.pth")])
    bench = bbam.Bench(cfg, str(tmp_path / "truth.json"), str(tmp_path), "", *how)
    assert bench.boxes == number == sum(len(each["instances"]) for each in bench.inputs)


@needs_crf
def test_generation_is_held_against_its_parts(tmp_path):
    config = _make_detector_and_data(tmp_path)
    *rows, least = benchmark_bbam_generation(
        config=str(config),
        weights=str(tmp_path / "w.pth"),
        json=str(tmp_path / "truth.json"),
        images=str(tmp_path),
        count=1,
        processes=1,
        workers=0,
    )
    assert [row["way"].split(",")[0] for row in rows] == [
        "explainer alone",
        "CRF alone",
        "generation",
    ]
    assert all(row["seconds"] > 0 for row in rows)
    if not torch.cuda.is_available():
        parts = rows[0]["CPU seconds"] + rows[1]["CPU seconds"]
        assert least["value"] == pytest.approx(rows[2]["seconds"] / parts)


@needs_crf
def test_memory_grows_with_the_boxes_that_are_explained_together():
    # A stock detector: the fresh process knows nothing that only the tests register.
    config = ROOT / "configs" / "BBAM" / "bbam_R_18_FPN_shapes_quickstart.yaml"
    rows = benchmark_bbam_memory(str(config), 128, 128, boxes=(1, 16), positives=2, steps=1)
    assert [row["boxes together"] for row in rows] == [1, 16]
    assert rows[1]["peak MiB"] > rows[0]["peak MiB"] > 0
    assert rows[1]["CPU seconds / step and box"] > 0


def test_two_empty_masks_agree_and_disjoint_ones_do_not():
    def of(*masks):
        return ProxyMasks.__new__(ProxyMasks), [encode_mask(m) for m in masks]

    left, right = np.zeros((2, 4, 4), dtype=bool)
    left[:, 0] = True
    right[:, 3] = True
    nothing = np.zeros((4, 4), dtype=bool)
    pairs = []
    for masks in ((left, nothing), (right, nothing)):
        each, codes = of(*masks)
        each.masks = codes
        pairs.append([each])
    assert agreement(*pairs) == 0.5
    assert agreement(pairs[0], pairs[0]) == 1


def test_every_point_of_the_curve_changes_keys_that_the_exact_mode_sets():
    assert all(set(changes) <= {*bbam.EXACT, "SEED"} for changes in CURVE.values())

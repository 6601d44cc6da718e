"""Proxy masks and pseudo labels of a whole dataset by BBAM: the same bytes whatever happens on the way."""

import json
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

from tests.generating import generate, in_a_process
from tests.masks import needs_crf
from tests.methods.bbam.tiny_detector import make_bbam, make_cfg
from tests.noise import SIZE, write_data, write_json
from wsis.data.registration import prepare_datasets
from wsis.engine import WsisCheckpointer
from wsis.engine.generation import generate_proxy_masks
from wsis.errors import ConfigError, DataError, WsisError
from wsis.structures.rle import decode_mask

pytestmark = needs_crf

IMAGES = 6


def bbam_cfg(data, output, *opts):
    weights = data / "weights.pth"
    cfg = make_cfg(
        "fpn",
        *("MODEL.META_ARCHITECTURE", "BBAM", "MODEL.WEIGHTS", weights, "OUTPUT_DIR", output),
        *("DATASETS.CUSTOM", [["noise", str(data / "boxes.json"), str(data)]]),
        *("DATASETS.TRAIN", "('noise',)", "DATASETS.BAD_BOX", "skip", "SEED", 1),
        *("MODEL.BBAM.STEPS", 2, "INPUT.MIN_SIZE_TEST", 48, "PROXY.SEM_SEG", True),
        *opts,
    )
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    return cfg


def loaded(cfg):
    model = build_model(cfg)
    WsisCheckpointer(model, strict=True).load(cfg.MODEL.WEIGHTS)
    return model


def contents(output):
    """All that a finished run leaves: the file and the labels."""
    files = sorted((Path(output) / "pseudo_labels").rglob("*.*"))
    files.append(Path(output) / "proxy" / "noise.json")
    return {str(path.relative_to(output)): path.read_bytes() for path in files}


@pytest.fixture
def data(tmp_path):
    """Six images, the last without boxes; and the detector's weights."""
    write_data(tmp_path / "data", IMAGES)
    torch.save({"model": make_bbam().state_dict()}, tmp_path / "data" / "weights.pth")
    return tmp_path / "data"


@pytest.fixture
def expected(data, tmp_path):
    generate(bbam_cfg(data, tmp_path / "expected"))
    return contents(tmp_path / "expected")


def label(output, number):
    with Image.open(output / f"pseudo_labels/noise/bbam/{number}.png") as image:
        return np.asarray(image)


def test_writes_masks_labels_and_a_manifest(data, tmp_path, expected):
    labels = {f"pseudo_labels/noise/bbam/{i}.png" for i in range(1, IMAGES + 1)}
    assert set(expected) == labels | {"pseudo_labels/noise/manifest.json", "proxy/noise.json"}
    document = json.loads(expected["proxy/noise.json"])
    manifest = json.loads(expected["pseudo_labels/noise/manifest.json"])
    assert manifest["wsis"] == document["info"]["wsis"]
    assert manifest["classes"] == ["background", "a", "b"]
    assert str(tmp_path) not in expected["proxy/noise.json"].decode()
    assert {"ok", "crowd", "empty"} <= {a["status"] for a in document["annotations"]}
    for annotation in document["annotations"]:
        if annotation["status"] in ("ok", "fallback"):
            ids = label(tmp_path / "expected", annotation["image_id"])
            assert (ids[decode_mask(annotation["segmentation"])] != 0).all()
    # what the teacher was not asked about is ignored
    crowd = next(a for a in document["annotations"] if a["status"] == "crowd")
    inside = decode_mask(crowd["segmentation"])
    assert (label(tmp_path / "expected", crowd["image_id"])[inside] != 0).all()
    assert not label(tmp_path / "expected", IMAGES).any(), "an image without boxes is background"
    assert label(tmp_path / "expected", 1).shape == SIZE, "sizes are the images' own"


def test_same_bytes_with_workers(data, tmp_path, expected):
    generate(bbam_cfg(data, tmp_path / "out", "PROXY.NUM_WORKERS", 2))
    assert contents(tmp_path / "out") == expected


def test_same_bytes_after_kills(data, tmp_path, expected):
    cfg, moment, counts = bbam_cfg(data, tmp_path / "out"), random.Random(4), []
    model = loaded(cfg)
    for _ in range(4):
        child = in_a_process(lambda: generate_proxy_masks(cfg, model, resume=True))
        time.sleep(moment.uniform(0.05, 0.3))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        journal = tmp_path / "out/proxy/noise.rank0.jsonl"
        counts.append(journal.read_bytes().count(b"\n") if journal.exists() else 0)
    assert counts == sorted(counts), "nothing is done twice"
    generate(cfg, resume=True)
    assert contents(tmp_path / "out") == expected


def test_a_lost_image_is_made_again_and_only_it(data, tmp_path, expected, monkeypatch):
    cfg = bbam_cfg(data, tmp_path / "out")
    generate(cfg)
    journal = tmp_path / "out/proxy/noise.rank0.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:3]) + lines[3][:-7])
    (tmp_path / "out/proxy/noise.json").unlink()
    for number in range(3, IMAGES + 1):
        (tmp_path / f"out/pseudo_labels/noise/bbam/{number}.png").unlink()
    model = loaded(cfg)
    asked, propose = [], model.propose
    monkeypatch.setattr(model, "propose", lambda x: asked.append(x[0]["image_id"]) or propose(x))
    generate_proxy_masks(cfg, model, resume=True)
    assert contents(tmp_path / "out") == expected
    assert asked == [3, 4, 5]


def test_a_label_that_is_gone_is_named(data, tmp_path):
    cfg = bbam_cfg(data, tmp_path / "out")
    generate(cfg)
    (tmp_path / "out/proxy/noise.json").unlink()
    (tmp_path / "out/pseudo_labels/noise/bbam/2.png").unlink()
    with pytest.raises(WsisError, match=r"2\.png: this pseudo label is gone"):
        generate(cfg, resume=True)


def test_labels_on_request_only_and_of_teachers_that_make_them(data, tmp_path):
    generate(bbam_cfg(data, tmp_path / "out", "PROXY.SEM_SEG", False))
    assert not (tmp_path / "out" / "pseudo_labels").exists()
    with pytest.raises(WsisError, match="PROXY.SEM_SEG: false -> true"):
        generate(bbam_cfg(data, tmp_path / "out"), resume=True)
    keys = ("MODEL.META_ARCHITECTURE", "FilledBox", "MODEL.WEIGHTS", "")
    with pytest.raises(ConfigError, match="PROXY.SEM_SEG: FilledBox makes no semantic labels"):
        generate(bbam_cfg(data, tmp_path / "other", *keys))


def test_images_that_would_share_a_label(data, tmp_path):
    document = json.loads((data / "boxes.json").read_text())
    (data / "1.png").rename(data / "2.jpg")
    document["images"][0]["file_name"] = "2.jpg"
    write_json(data, document)
    with pytest.raises(DataError, match=r"images '2\.jpg' and '2\.png' would have the same"):
        generate(bbam_cfg(data, tmp_path / "out"))
    assert not (tmp_path / "out").exists()

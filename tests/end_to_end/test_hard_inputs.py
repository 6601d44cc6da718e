"""Inputs as they really come, through the chain: proxy masks are made of them, and a student trained."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.hard import (
    DISC,
    FORMS,
    HEIGHT,
    WIDTH,
    teacher_words,
    write_forms,
    write_images,
    write_json,
)
from tests.tiny import write_config
from wsis.config import load_cfg
from wsis.data.build import build_train_loader
from wsis.data.registration import prepare_datasets
from wsis.structures.rle import decode_mask

Annotations = dict[int, dict[str, Any]]


@pytest.fixture
def generate(tmp_path, run) -> Callable[..., Annotations]:
    """``generate(data, method="GrabCut", status=0)``: the annotations of ``out/proxy/noise.json``, made again."""

    def made(data: Path, method: str = "GrabCut", status: int = 0, resume: bool = False):
        words = [*["--resume"][:resume], *teacher_words(data, tmp_path / "out", method)]
        assert run("generate_proxy_masks", *words) == (status, "")
        document = json.loads((tmp_path / "out/proxy/noise.json").read_text())
        return {annotation["id"]: annotation for annotation in document["annotations"]}

    return made


@pytest.fixture
def student(tmp_path, data) -> Callable[..., Path]:
    """``student(keys...)``: the config of a tiny Mask R-CNN that learns from those masks, two iterations."""

    def config(images: Path = data, **changes: Any) -> Path:
        keys = {"MODEL__MASK_ON": True, "WSIS__SUPERVISION": "proxy", "SOLVER__MAX_ITER": 2}
        keys |= {"SOLVER__IMS_PER_BATCH": 5, **changes}
        proxy = [["tiny", str(tmp_path / "out/proxy/noise.json"), str(images)]]
        return write_config(tmp_path / "s", images, DATASETS__CUSTOM=proxy, **keys)

    return config


@pytest.fixture
def train(run) -> Callable[[Path], None]:
    """``train(config)``: trains and looks at the losses."""

    def trained(config: Path) -> None:
        assert run("train_net", "--config-file", config) == (0, "")
        lines = (config.parent / "out/metrics.json").read_text().splitlines()
        losses = [json.loads(line)["total_loss"] for line in lines if "total_loss" in line]
        assert np.isfinite(losses).all()

    return trained


def batch_of(config: Path) -> Annotations:
    """The first batch by image id."""
    cfg = load_cfg(str(config), [])
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    return {inputs["image_id"]: inputs for inputs in next(iter(build_train_loader(cfg)))}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three ordinary images with one disc each, and ``boxes.json``."""
    names = write_images(tmp_path / "data", 3)
    write_json(tmp_path / "data", names, [(i, DISC) for i in (1, 2, 3)])
    return tmp_path / "data"


def test_every_form_of_image_is_read_as_its_plain_rgb(tmp_path, generate, student, train):
    """The proxy-mask files are equal byte by byte, and so are a student's batches."""
    batches, files = [], []
    for plain in (True, False):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        data = tmp_path / f"plain {plain}"
        names = write_forms(data, plain)
        write_json(data, names, [(i, DISC) for i in range(1, len(names) + 1)])
        made = generate(data)
        files.append((tmp_path / "out/proxy/noise.json").read_bytes())
        batches.append(batch_of(student(data)))
    assert files[0] == files[1]
    status = [a["status"] for a in made.values()]
    assert status == ["ok"] * len(FORMS), "GrabCut found the disc, so pixels mattered"
    for image_id, inputs in batches[0].items():
        twin = batches[1][image_id]
        assert torch.equal(inputs["image"], twin["image"])
        assert torch.equal(*(each["instances"].gt_masks.tensor for each in (inputs, twin)))
    train(tmp_path / "s/config.yaml")


def test_a_truncated_image_fails_alone_and_takes_no_part_in_training(
    data, generate, student, train
):
    whole = (data / "1.png").read_bytes()
    (data / "1.png").write_bytes(whole[: len(whole) // 2])
    failed = {i: a["status"] == "failed" for i, a in generate(data, status=3).items()}
    assert failed == {11: False, 12: True, 13: False}
    assert batch_of(student()).keys() <= {1, 3}
    train(student())
    (data / "1.png").write_bytes(whole)
    generate(data, resume=True)
    train(student())


@pytest.mark.parametrize("filtered", [True, False])
def test_an_image_without_boxes(data, generate, student, train, filtered):
    write_json(data, ["0.png", "1.png", "2.png"], [(1, DISC), (3, DISC)])
    assert list(generate(data)) == [11, 12]
    config = student(DATALOADER__FILTER_EMPTY_ANNOTATIONS=filtered)
    assert set(batch_of(config)) <= ({1, 3} if filtered else {1, 2, 3})
    train(config)


@pytest.mark.parametrize("images", [0, 2])
def test_an_empty_dataset(tmp_path, data, run, student, images):
    write_json(data, ["0.png", "1.png"][:images], [])
    outcome = run("generate_proxy_masks", *teacher_words(data, tmp_path / "out", "GrabCut"))
    text = (
        f"error: {data}/boxes.json: nothing to make masks for: there is no annotation; draw a box"
    )
    assert outcome[0] == 2 and outcome[1].startswith(text)
    config = write_config(tmp_path / "s", data)
    status, error = run("train_net", "--config-file", config)
    assert status == 2
    assert f"nothing to train on: found {images} images and 0 annotations" in error
    assert not (tmp_path / "s/out").exists() and not (tmp_path / "out").exists()


def test_crowds_get_no_mask_and_are_not_learned(data, generate, student, train):
    """Image 1 has a crowd beside an object, image 2 nothing else."""
    boxes = [(1, DISC), (1, [40.0, 30.0, 20.0, 15.0]), (2, DISC), (3, DISC)]
    write_json(data, ["0.png", "1.png", "2.png"], boxes, id12=1, id13=1)
    found = {i: (a["status"], a["iscrowd"]) for i, a in generate(data).items()}
    assert found == {11: ("ok", 0), 12: ("crowd", 1), 13: ("crowd", 1), 14: ("ok", 0)}
    batch = {i: len(inputs["instances"]) for i, inputs in batch_of(student()).items()}
    assert batch in ({1: 1, 3: 1}, {1: 1}, {3: 1})
    train(student())


TINY_BOXES = {
    "one pixel": [5.0, 5.0, 1.0, 1.0],
    "last pixel": [WIDTH - 1.0, HEIGHT - 1.0, 1.0, 1.0],
    "inside a pixel": [10.4, 10.4, 0.2, 0.2],
    "over a corner of four": [20.9, 20.9, 0.2, 0.2],
    "one column": [30.0, 4.0, 1.0, 20.0],
    "almost outside": [WIDTH - 0.3, 3.0, 9.0, 1.0],
}


@pytest.mark.parametrize("method", ["FilledBox", "InscribedEllipse", "GrabCut"])
def test_boxes_of_a_pixel(data, generate, student, train, method):
    write_json(data, ["0.png"], [(1, box) for box in TINY_BOXES.values()])
    made = generate(data, method)
    assert len(made) == len(TINY_BOXES)
    for annotation in made.values():
        x, y, width, height = annotation["bbox"]
        mask = decode_mask(annotation["segmentation"])
        rows, columns = np.nonzero(mask)
        assert 1 <= len(rows) == annotation["area"]
        assert x - 1 < columns.min() and columns.max() < x + width + 1
        assert y - 1 < rows.min() and rows.max() < y + height + 1
    train(student())


def test_a_proxy_file_whose_source_has_changed(tmp_path, data, run, generate):
    generate(data)
    proxy = tmp_path / "out/proxy/noise.json"
    made = proxy.read_bytes()
    shutil.copytree(data, tmp_path / "changed")
    moved = [DISC[0] + 5, *DISC[1:]]
    write_json(tmp_path / "changed", ["0.png", "1.png", "2.png"], [(1, DISC), (2, moved)])
    for words in ([], ["--resume"]):
        words += teacher_words(tmp_path / "changed", tmp_path / "out")
        status, error = run("generate_proxy_masks", *words)
        assert status == 2
        assert "made otherwise" in error and 'source_sha256: "' in error
    assert proxy.read_bytes() == made
    truth = json.loads(made)
    truth["annotations"][1]["bbox"] = moved
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    status, error = run("evaluate_proxy_masks", "--proxy", proxy, "--gt", tmp_path / "gt.json")
    assert status == 2
    assert "annotation 12" in error


class _Touch:
    """Pickled, it makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def test_weights_that_would_run_code(tmp_path, data, run):
    weights = tmp_path / "weights.pkl"
    weights.write_bytes(pickle.dumps({"model": _Touch(tmp_path / "ran")}))
    for tool, words in (
        ("train_net", ["--config-file", write_config(tmp_path / "s", data)]),
        ("train_net", ["--config-file", tmp_path / "s/config.yaml", "DATASETS.TEST", "('tiny',)"]),
        ("generate_proxy_masks", teacher_words(data, tmp_path / "out", "NoiseTeacher")),
    ):
        status, error = run(tool, *words, "MODEL.WEIGHTS", weights)
        assert status == 2
        opener = f"{open.__module__}.open"  # io's, from Python 3.12 on _io's
        assert f"{weights}: cannot be read (it refers to {opener}, and weights are read as" in error
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists() and not (tmp_path / "s/out").exists()


@pytest.mark.parametrize("name", ["train_net", "generate_proxy_masks", "quickstart"])
def test_yaml_that_would_run_code(tmp_path, run, name):
    path = tmp_path / "evil.yaml"
    path.write_text(f"MODEL: !!python/object/apply:builtins.open ['{tmp_path / 'ran'}', 'w']\n")
    words = ["--config-file", path]
    if name == "quickstart":
        words = ["--plan", path, "--output", tmp_path / "out"]
    status, error = run(name, *words)
    assert status == 2
    assert str(path) in error
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()

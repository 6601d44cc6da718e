"""``tools/generate_proxy_masks.py`` as a user calls it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.noise import make_opts, write_data

SIZES = "1.png: the image is 32x24 (width x height), the annotations say 33x24"
TAGS = {"MODEL__META_ARCHITECTURE": "NoiseTagTeacher", "WSIS__SUPERVISION": "image"}
NO_WEIGHTS = {"MODEL__META_ARCHITECTURE": "FilledBox", "MODEL__WEIGHTS": ""}


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Folder with five images and ``boxes.json``."""
    write_data(tmp_path / "noise", images=5)
    return tmp_path / "noise"


@pytest.fixture
def generate(run) -> Callable[..., tuple[int, str]]:
    return partial(run, "generate_proxy_masks")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The proxy-mask file."""
    return tmp_path / "out/proxy/noise.json"


def test_makes_masks_and_is_finished_at_once_the_second_time(tmp_path, noise, generate, made):
    opts = make_opts(noise, tmp_path / "out")
    assert generate(*opts) == (0, "")
    before = made.read_bytes()
    assert len(json.loads(before)["annotations"]) == 10
    assert generate(*opts) == (0, "")
    assert generate("--resume", *opts) == (0, "")
    assert made.read_bytes() == before


def test_an_unreadable_image_is_exit_status_3(tmp_path, noise, generate, made):
    kept = (noise / "2.png").read_bytes()
    (noise / "2.png").write_bytes(kept[:99])
    opts = make_opts(noise, tmp_path / "out", **NO_WEIGHTS)
    assert generate(*opts) == (3, "")
    annotations = json.loads(made.read_text())["annotations"]
    assert {a["image_id"] for a in annotations if a["status"] == "failed"} == {2}
    (noise / "2.png").write_bytes(kept)
    assert generate("--resume", *opts) == (0, "")


def test_other_settings_are_exit_status_2_and_named(tmp_path, noise, generate):
    assert generate(*make_opts(noise, tmp_path / "out"))[0] == 0
    status, error = generate("--resume", *make_opts(noise, tmp_path / "out", SEED=2))
    assert status == 2
    assert "SEED: 1 -> 2" in error


def test_an_unfinished_run_needs_resume(tmp_path, noise, generate, made):
    opts = make_opts(noise, tmp_path / "out", **NO_WEIGHTS)
    generate(*opts)
    before = made.read_bytes()
    made.unlink()
    status, error = generate(*opts)
    assert (status, "--resume" in error) == (2, True)
    assert generate("--resume", *opts) == (0, "")
    assert made.read_bytes() == before


def test_makes_labels_and_score_maps_of_tags_alone(tmp_path, noise, generate, made):
    for number in range(len(json.loads((noise / "boxes.json").read_text())["annotations"])):
        _spoil(noise, f"annotations bbox {number}", ...)
    opts = make_opts(noise, tmp_path / "out", **TAGS)
    kept = (noise / "2.png").read_bytes()
    (noise / "2.png").write_bytes(kept[:99])
    assert generate(*opts) == (3, "")
    (noise / "2.png").write_bytes(kept)
    assert generate("--resume", *opts) == (0, "")
    assert generate(*opts) == (0, "")
    assert not made.exists()
    assert len(list((tmp_path / "out/score_maps/noise/m").glob("*.npz"))) == 5
    assert len(list((tmp_path / "out/pseudo_labels/noise/y").glob("*.png"))) == 5


def _spoil(noise: Path, name: str, content: Any) -> None:
    """Another content, ``None`` is none; of ``boxes.json`` also the value of a key of its first or another item,
    ``annotations bbox 3``, which ``...`` removes.
    """
    if " " in name:
        kind, key, number = (*name.split(), 0)[:3]
        document = json.loads((noise / "boxes.json").read_text())
        document[kind][int(number)][key] = content
        if content is ...:
            del document[kind][int(number)][key]
        name, content = "boxes.json", json.dumps(document)
    if name == ".":
        shutil.rmtree(noise)
    elif content is None:
        (noise / name).unlink()
    else:
        (noise / name).write_text(content)


@pytest.mark.parametrize(
    ("name", "content", "changes", "message"),
    [
        (".", None, {}, "boxes.json: cannot be read"),
        ("boxes.json", None, {}, "boxes.json: cannot be read"),
        ("boxes.json", '{"images": [{"id": 1,', {}, "boxes.json: not valid JSON"),
        ("boxes.json", "[]", {}, "boxes.json: found a list"),
        ("annotations bbox", [1, 2, "x", 3], {}, "annotation 100: key 'bbox'"),
        ("annotations bbox", [90, 0, 5, 5], {"DATASETS__BAD_BOX": "error"}, "lies wholly outside"),
        ("annotations category_id", 77, {}, "annotation 100: key 'category_id'"),
        ("images width", 33, {}, SIZES),
        (
            "annotations segmentation",
            [["a"] * 6],
            {"PROXY__KEEP_TRUE_MASKS": True},
            "annotation 100",
        ),
        ("new", "", {"MODEL__WEIGHTS": "gone.pth"}, "MODEL.WEIGHTS: gone.pth"),
        ("new", "", {"MODEL__WEIGHTS": ""}, "MODEL.WEIGHTS: found nothing"),
        ("new", "", {"PROXY__NUM_WORKER": 1}, "did you mean PROXY.NUM_WORKERS"),
        ("new", "", {"PROXY__NUM_WORKERS": -5}, "PROXY.NUM_WORKERS: found -5"),
        ("images image_labels", [77], TAGS, "key 'image_labels': 77 is not among the categories"),
        ("images image_labels", 77, TAGS, "key 'image_labels': found 77, expected a list"),
        ("new", "", {**TAGS, "PROXY__KEEP_TRUE_MASKS": True}, "KEEP_TRUE_MASKS: found True, but"),
        ("new", "", {"DATASETS__CUSTOM_SCORE_MAPS": [["a"]]}, "CUSTOM_SCORE_MAPS: found ['a']"),
        ("new", "", {"DATASETS__TRAIN": ("nope",)}, "no dataset is named 'nope'"),
    ],
)
def test_mistakes_end_in_one_line_before_anything_is_written(
    tmp_path, noise, generate, name, content, changes, message
):
    opts = make_opts(noise, tmp_path / "out", **changes)
    _spoil(noise, name, content)
    status, error = generate(*opts)
    assert status == 2 and message in error
    assert not (tmp_path / "out").exists()


def test_weights_of_another_model_are_a_mistake_too(tmp_path, noise, generate):
    opts = make_opts(noise, tmp_path / "out")
    torch.save({"model": {"other": torch.tensor(1.0)}}, noise / "weights.pth")
    status, error = generate(*opts)
    assert status == 2 and "weights.pth: the weights do not match" in error
    assert not (tmp_path / "out").exists()

"""tools/explain.py as a user calls it."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

from tests.conftest import Ended
from tests.methods.bbam.tiny_detector import SIZE, make_cfg, make_image, make_view
from tests.tiny import write_dataset


@pytest.fixture
def folder(tmp_path):
    """A config file, weights and two images."""
    cfg = make_cfg("fpn", "MODEL.BBAM.STEPS", 4, "MODEL.BBAM.DEMO.SCORE_THRESHOLD", 0.6)
    (tmp_path / "config.yaml").write_text(cfg.dump())
    torch.save({"model": make_view().model.state_dict()}, tmp_path / "w.pth")
    for i in (1, 2):
        picture = Image.fromarray(make_image(i)).resize((2 * SIZE, 2 * SIZE))
        picture.save(tmp_path / f"image{i}.png")
    return tmp_path


@pytest.fixture
def explain(folder, tool) -> Callable[..., Ended]:
    """``explain(keys..., images="image1.png")``: how the tool ended."""

    def run(*keys, images="image1.png"):
        words = ["--config-file", folder / "config.yaml", "--input", folder / images]
        words += ["--output", folder / "out", "MODEL.WEIGHTS", folder / "w.pth", *keys]
        return tool("explain", *words)

    return run


def test_pictures_of_each_detection_of_each_image(folder, explain):
    status, out, _ = explain(images="image*.png")
    lines = out.splitlines()
    assert status == 0
    assert len(lines) == 2
    for number, line in zip((1, 2), lines, strict=True):
        count = int(line.split(": ")[1].split()[0])
        assert count > 0
        with Image.open(folder / f"out/image{number}.png") as picture:
            assert picture.size == (4 * SIZE, 2 * SIZE)
            right = np.asarray(picture)[:, 2 * SIZE :].astype(int)
        coloured = (right.max(2) - right.min(2)).max() > 30
        assert coloured, "a map has colour, the image beneath has none"
        gifs = sorted((folder / "out").glob(f"image{number}_*.gif"))
        assert len(gifs) == count
        assert {g.stem.split("_")[2] for g in gifs} <= {"class0", "class1"}
        with Image.open(gifs[0]) as gif:
            assert gif.size == (SIZE, SIZE) and gif.n_frames == 4


def test_with_bbams_config_and_a_one_stage_detector(folder, explain):
    torch.save({"model": make_view("retina").model.state_dict()}, folder / "w.pth")
    opts = [
        "MODEL.META_ARCHITECTURE",
        "BBAM",
        "MODEL.BBAM.STEPS",
        "2",
        "TEST.DETECTIONS_PER_IMAGE",
        "2",
    ]
    (folder / "config.yaml").write_text(make_cfg("retina", *opts).dump())
    status, out, _ = explain()
    assert status == 0 and "image1.png: 2 detections" in out
    assert len(list((folder / "out").glob("*.gif"))) == 2


def test_classes_have_the_datasets_names(folder, explain):
    write_dataset(folder / "data")
    entry = [["named", str(folder / "data/boxes.json"), str(folder / "data")]]
    keys = ("DATASETS.CUSTOM", entry, "DATASETS.TRAIN", "('named',)")
    explain("MODEL.ROI_HEADS.NUM_CLASSES", 0, *keys)
    assert {p.stem.split("_")[2] for p in (folder / "out").glob("*.gif")} <= {"wide", "tall"}


def test_nothing_found_leaves_the_image_alone(folder, explain):
    status, out, _ = explain("MODEL.BBAM.DEMO.SCORE_THRESHOLD", 0.999)
    assert status == 0 and "0 detections above 0.999" in out
    assert [p.name for p in (folder / "out").iterdir()] == ["image1.png"]


def test_an_unreadable_image_does_not_stop_the_others(folder, explain):
    (folder / "image1.png").write_bytes(b"no image")
    status, _, error = explain(images="image*.png")
    assert status == 3
    assert "unreadable: " in error and "image1.png: cannot be read as an image" in error
    assert (folder / "out" / "image2.png").exists()


def test_mistakes_are_named_before_any_work(folder, explain):
    (folder / "sub").mkdir()
    shutil.copy(folder / "image1.png", folder / "sub" / "image1.png")
    gone = [["gone", str(folder / "gone.json"), ""]]
    absent = (
        "MODEL.ROI_HEADS.NUM_CLASSES",
        0,
        "DATASETS.TRAIN",
        "('gone',)",
        "DATASETS.CUSTOM",
        gone,
    )
    for keys, images, message in (
        ((), "none*.png", "none*.png: no such file"),
        ((), "**/image1.png", "two images of one name"),
        (("MODEL.WEIGHTS", ""), "image1.png", "MODEL.WEIGHTS: found nothing"),
        (("MODEL.WEIGHTS", "gone.pth"), "image1.png", "gone.pth: no such file"),
        (("MODEL.BBAM.STEPS", 0), "image1.png", "MODEL.BBAM.STEPS: found 0"),
        (("MODEL.META_ARCHITECTURE", "FilledBox"), "image1.png", "found 'FilledBox'"),
        (absent, "image1.png", "without the dataset set MODEL.ROI_HEADS.NUM_CLASSES"),
    ):
        status, _, error = explain(*keys, images=images)
        assert status == 2 and error.startswith("error: ") and message in error
        assert not (folder / "out").exists()


def test_weights_of_the_plain_detector_are_what_it_takes(folder):
    cfg = make_cfg()
    assert list(build_model(cfg).state_dict()) == list(torch.load(folder / "w.pth")["model"])

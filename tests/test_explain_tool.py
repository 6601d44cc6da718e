"""tools/explain.py as a user calls it."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

from tests.methods.bbam.tiny_detector import SIZE, make_cfg, make_image, make_view
from tests.tiny import loggers_as_before, write_dataset
from wsis.errors import ConfigError, DataError, WsisError

__all__ = ["loggers_as_before"]

TOOL = Path(__file__).parents[1] / "tools" / "explain.py"


def run(monkeypatch, *arguments):
    """Calls the tool's main in this process."""
    spec = importlib.util.spec_from_file_location("explain_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["explain.py", *map(str, arguments)])
    return module.main()


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


def command(folder, *more, images="image*.png"):
    return [
        *("--config-file", folder / "config.yaml", "--input", folder / images),
        *("--output", folder / "out", "MODEL.WEIGHTS", folder / "w.pth", *more),
    ]


def test_pictures_of_each_detection_of_each_image(folder, monkeypatch, capsys):
    assert run(monkeypatch, *command(folder)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    for number, line in zip((1, 2), lines, strict=True):
        count = int(line.split(": ")[1].split()[0])
        assert count > 0
        with Image.open(folder / f"out/image{number}.png") as picture:
            assert picture.size == (4 * SIZE, 2 * SIZE)
            right = np.asarray(picture)[:, 2 * SIZE :].astype(int)
        assert (right.max(2) - right.min(2)).max() > 30, (
            "a map has colour, the image beneath has none"
        )
        gifs = sorted((folder / "out").glob(f"image{number}_*.gif"))
        assert len(gifs) == count
        assert {g.stem.split("_")[2] for g in gifs} <= {"class0", "class1"}
        with Image.open(gifs[0]) as gif:
            assert gif.size == (SIZE, SIZE) and gif.n_frames == 4


def test_with_bbams_config_and_a_one_stage_detector(folder, monkeypatch, capsys):
    torch.save({"model": make_view("retina").model.state_dict()}, folder / "w.pth")
    opts = (
        "MODEL.META_ARCHITECTURE",
        "BBAM",
        "MODEL.BBAM.STEPS",
        2,
        "TEST.DETECTIONS_PER_IMAGE",
        2,
    )
    (folder / "config.yaml").write_text(make_cfg("retina", *opts).dump())
    assert run(monkeypatch, *command(folder, images="image1.png")) == 0
    assert "image1.png: 2 detections" in capsys.readouterr().out
    assert len(list((folder / "out").glob("*.gif"))) == 2


def test_classes_have_the_datasets_names(folder, monkeypatch):
    write_dataset(folder / "data")
    entry = [["named", str(folder / "data/boxes.json"), str(folder / "data")]]
    keys = (
        "MODEL.ROI_HEADS.NUM_CLASSES",
        0,
        "DATASETS.CUSTOM",
        entry,
        "DATASETS.TRAIN",
        "('named',)",
    )
    run(monkeypatch, *command(folder, *keys, images="image1.png"))
    assert {p.stem.split("_")[2] for p in (folder / "out").glob("*.gif")} <= {"wide", "tall"}


def test_nothing_found_leaves_the_image_alone(folder, monkeypatch, capsys):
    keys = ("MODEL.BBAM.DEMO.SCORE_THRESHOLD", 0.999)
    assert run(monkeypatch, *command(folder, *keys, images="image1.png")) == 0
    assert "0 detections above 0.999" in capsys.readouterr().out
    assert [p.name for p in (folder / "out").iterdir()] == ["image1.png"]


def test_an_unreadable_image_does_not_stop_the_others(folder, monkeypatch, capsys):
    (folder / "image1.png").write_bytes(b"no image")
    assert run(monkeypatch, *command(folder)) == 3
    error = capsys.readouterr().err
    assert "unreadable: " in error and "image1.png: cannot be read as an image" in error
    assert (folder / "out" / "image2.png").exists()


def test_mistakes_are_named_before_any_work(folder, monkeypatch):
    (folder / "sub").mkdir()
    shutil.copy(folder / "image1.png", folder / "sub" / "image1.png")
    cases = [
        (command(folder, images="none*.png"), DataError, "none.* no such file"),
        (command(folder, images="**/image1.png"), DataError, "two images of one name"),
        (command(folder, "MODEL.WEIGHTS", ""), ConfigError, "MODEL.WEIGHTS: found nothing"),
        (command(folder, "MODEL.WEIGHTS", "gone.pth"), ConfigError, "gone.pth: no such file"),
        (command(folder, "MODEL.BBAM.STEPS", 0), ConfigError, "MODEL.BBAM.STEPS: found 0"),
        (command(folder, "MODEL.META_ARCHITECTURE", "FilledBox"), ConfigError, "found 'FilledBox'"),
        (
            command(
                folder,
                *("MODEL.ROI_HEADS.NUM_CLASSES", 0, "DATASETS.TRAIN", "('gone',)"),
                *("DATASETS.CUSTOM", [["gone", str(folder / "gone.json"), ""]]),
            ),
            WsisError,
            "without the dataset set MODEL.ROI_HEADS.NUM_CLASSES",
        ),
    ]
    for arguments, error, message in cases:
        with pytest.raises(error, match=message):
            run(monkeypatch, *arguments)
        assert not (folder / "out").exists()


def test_weights_of_the_plain_detector_are_what_it_takes(folder):
    cfg = make_cfg()
    assert list(build_model(cfg).state_dict()) == list(torch.load(folder / "w.pth")["model"])

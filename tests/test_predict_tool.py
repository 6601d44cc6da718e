"""tools/predict.py as a user calls it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image
from pycocotools.coco import COCO

from tests.generating import killed_while_writing
from tests.tiny import write_config, write_dataset
from wsis.config import load_cfg
from wsis.data.build import training_dicts
from wsis.data.registration import prepare_datasets
from wsis.data.source import load_source

HEAD = {"NAME": "SemSegFPNHead", "IN_FEATURES": ["p2", "p3"], "CONVS_DIM": 8, "NORM": ""}


def write_model(folder, **changes):
    """``config.yaml`` of a tiny model for the dataset in ``data``, and its weights as they are drawn."""
    config = write_config(folder, folder / "data", **changes)
    cfg = load_cfg(config)
    prepare_datasets(cfg, cfg.DATASETS.TRAIN)
    torch.save({"model": build_model(cfg).state_dict()}, folder / "w.pth")


def write_images(folder):
    """Grey, 16-bit, rotated, in a subfolder."""
    (folder / "sub").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert("L").save(folder / "a.png")
    cv2.imwrite(str(folder / "b.tif"), pixels.astype(np.uint16) * 200)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(folder / "sub/a.jpg", exif=exif)
    (folder / "notes.txt").write_text("no image")


@pytest.fixture
def folder(tmp_path):
    """A tiny Mask R-CNN, the dataset of its classes, and three images."""
    write_dataset(tmp_path / "data")
    write_model(tmp_path, MODEL__MASK_ON=True, WSIS__SUPERVISION="mask")
    write_images(tmp_path / "images")
    return tmp_path


@pytest.fixture
def predict(folder, tool) -> Callable[..., tuple[int, str, list[str]]]:
    """``predict(words..., output="out")``: exit status, output and errors of the tool."""

    def run(*more, output="out", images="images", opts=()):
        words = ["--config-file", folder / "config.yaml", "--output", folder / output]
        words += ["--input", folder / images, "--score-threshold", 0.3, *more]
        status, out, error = tool("predict", *words, "MODEL.WEIGHTS", folder / "w.pth", *opts)
        starts = ("error: ", "unreadable: ", "interrupted")
        return status, out, [line for line in error.splitlines() if line.startswith(starts)]

    return run


def document(folder) -> dict:
    """What is in ``predictions.json``."""
    return json.loads((folder / "out/predictions.json").read_text())


def same(folder, *names, other):
    """Whether files in ``out`` are those of another run."""
    pairs = [(folder / "out" / name, folder / other / name) for name in names]
    return all(made.read_bytes() == expected.read_bytes() for made, expected in pairs)


def test_a_file_that_trains_and_pictures(folder, predict):
    status, out, errors = predict()
    assert (status, errors) == (0, [])
    assert f"objects in 3 images below {folder / 'images'}" in out
    path, made = folder / "out/predictions.json", document(folder)
    images = [(i["file_name"], i["height"], i["width"]) for i in made["images"]]
    assert images == [("a.png", 40, 60), ("b.tif", 40, 60), ("sub/a.jpg", 60, 40)]
    assert made["categories"] == [{"id": 3, "name": "wide"}, {"id": 7, "name": "tall"}]
    assert str(folder) not in path.read_text()
    assert made["annotations"]
    for annotation in made["annotations"]:
        assert 0.3 <= annotation["score"] <= 1 and annotation["iscrowd"] == 0
        assert annotation["area"] > 0 and annotation["segmentation"]["counts"]
    for image in made["images"]:
        picture = folder / "out/overlays" / Path(image["file_name"]).with_suffix(".jpg")
        with Image.open(picture) as opened:
            assert opened.size == (image["width"], image["height"])
    coco = COCO(str(path))
    assert len(coco.anns) == len(made["annotations"])
    assert coco.annToMask(made["annotations"][0]).shape == (40, 60)
    assert load_source(path, folder / "images").has_masks
    entries = [["found", str(path), str(folder / "images")]]
    opts = ["DATASETS.CUSTOM", str(entries), "DATASETS.TRAIN", "('found',)"]
    for supervision in ("mask", "proxy", "box"):
        cfg = load_cfg(None, [*opts, "WSIS.SUPERVISION", supervision])
        prepare_datasets(cfg, cfg.DATASETS.TRAIN)
        annotations = [a for d in training_dicts(cfg) for a in d["annotations"]]
        assert len(annotations) == len(made["annotations"])


def test_an_unreadable_image_is_named_and_tried_again(folder, predict):
    image = (folder / "images/b.tif").read_bytes()
    (folder / "images/b.tif").write_bytes(image[:100])
    status, out, errors = predict()
    assert status == 3
    assert len(errors) == 1 and "b.tif: cannot be read as an image" in errors[0]
    assert "objects in 2 images" in out
    assert [i["file_name"] for i in document(folder)["images"]] == ["a.png", "sub/a.jpg"]
    (folder / "images/b.tif").write_bytes(image)
    assert predict("--resume")[0] == 0
    predict(output="anew")
    assert same(folder, "predictions.json", other="anew")


def test_a_run_that_was_cut_short_goes_on(folder, predict, monkeypatch):
    predict(output="whole")
    import wsis.data.images

    read, seen = wsis.data.images.read_image, []

    def cut_short(path, **options):
        seen.append(path)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return read(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(wsis.data.images, "read_image", cut_short)
        assert predict()[0] == 130
    assert not (folder / "out/predictions.json").exists()
    status, _, errors = predict()
    assert status == 2 and "continue them with --resume" in errors[0]
    assert predict("--resume")[0] == 0
    assert same(folder, "predictions.json", other="whole")
    status, _, errors = predict("--resume", "--score-threshold", 0.4)
    assert status == 2 and "score_threshold: 0.3 -> 0.4" in errors[0]


def test_half_a_picture_of_a_killed_run_is_removed_by_the_next(folder, predict):
    predict(output="whole")
    pictures = folder / "out/overlays/sub"

    def work():
        torch.set_num_threads(1)
        predict()

    assert killed_while_writing(".a.jpg.*", pictures, work).startswith(".a.jpg.")
    (pictures / ".a.jpg.mine").touch()
    assert predict("--resume")[0] == 0
    assert {path.name for path in pictures.iterdir()} == {"a.jpg", ".a.jpg.mine"}
    names = ("predictions.json", "overlays/sub/a.jpg", "overlays/b.jpg")
    assert same(folder, *names, other="whole")


def test_a_name_that_is_no_utf8_does_not_end_it(folder, predict):
    strange = os.fsencode(folder / "images") + b"/caf\xe9"
    os.mkdir(strange)
    (folder / "images/a.png").rename(os.fsdecode(strange + b"/a.png"))
    status, out, errors = predict(images=os.fsdecode(b"images/caf\xe9"))
    assert (status, errors) == (0, []) and r"caf\udce9" in out
    assert [image["file_name"] for image in document(folder)["images"]] == ["a.png"]


def test_its_own_pictures_are_no_input(folder, predict):
    predict(output="images/out")
    status, out, _ = predict("--resume", output="images/out")
    assert status == 0 and "in 3 images" in out


def test_a_detector_gives_boxes(folder, predict):
    write_model(folder)
    assert predict("--score-threshold", 0.0)[0] == 0
    annotations = document(folder)["annotations"]
    assert annotations and all("segmentation" not in a for a in annotations)


def test_a_semantic_model_gives_label_maps(folder, predict):
    opts = {f"MODEL__SEM_SEG_HEAD__{key}": value for key, value in HEAD.items()}
    write_model(folder, MODEL__META_ARCHITECTURE="SemanticSegmentor", **opts)
    assert predict()[0] == 0
    with Image.open(folder / "out/sem_seg/sub/a.png") as label:
        assert label.mode == "P" and label.size == (40, 60)
        assert set(np.unique(label)) <= {0, 1, 2}
    assert (folder / "out/overlays/sub/a.jpg").exists()
    assert document(folder)["annotations"] == []


def test_classes_from_a_list(folder, predict):
    (folder / "classes.txt").write_text("flat\nhigh\n")
    gone = [["gone", str(folder / "gone.json"), ""]]
    opts = ("DATASETS.CUSTOM", gone, "DATASETS.TRAIN", "('gone',)")
    status, _, errors = predict(opts=opts)
    assert status == 2 and "gone.json: cannot be read" in errors[0] and "--classes" in errors[0]
    assert predict("--classes", folder / "classes.txt", opts=opts)[0] == 0
    assert document(folder)["categories"] == [{"id": 1, "name": "flat"}, {"id": 2, "name": "high"}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": "nowhere/*.png"}, "no such file"),
        ({"images": "data/boxes"}, "no such file"),
        ({"opts": ("MODEL.WEIGHTS", "")}, "MODEL.WEIGHTS: found nothing"),
        ({"opts": ("MODEL.WEIGHTS", "gone.pth")}, "gone.pth"),
        ({"opts": ("MODEL.META_ARCHITECTURE", "FilledBox")}, "use tools/generate_proxy_masks.py"),
        ({"opts": ("MODEL.ROI_HEADS.NUM_CLASSES", 3)}, "MODEL.ROI_HEADS.NUM_CLASSES: found 3"),
        ({"more": ("--score-threshold", 1.5)}, "--score-threshold: found 1.5"),
        ({"more": ("--input", "")}, "found an empty name, expected a file"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(folder, predict, options, message):
    status, _, errors = predict(*options.pop("more", ()), **options)
    assert status == 2 and len(errors) == 1 and message in errors[0]
    assert not (folder / "out").exists()


def test_pictures_of_images_that_differ_in_the_suffix(folder, predict):
    for name in ("twins/a.bmp", "twins/a.png", "twins/a.bmp.jpg", "twins/b.png"):
        (folder / "twins").mkdir(exist_ok=True)
        Image.new("RGB", (40, 40)).save(folder / name)
    assert predict(images="twins")[0] == 0
    pictures = {path.name for path in (folder / "out/overlays").iterdir()}
    assert pictures == {"a.bmp.jpg", "a.png.jpg", "a.bmp.jpg.jpg", "b.jpg"}


def test_input_as_the_last_option_leaves_the_keys_alone(folder, tool):
    words = ["--config-file", folder / "config.yaml", "--output", folder / "out"]
    words += ["--input", folder / "images/a.png", "MODEL.WEIGHTS", folder / "w.pth"]
    assert tool("predict", *words).status == 0
    words[-3:] = ["MODEL.WEIGHTS", folder / "w.pth"]
    ended = tool("predict", *words)
    assert ended.status == 2 and "--input: expected at least one argument" in ended.err


def test_no_image_that_can_be_read_is_an_error(folder, predict):
    (folder / "broken").mkdir()
    (folder / "broken/a.png").write_bytes(b"no image")
    status, _, errors = predict(images="broken")
    assert status == 2 and "broken: none of 1 image can be read" in errors[-1]


def test_a_file_in_place_of_the_folder(folder, predict):
    (folder / "out").write_text("a file")
    status, _, errors = predict()
    assert status == 2 and str(folder / "out") in errors[0]
